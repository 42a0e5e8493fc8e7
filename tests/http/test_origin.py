"""Under which URL clients see the service: proxies are believed only where the settings say so."""

from typing import Any

import pytest
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request

from filestore.errors import BadHeader
from filestore.http.origin import known_origin, public_origin
from filestore.settings import Server

PROXY = "192.0.2.7"


def _origin(headers: dict[str, str], **wish: Any) -> str:
    request = make_mocked_request("GET", "/", headers={"Host": "inner:8080", **headers})
    return public_origin(request.clone(remote=PROXY), Server(**wish))


def test_without_a_setting_it_is_what_the_request_says() -> None:
    assert _origin({}) == "http://inner:8080"
    assert _origin({"Host": "[::1]:80"}) == "http://[::1]:80"


def test_the_setting_wins() -> None:
    wish = {"base_url": "https://files.example.org/x/", "trusted_proxies": [f"{PROXY}/32"]}
    assert _origin({"X-Forwarded-Host": "evil"}, **wish) == "https://files.example.org/x"


def test_who_is_not_trusted_is_not_believed() -> None:
    lies = {"Forwarded": "host=evil;proto=https", "X-Forwarded-Host": "evil"}
    assert _origin(lies) == "http://inner:8080"
    assert _origin(lies, trusted_proxies=["198.51.100.0/24", "::/0"]) == "http://inner:8080"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https"}, "https://a.example"),
        ({"X-Forwarded-Host": "evil, a.example"}, "http://a.example"),
        ({"Forwarded": 'for=1;Host="a.example:1";Proto=HTTPS'}, "https://a.example:1"),
        ({"Forwarded": "host=evil, host=a.example;proto=https"}, "https://a.example"),
        ({"Forwarded": "host=a.example", "X-Forwarded-Host": "evil"}, "http://a.example"),
        ({"X-Forwarded-Proto": "gopher"}, "http://inner:8080"),
        ({"Forwarded": ";;=,"}, "http://inner:8080"),
    ],
)
def test_a_trusted_proxy_is_believed(headers: dict[str, str], expected: str) -> None:
    assert _origin(headers, trusted_proxies=[f"{PROXY}/32"]) == expected


def _known(headers: dict[str, str], version: HttpVersion = HttpVersion11, **wish: Any) -> str:
    given = {"Host": "inner:8080", **headers}
    request = make_mocked_request("POST", "/", headers=given, version=version)
    return known_origin(request.clone(remote=PROXY), Server(**wish))


def test_a_location_is_absolute_where_nothing_stands_between() -> None:
    assert _known({}) == "http://inner:8080"
    assert _known({"Via": "x"}, base_url="https://a.example") == "https://a.example"
    forwarded = {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https"}
    assert _known(forwarded, trusted_proxies=[f"{PROXY}/32"]) == "https://a.example"


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in ("", "a b", "evil/x", "user@host", "a:99999", "a:1\x00")),
        *({"Via": "1.1 x"}, {"X-Forwarded-For": "1.2.3.4"}, {"X-Forwarded-Proto": "https"}),
        {"Forwarded": "host=evil"},
    ],
)
def test_a_location_is_relative_where_an_absolute_one_may_be_wrong(headers: dict[str, str]) -> None:
    assert _known(headers) == ""


def test_a_location_is_relative_for_who_speaks_http_1_0_as_a_proxy_may() -> None:
    assert _known({}, HttpVersion10) == ""


@pytest.mark.parametrize("host", ["a b", "a/b", 'a"b', "user@host", "a:x", "[::1", "é"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadHeader) as refused:
        _origin({"X-Forwarded-Host": host}, trusted_proxies=[f"{PROXY}/32"])
    assert refused.value.members["header"] == "Host"
