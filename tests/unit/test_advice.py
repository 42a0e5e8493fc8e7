"""What the doctor advises: something for each finding, for each proxy, in words that these know."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from filestore.client import doctor
from filestore.client.advice import ADVICE, CADDY, FILESTORE, NGINX, PROXIES, TRAEFIK
from tests.services.needs import find_program, require

KNOWN: Final = {
    CADDY: {
        "request_buffers": "reverse_proxy",
        "request_body": "request_body",
        "max_size": "request_body",
        "max_header_size": "global options, servers",
        "header_up": "reverse_proxy",
        "header_down": "reverse_proxy",
        "read_body": "global options, servers, timeouts",
        "protocols": "tls",
        "method": "request matchers",
        ":80": "addresses",
        "nothing": "reverse_proxy, defaults: it passes Host and sets X-Forwarded-*",
    },
    TRAEFIK: {
        "buffering": "middlewares, Buffering",
        "maxRequestBodyBytes": "middlewares, Buffering",
        "http.maxHeaderBytes": "EntryPoints",
        "transport.respondingTimeouts.readTimeout": "EntryPoints",
        "customRequestHeaders": "middlewares, Headers",
        "customResponseHeaders": "middlewares, Headers",
        "passHostHeader": "services, load balancers",
        "Method(": "routers, rules (v3)",
        "minVersion": "TLS options",
        "tls.certResolver": "routers",
    },
}
"""Where the documentation of each has what a line names."""

IN_LOCATION: Final = """
proxy_pass_request_headers off; proxy_set_header Upload-Offset 1; proxy_hide_header Location;
if ($request_method = PUT) { return 403; } limit_except GET { deny all; }
"""
"""What the lines that begin with "remove" name, as somebody may have written it."""


def _problems() -> Iterator[str]:
    """Names of the checks that can find a problem."""
    source = Path(doctor.__file__).read_text()
    for check, level in re.findall(r'_note\(\s*"([a-z-]+)", (\w+)', source):
        if level not in ("OK", "SKIPPED"):
            yield check
    for pair in re.findall(r'check = "([a-z-]+)" if \w+ else "([a-z-]+)"', source):
        yield from pair


def test_each_problem_has_advice_and_no_advice_is_for_nothing() -> None:
    assert set(_problems()) == set(ADVICE)


@pytest.mark.parametrize("check", ADVICE)
def test_what_a_proxy_may_cause_is_said_for_each_of_them(check: str) -> None:
    advice = ADVICE[check]
    assert set(advice) <= {*PROXIES, FILESTORE}
    assert not set(advice) & set(PROXIES) or set(PROXIES) <= set(advice)
    assert all(line.strip() for lines in advice.values() for line in lines)


@pytest.mark.parametrize("proxy", [CADDY, TRAEFIK])
def test_each_line_names_something_that_the_proxy_knows(proxy: str) -> None:
    lines = [line for advice in ADVICE.values() for line in advice.get(proxy, [])]
    for line in lines:
        assert any(word in line for word in KNOWN[proxy]), line
    for word in KNOWN[proxy]:
        assert any(word in line for line in lines), word


def test_nginx_takes_each_directive_that_is_advised(tmp_path: Path) -> None:
    program = find_program("nginx")
    require("nginx", program is not None)
    lines = [line for advice in ADVICE.values() for line in advice.get(NGINX, [])]
    directives = dict.fromkeys(found for line in lines for found in _directives(line))
    assert len(directives) > 10, directives
    server = "\n".join(one for one in directives if not one.startswith("listen"))
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off;\n"
        + "".join(f"{part}_temp_path {tmp_path}/{part};\n" for part in _TEMPORARY)
        + f"server {{ listen 8080; {server}\n location / {{ proxy_pass http://127.0.0.1:1;\n"
        + f"{IN_LOCATION} }} }} }}"
    )
    told = subprocess.run(
        [str(program), "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    named = " ".join(lines)
    for name in ("proxy_pass_request_headers", "proxy_hide_header", "limit_except"):
        assert name in named


_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _directives(line: str) -> list[str]:
    """Whole directives of a line that tells what to write."""
    return [] if line.startswith("remove") else re.findall(r"[a-z_]+ [^;]+;", line)
