"""The S3 store against a service that misbehaves, byte for byte as told; then real ones."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from filestore.blocks import deadline
from filestore.blocks.backend import Backend
from filestore.blocks.deadline import put_deadline
from filestore.blocks.open import make_store
from filestore.blocks.port import MAX_OBJECT_SIZE
from filestore.errors import BlockDamaged, BlockMissing, StoreError, StoreFull, StoreUnavailable
from tests.contract.block_store import DOMAIN, make_bytes, make_key, paths
from tests.services.s3 import S3Service, minio

ACCESS_KEY, SECRET_KEY = "known-access-key", "hidden-secret-key"


def _answer(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _error(status: int, code: str, *headers: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return _answer(status, body, "Content-Type: application/xml", *headers)


@dataclass
class FakeService:
    """Answers each request with the next of ``answers``: raw bytes, or None for silence.

    ``HEAD`` on the bucket, with which a store opens, is always answered with success.
    """

    answers: list[bytes | None] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            while request := await self._read(reader):
                if request[0].startswith("HEAD"):
                    writer.write(_answer(200))
                    continue
                self.requests.append(request)
                self.arrived.set()
                answer = self.answers.pop(0)
                if answer is None:
                    await self.gate.wait()
                    answer = _answer(200)
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer or b"\r\n\r\n" not in answer:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in lines)}
        return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


@pytest.fixture
async def fake() -> AsyncIterator[FakeService]:
    service = FakeService()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, limit=2**20)
    service.port = server.sockets[0].getsockname()[1]
    yield service
    service.gate.set()
    server.close()
    if service.serving:
        await asyncio.wait(service.serving, timeout=10)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def _store(
    port: int, threads: ThreadPoolExecutor, *, timeout_s: float = 20.0, connections: int = 4
) -> Backend:
    return make_store(
        f"s3://127.0.0.1:{port}/bucket?secure=false",
        process_id="prc_test",
        threads=threads,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        timeout_s=timeout_s,
        connections=connections,
    )


@pytest.fixture
async def store(fake: FakeService, threads: ThreadPoolExecutor) -> AsyncIterator[Backend]:
    made = _store(fake.port, threads)
    await made.open()
    yield made
    await made.close()


NO_LENGTH = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbytes"

ANSWERS: list[tuple[str, bytes, type[StoreError], str]] = [
    ("slow down", _error(503, "SlowDown"), StoreUnavailable, "answered 503 SlowDown"),
    ("too many", _answer(429), StoreUnavailable, "answered 429"),
    ("internal", _error(500, "InternalError"), StoreUnavailable, "500 InternalError"),
    ("bad gateway", _answer(502, b"<html>"), StoreUnavailable, "answered 502"),
    ("redirect", _answer(301, b"", "Location: /"), StoreUnavailable, "answered 301"),
    ("denied", _error(403, "AccessDenied"), StoreUnavailable, "refuses the credentials"),
    ("signature", _error(403, "SignatureDoesNotMatch"), StoreUnavailable, "credentials"),
    ("clock", _error(403, "RequestTimeTooSkewed"), StoreUnavailable, "clocks differ"),
    ("changed", _error(400, "XAmzContentSHA256Mismatch"), StoreUnavailable, "400 XAmz"),
    ("no bucket", _error(404, "NoSuchBucket"), StoreUnavailable, "no such bucket"),
    ("strange 404", _answer(404, b"<html>no</html>"), StoreUnavailable, "answered 404"),
    ("insufficient", _answer(507), StoreFull, ""),
    ("storage full", _error(507, "XMinioStorageFull"), StoreFull, ""),
    ("quota", _error(400, "QuotaExceeded"), StoreFull, ""),
    ("not http", b"SSH-2.0-OpenSSH\r\n\r\n", StoreUnavailable, ""),
    ("hung up", b"HTTP/1.1 ", StoreUnavailable, ""),
]


@pytest.mark.parametrize("operation", ["put", "get"])
@pytest.mark.parametrize(
    ("answer", "error", "reason"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
async def test_a_refusal_becomes_the_right_error_and_says_why(
    fake: FakeService,
    store: Backend,
    operation: str,
    answer: bytes,
    error: type[StoreError],
    reason: str,
) -> None:
    key = make_key(b"x")
    fake.answers = [answer] * 3  # aiohttp asks again when a kept connection was closed
    with pytest.raises(error) as caught:
        await (store.put(key, [b"x"]) if operation == "put" else store.get(key))
    sentence = str(caught.value)
    assert reason in sentence
    if error is StoreUnavailable:
        assert f"127.0.0.1:{fake.port}/bucket" in sentence
    for secret in (ACCESS_KEY, SECRET_KEY, key.hash.hex(), key.generation):
        assert secret not in sentence


async def test_only_no_such_key_means_missing(fake: FakeService, store: Backend) -> None:
    fake.answers = [_error(404, "NoSuchKey")]
    with pytest.raises(BlockMissing):
        await store.get(make_key(b"x"))


async def test_the_wait_that_the_service_names_is_passed_on(
    fake: FakeService, store: Backend
) -> None:
    fake.answers = [_error(503, "SlowDown", "Retry-After: 7")]
    with pytest.raises(StoreUnavailable) as caught:
        await store.get(make_key(b"x"))
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_answer(200, b"half", "Connection: close", length=8), StoreUnavailable),
        (NO_LENGTH, StoreUnavailable),
        (_answer(206, b"part"), StoreUnavailable),
        (_answer(200, b"", "Connection: close", length=MAX_OBJECT_SIZE + 1), BlockDamaged),
        (_answer(200, b"", "Connection: close", length=10**15), BlockDamaged),
    ],
    ids=["short", "no length", "a part", "too large", "huge"],
)
async def test_a_broken_answer_gives_no_bytes(
    fake: FakeService, store: Backend, answer: bytes, error: type[StoreError]
) -> None:
    fake.answers = [answer] * 2
    with pytest.raises(error):
        await store.get(make_key(b"x"))


async def test_a_silent_service_is_given_up_in_time(
    fake: FakeService, threads: ThreadPoolExecutor
) -> None:
    store = _store(fake.port, threads, timeout_s=0.2)
    await store.open()
    fake.answers = [None, None]
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        await store.put(make_key(b"x"), [make_bytes(3_000_000)])
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        await store.get(make_key(b"x"))
    await store.close()


async def test_a_service_that_is_down_is_unavailable_from_open_on(
    threads: ThreadPoolExecutor,
) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    store, key = _store(port, threads), make_key(b"x")
    for call in (store.open(), store.put(key, [b"x"]), store.get(key), store.remove([key])):
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}/bucket"):
            await call
    for call in (store.check(), paths(store), store.read_identity()):  # type: ignore[assignment]
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}/bucket"):
            await call
    await store.close()


async def test_a_put_announces_its_length_and_signs_its_digest(
    fake: FakeService, store: Backend
) -> None:
    fake.answers = [_answer(200)]
    data, key = make_bytes(700_000), make_key(b"x")
    await store.put(key, [b"head", memoryview(data)])
    ((line, headers, body),) = fake.requests
    assert line == f"PUT /bucket/blocks/{key.path} HTTP/1.1"
    assert body == b"head" + data
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/")
    assert "transfer-encoding" not in headers
    assert headers["accept-encoding"] == "identity"


async def test_a_kept_connection_that_was_closed_is_replaced(
    fake: FakeService, store: Backend
) -> None:
    fake.answers = [_answer(200, b"", "X-Then: Connection: close"), _answer(200)]
    for _ in range(2):
        await store.put(make_key(b"x"), [b"bytes"])
    assert [body for _, _, body in fake.requests] == [b"bytes"] * 2


async def test_a_put_whose_turn_comes_too_late_sends_no_bytes(
    fake: FakeService, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(fake.port, threads, connections=1)
    await store.open()
    fake.answers = [None, _answer(200)]
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(deadline, "time", clock)
    first = asyncio.create_task(store.put(make_key(b"x"), [b"in time"]))
    await fake.arrived.wait()
    token = put_deadline.set(200.0)
    second = asyncio.create_task(store.put(make_key(b"x"), [b"too late"]))
    put_deadline.reset(token)
    await asyncio.wait([second], timeout=0.05)
    now[0] = 200.0
    fake.gate.set()
    await first
    with pytest.raises(StoreUnavailable):
        await second
    assert [body for _, _, body in fake.requests] == [b"in time"]
    await store.close()


async def test_a_bulk_removal_that_fails_in_part_is_an_error(
    fake: FakeService, store: Backend
) -> None:
    failed = b"<Error><Key>k</Key><Code>InternalError</Code><Message>m</Message></Error>"
    body = b"<DeleteResult>" + failed + b"</DeleteResult>"
    fake.answers = [_answer(200, body, "Content-Type: application/xml")]
    with pytest.raises(StoreUnavailable, match="1 objects not removed"):
        await store.remove([make_key(b"x"), make_key(b"y")])
    assert fake.requests[0][2].count(b"<Key>") == 2


async def test_a_listing_out_of_order_is_refused(fake: FakeService, store: Backend) -> None:
    names = (f"blocks/{DOMAIN}/00/b", f"blocks/{DOMAIN}/00/a")
    entries = "".join(
        f"<Contents><Key>{name}</Key><Size>1</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for name in names
    )
    head = "<Name>bucket</Name><IsTruncated>false</IsTruncated>"
    body = f"<ListBucketResult>{head}{entries}</ListBucketResult>"
    fake.answers = [_answer(200, body.encode(), "Content-Type: application/xml")]
    with pytest.raises(StoreUnavailable, match="lists out of order"):
        await paths(store)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"<ListBucketResult>"])
async def test_a_listing_that_is_no_listing_is_refused(
    fake: FakeService, store: Backend, body: bytes
) -> None:
    fake.answers = [_answer(200, body, "Content-Type: application/xml")] * 2
    with pytest.raises(StoreUnavailable):
        await paths(store)


@pytest.mark.parametrize("fixture", ["seaweedfs_service", "minio_service"])
async def test_real_services_refuse_wrong_keys(
    fixture: str, request: pytest.FixtureRequest, threads: ThreadPoolExecutor
) -> None:
    service: S3Service = request.getfixturevalue(fixture)
    service.client().make_bucket("closed")
    store = make_store(
        service.bucket_url("closed"),
        process_id="prc_test",
        threads=threads,
        access_key=service.access_key,
        secret_key="wrong-secret-key",
    )
    key = make_key(b"x")
    for call in (store.open(), store.put(key, [b"x"]), store.get(key), store.check()):
        with pytest.raises(StoreUnavailable, match="credentials"):
            await call
    await store.close()
    assert [item.object_name for item in service.client().list_objects("closed")] == []


@pytest.mark.parametrize("fixture", ["seaweedfs_service", "minio_service"])
async def test_a_bucket_that_vanished_is_not_taken_for_missing_blocks(
    fixture: str, request: pytest.FixtureRequest, threads: ThreadPoolExecutor
) -> None:
    service: S3Service = request.getfixturevalue(fixture)
    store, key = _on(service, "vanishing", threads), make_key(b"x")
    await store.open()
    service.client().remove_bucket("vanishing")
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        await store.get(key)
    await store.close()


async def test_a_service_killed_under_way_is_unavailable_and_nothing_hangs(
    threads: ThreadPoolExecutor,
) -> None:
    with minio() as service:
        store, keys = _on(service, "killed", threads), [make_key(b"%d" % n) for n in range(8)]
        await store.open()
        await store.put(keys[0], [b"x"])
        puts = [asyncio.create_task(store.put(key, [make_bytes(10**6)])) for key in keys]
        await asyncio.wait(puts, return_when=asyncio.FIRST_COMPLETED)
    ends = await asyncio.gather(*puts, return_exceptions=True)
    assert all(end is None or isinstance(end, StoreUnavailable) for end in ends)
    with pytest.raises(StoreUnavailable):
        await store.get(keys[0])
    await store.close()


def _on(service: S3Service, bucket: str, threads: ThreadPoolExecutor) -> Backend:
    return make_store(
        service.bucket_url(bucket),
        process_id="prc_test",
        threads=threads,
        access_key=service.access_key,
        secret_key=service.secret_key,
    )
