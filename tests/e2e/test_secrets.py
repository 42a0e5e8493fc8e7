"""No secret is ever told: not in the most talkative log, not in an answer, not in figures."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy.engine import make_url

from filestore.ids import new_token
from tests.http.api import Api, RawConnection, Reply
from tests.services.s3 import S3Service
from tests.services.server import Server

PASSWORD = "hush-of-the-database"
SECRET_KEY = "FILESTORE_S3_SECRET_KEY"


@pytest.fixture
async def server(
    tmp_path: Path, postgres_url: str, seaweedfs_service: S3Service
) -> AsyncIterator[Server]:
    """On PostgreSQL and S3, both with secrets; it writes down all it can."""
    database = make_url(postgres_url).set(password=PASSWORD)
    made = Server(
        tmp_path / "data",
        database=database.render_as_string(hide_password=False),
        blocks=seaweedfs_service.bucket_url("secrets"),
        settings={"log.level": "debug", "blocks.retries": 0},
        environment={
            "FILESTORE_S3_ACCESS_KEY": seaweedfs_service.access_key,
            SECRET_KEY: seaweedfs_service.secret_key,
        },
    )
    yield made
    made.close()


async def test_no_token_key_or_password_reaches_a_log_an_error_or_the_metrics(
    server: Server, seaweedfs_service: S3Service, tmp_path: Path
) -> None:
    await asyncio.to_thread(server.start)
    token, revoked, invented = server.admin_token, "", new_token()
    answers: list[bytes] = []
    async with aiohttp.ClientSession() as session:
        api = Api(session, server.url, token)
        assert (await api.post("/api/v1/groups", {"name": "lab"})).status == 201
        made = await api.post("/api/v1/tokens", {"user": "admin", "name": "other"})
        revoked = made.json["token"]
        gone = await api.delete(f"/api/v1/tokens/{made.json['id']}")
        assert gone.status == 204
        answers += [_text(await call) for call in _calls(api, (token, revoked, invented))]
        for request in _broken(token):
            async with RawConnection(server.url) as raw:
                await raw.send(request)
                answers.append(await raw.reader.read())
        metrics = await api.get("/metrics")
        assert metrics.status == 200
        answers.append(_text(metrics))
    assert await asyncio.to_thread(server.stop) == 0
    _assert_silent(
        [token, revoked, invented, PASSWORD, seaweedfs_service.secret_key],
        {"log": server.log.encode(), **{f"answer {n}": text for n, text in enumerate(answers)}},
    )
    statuses = {
        json.loads(line).get("status") for line in server.log.splitlines() if line[:1] == "{"
    }
    assert statuses >= {200, 201, 204, 400, 401, 404, 405, 412, 413, 415}


def _calls(api: Api, tokens: tuple[str, ...]) -> Iterator[Awaitable[Reply]]:
    """Requests that work and that fail, with tokens where they belong and where they do not."""
    file = "/api/v1/groups/lab/files"
    yield api.put(f"{file}/a", data=b"x" * 1000)
    yield api.get(f"{file}/a")
    yield api.get(f"{file}/none")
    yield api.delete("/api/v1/groups")
    yield api.post("/api/v1/groups/lab/uploads")
    yield api.post("/api/v1/groups", data=b"{")
    yield api.patch("/api/v1/groups/lab", {"quota_bytes": 1000})
    yield api.put(f"{file}/b", data=b"x" * 10_000)
    yield api.put(f"{file}/c", data=b"x", headers={"Content-Encoding": "gzip"})
    for token in tokens:
        for path in (
            f"/{token}",
            f"/api/v1/groups/{token}",
            f"{file}/{token}",
            f"{file}/a%2F{token}",
        ):
            yield api.get(path)
        for query in (f"token={token}", token, f"limit={token}", f"version={token}"):
            yield api.get(f"/api/v1/groups?{query}")
            yield api.get(f"{file}/a?{query}")
        for value in (
            token,
            f"Basic {token}",
            f"Bearer {token} {token}",
            f"Bearer {token}x",
            f"Bearer {token}",
        ):
            yield api.get("/api/v1/groups/lab", headers={"Authorization": value})
        for name in ("X-Token", "Cookie", "If-Match", "Range", "Upload-Offset", "Content-Type"):
            yield api.get(f"{file}/a", headers={name: token})
        for name in ("X-Request-ID", "Expect", "Content-Encoding", "Upload-Metadata", "Host"):
            headers = {name: token, "Tus-Resumable": "1.0.0", "Upload-Length": "5"}
            yield api.post("/api/v1/groups/lab/uploads", headers=headers)
        yield api.get("/healthz", headers={token: "x"})
        for body in ({token: 1}, {"name": token, "quota_bytes": token}, {"name": 1, "x": token}):
            yield api.post("/api/v1/groups", body)
        yield api.post("/api/v1/tokens", {"user": token, "name": token, "scopes": [token]})
        yield api.call(token, "/healthz")


def _broken(token: str) -> list[bytes]:
    """Requests that the parser refuses, with the token in each part of them."""
    secret = token.encode()
    return [
        b"GET /" + secret + b" HTTP/9\r\n\r\n",
        secret + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + secret + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + b"\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + secret + b": " + b"x" * 140_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + secret * 2000,
        b"GET /" + secret * 2000 + b" HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + secret + b"\r\n\r\n",
        b"PUT /api/v1/groups/lab/files/d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + secret
        + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        + secret
        + b"\r\n",
    ]


def _text(reply: Reply) -> bytes:
    headers = "\n".join(f"{name}: {value}" for name, value in reply.headers.items())
    return headers.encode() + b"\n" + reply.body


def _assert_silent(secrets: list[str], texts: dict[str, bytes]) -> None:
    for secret in secrets:
        assert len(secret) > 12
        told = [where for where, text in texts.items() if secret.encode() in text]
        assert not told, f"{secret[:8]}… in {told}: {texts[told[0]]!r}"


async def test_a_start_that_fails_tells_no_secret_either(server: Server, tmp_path: Path) -> None:
    server._command[server._command.index("--database") + 1] = (
        f"postgresql+asyncpg://u:{PASSWORD}@127.0.0.1:1/x"
    )
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(server.start)
    _assert_silent([PASSWORD, server._environment[SECRET_KEY]], {"log": server.log.encode()})
    assert "127.0.0.1:1/x" in server.log
