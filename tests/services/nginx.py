"""A real nginx in front of a service, with the configuration that we ship, or a worse one."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.services.needs import find_program, require
from tests.services.server import tied

SHIPPED: Final = Path(__file__).resolve().parents[2] / "config" / "nginx.conf"
_START_TIMEOUT_S: Final = 30.0
_AROUND: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""


@contextmanager
def nginx(folder: Path, upstream: str, changes: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of nginx in front of ``upstream`` (HOST:PORT).

    ``changes`` gives directives of the shipped configuration another value. It listens without
    TLS, on a free port.
    """
    program = find_program("nginx")
    require("nginx", program is not None)
    assert program is not None
    folder.mkdir()
    port = _free_port()
    config = folder / "nginx.conf"
    config.write_text(_config(folder, upstream, port, changes or {}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            tied([str(program), "-p", str(folder), "-e", str(folder / "log"), "-c", str(config)]),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _config(folder: Path, upstream: str, port: int, changes: Mapping[str, str]) -> str:
    text = SHIPPED.read_text()
    text = text.replace("server 127.0.0.1:8080;", f"server {upstream};")
    text = re.sub(r"\n +ssl_certificate\S* .*", "", text)
    text = re.sub(r"\n +listen \[::\].*", "", text)
    text = re.sub(r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};", text)
    for name, value in changes.items():
        text, count = re.subn(rf"(\n +{name}) [^;]*;", rf"\1 {value};", text)
        assert count == 1, f"{name} is there {count} times"
    user = "user root;" if os.geteuid() == 0 else ""
    return _AROUND.format(folder=folder, user=user, servers=text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.02)
