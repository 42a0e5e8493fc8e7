"""Webhooks without any I/O: where they may go, how they are signed, when they are repeated."""

import ast
import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from filestore.hooks.addresses import AddressPolicy
from filestore.hooks.schedule import ATTEMPTS, LONGEST_WISH_S, judge, pause_s
from filestore.hooks.sending import Answer
from filestore.hooks.signing import make_body, new_secret, sign
from filestore.meta.event_kinds import EVENT_KINDS, PING, unknown_kinds
from filestore.model import DeliveryState

ROOT = Path(__file__).parents[2]

INTERNAL = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "169.254.1.1", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
    *("168.63.129.16", "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"),
    *("fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1"),
    *("localhost", "", "1", "0x7f.1", "127.1"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("host", INTERNAL)
def test_internal_addresses_are_refused(host: str) -> None:
    assert not AddressPolicy().permits(host, encrypted=True)


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_are_reached_with_tls_alone(host: str) -> None:
    assert AddressPolicy().permits(host, encrypted=True)
    assert not AddressPolicy().permits(host, encrypted=False)


def test_allowed_networks_open_themselves_and_nothing_else() -> None:
    policy = AddressPolicy(["10.1.0.0/16", "fd00::/64"])
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7"):
        assert policy.permits(host, encrypted=False) and policy.permits(host, encrypted=True)
    for host in ("10.2.0.1", "127.0.0.1", "fd00:0:0:1::7", "169.254.169.254"):
        assert not policy.permits(host, encrypted=True)
    assert not policy.permits("8.8.8.8", encrypted=False)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/", "ftp://example.org/", "https://", "https:///x", "example.org", ""),
        *("https://user:secret@example.org/", "https://user@example.org/", "https://a\\@b/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]:8443/x"),
        *("https://169.254.169.254/latest/meta-data", "https://example.org/#part"),
        *("https://example.org:99999/", "https://exa mple.org/", "https://example.org/\r\nx: y"),
        *("https://exämple.org/", "https://example.org/" + "x" * 2000, "https://[::1", "file:///x"),
    ],
)
def test_urls_that_cannot_be_right_are_refused_at_once_and_not_repeated(url: str) -> None:
    complaint = AddressPolicy().complaint(url)
    assert complaint is not None
    assert "secret" not in complaint


def test_urls_of_names_are_taken_and_plain_ones_where_networks_are_open() -> None:
    assert AddressPolicy().complaint("https://hooks.example.org:8443/a?b=c") is None
    assert AddressPolicy(["10.0.0.0/8"]).complaint("http://ci.internal/hook") is None
    assert AddressPolicy(["10.0.0.0/8"]).complaint("http://10.1.1.1:9/hook") is None
    assert AddressPolicy(["10.0.0.0/8"]).complaint("http://192.168.1.1/hook") is not None


def test_an_independent_implementation_accepts_signatures_and_notices_changes() -> None:
    secret, older = new_secret(), new_secret()
    now = int(dt.datetime.now(dt.UTC).timestamp())
    body = make_body("file.written", 1_700_000_000_123_000, "grp_1", '{"path":"/ä"}')
    headers = dict(sign([secret, older], "evt_1", now, body))

    for key in (secret, older):
        found: Any = Webhook(key).verify(body, headers)
    assert found == {
        "type": "file.written",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "group": "grp_1",
        "data": {"path": "/ä"},
    }
    wrong: list[tuple[str, bytes, dict[str, str]]] = [
        (new_secret(), body, headers),
        (secret, body + b" ", headers),
        (secret, body, headers | {"webhook-id": "evt_2"}),
        (secret, body, headers | {"webhook-timestamp": str(now + 1)}),
    ]
    for key, data, sent in wrong:
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(data, sent)


def test_pauses_grow_to_hours_and_all_attempts_take_about_a_day() -> None:
    pauses = [pause_s(attempt, 0.0) for attempt in range(1, ATTEMPTS)]
    assert pauses == sorted(pauses) and pauses[0] == 10
    longest = sum(pause_s(attempt, 0.999) for attempt in range(1, ATTEMPTS))
    assert 18 * 3600 < sum(pauses) < longest < 25 * 3600
    assert pause_s(10**6, 0.5) < 10 * 3600


@pytest.mark.parametrize("code", [200, 201, 204, 299])
def test_2xx_is_done(code: int) -> None:
    assert judge(Answer(code, None, 5), 1, 0.0).state is DeliveryState.DONE


@pytest.mark.parametrize("code", [199, 301, 302, 307, 400, 404, 429, 500, 503, None])
def test_everything_else_is_repeated_until_the_last_attempt(code: int | None) -> None:
    answer = Answer(code, None if code else "no connection: ECONNREFUSED", 5)
    again = judge(answer, ATTEMPTS - 1, 0.0)
    assert (again.state, again.is_gone) == (DeliveryState.WAITING, False)
    assert again.error
    assert judge(answer, ATTEMPTS, 0.0).state is DeliveryState.FAILED


def test_410_ends_it_and_wishes_for_a_pause_are_respected_within_bounds() -> None:
    gone = judge(Answer(410, None, 5), 1, 0.0)
    assert (gone.state, gone.is_gone) == (DeliveryState.FAILED, True)
    for code in (429, 503):
        assert judge(Answer(code, None, 5, 120.0), 1, 0.0).pause_us == 120_000_000
        assert judge(Answer(code, None, 5, 1.0), 1, 0.0).pause_us == 10_000_000
        far = judge(Answer(code, None, 5, 1e12), 1, 0.0).pause_us
        assert far == LONGEST_WISH_S * 1e6
    assert judge(Answer(500, None, 5, 120.0), 1, 0.0).pause_us == 10_000_000


def _emitted() -> set[str]:
    """Every kind that the code emits: said in a call of ``emit``, or of what passes it on."""
    found = set()
    for path in [*(ROOT / "filestore").rglob("*.py"), *(ROOT / "gc").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("emit", "_tell"):
                found |= {
                    value.value
                    for value in node.args
                    if isinstance(value, ast.Constant) and isinstance(value.value, str)
                }
    return {word for word in found if re.fullmatch(r"[a-z]+\.[a-z]+", word)}


def test_every_kind_that_is_emitted_stands_in_the_table() -> None:
    acts = {"file.damage", "file.heal"}  # what the audit log calls them
    logged = {"journal.sealed", "journal.marked"}  # what is told in the process's log alone
    emitted = _emitted() - acts - logged
    assert len(emitted) > 20
    assert emitted <= set(EVENT_KINDS)


def test_kinds_can_be_looked_for_in_json_and_say_something() -> None:
    assert PING not in EVENT_KINDS
    for kind, said in EVENT_KINDS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z]+", kind), kind
        assert json.dumps(kind) == f'"{kind}"'
        assert said.sentence.endswith(".")


def test_groups_are_told_of_themselves_alone() -> None:
    assert unknown_kinds(["*", "file.written"], of_group=True) == []
    assert unknown_kinds(["user.created", "nothing"], of_group=True) == ["nothing", "user.created"]
    assert unknown_kinds(["user.created", "file.written"], of_group=False) == []
