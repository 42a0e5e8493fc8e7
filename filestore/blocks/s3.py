"""Blocks as objects in a bucket of MinIO or any other S3 service.

Objects are signed with the ``minio`` SDK and moved with aiohttp's client on the event loop,
which keeps many transfers going without a thread each. What is rare (bucket, listings,
removals) runs on the SDK in worker threads. URLs are path-style. Errors name host and
bucket, never an object or a key.
"""

import asyncio
import datetime as dt
import hashlib
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import aiohttp
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.credentials.credentials import Credentials
from minio.datatypes import ListMultipartUploadsResult, Object
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.signer import sign_v4_s3
from yarl import URL

from filestore.blocks.backend import (
    IDENTITY_FOLDER,
    QUARANTINE_FOLDER,
    T,
    check_domain,
    is_domain,
    mark_folder,
    mark_name,
    mark_path,
    newest_mark,
    object_path,
    older_marks,
    quarantine_folder,
    quarantine_path,
)
from filestore.blocks.deadline import put_deadline, refuse_if_late
from filestore.blocks.port import (
    MAX_OBJECT_SIZE,
    BlockKey,
    Buffer,
    Leftover,
    LeftoverKind,
    StoredObject,
)
from filestore.blocks.s3_body import BlockBody
from filestore.blocks.s3_errors import find_code, refusal
from filestore.blocks.s3_location import S3Location
from filestore.errors import BlockDamaged, StoreUnavailable
from filestore.failpoints import reached
from filestore.model import KIB

CONNECT_TIMEOUT_S: Final = 5.0
_PAGE: Final = 1000  # what one listing answer holds at most: S3 API, ListObjectsV2
_MAX_ERROR_BODY: Final = 16 * KIB
_CHECK_NAME: Final = ".check"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_SDK_ERRORS: Final = (MinioException, urllib3.exceptions.HTTPError, OSError, ParseError, ValueError)


class S3Store:
    """A prefix of a bucket as a store.

    A put is signed with the SHA-256 of its bytes, so that the service refuses what was
    changed or cut on the way; over TLS, which already protects them, it is not computed.
    A cancelled put closes its connection; the service drops what is shorter than announced.
    """

    def __init__(
        self,
        location: S3Location,
        *,
        access_key: str,
        secret_key: str,
        threads: Executor,
        connections: int = 32,
        timeout_s: float = 60.0,
    ) -> None:
        self._location = location
        self._threads = threads
        self._connections = connections
        self._timeout_s = timeout_s
        self._credentials = Credentials(access_key, secret_key)
        self._tls = ssl.create_default_context() if location.secure else None
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
            retries=False,  # RetryingStore decides
            ssl_context=self._tls,
        )
        self._sdk = Minio(
            location.endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=location.secure,
            region=location.region,  # without it, the first signature asks the service for it
            http_client=self._pool,
        )
        self._session: aiohttp.ClientSession | None = None

    def __str__(self) -> str:
        return f"{self._location}/{self._location.prefix}"

    def __repr__(self) -> str:
        state = "closed" if self._session is None else "open"
        return f"<S3Store {self._location}/{self._location.prefix} {state}>"

    async def open(self) -> None:
        """Makes the bucket if it is missing. May be repeated after a failure."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._tls or False),
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout_s, sock_connect=CONNECT_TIMEOUT_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        await self._on_sdk(self._make_bucket)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._pool.clear()

    async def check(self) -> None:
        """Puts a small object over the last one: nothing else shows that there is room."""
        await self._put(_CHECK_NAME, [_CHECK_NAME.encode()])

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        """Nothing to do: an S3 service shows no object before it is whole."""
        return 0

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await self._put(object_path(key), parts)

    async def get(self, key: BlockKey) -> bytes:
        async with self._request("GET", object_path(key), _EMPTY_SHA256) as response:
            size = response.content_length
            if size is None:  # nothing would tell that it broke off
                raise StoreUnavailable(reason=f"{self._location} answered without a length")
            if size > MAX_OBJECT_SIZE:
                raise BlockDamaged(reason=f"the object has {size} bytes")
            return await response.read()

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        stored = await self.get(key)
        return await self._in_thread(partial(finish, stored))

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        await self._on_sdk(partial(self._remove, [object_path(key) for key in keys]))

    def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._walk(check_domain(domain) + "/", after)

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        """Copied by the service, then removed."""
        paths = [object_path(key) for key in keys]
        await self._on_sdk(partial(self._copy, paths, quarantine_folder(day)))
        reached("s3.copied")
        await self._on_sdk(partial(self._remove, paths))

    async def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        top = f"{QUARANTINE_FOLDER}/"
        async for found in self._walk(top, top + after if after else ""):
            yield StoredObject(found.path.removeprefix(top), found.size, found.written_at)

    async def remove_aside(self, paths: Sequence[str]) -> None:
        await self._on_sdk(partial(self._remove, [quarantine_path(path) for path in paths]))

    async def domains(self) -> list[str]:
        found = await self._on_sdk(lambda: list(self._list("", recursive=False)))
        names = [(item.object_name or "").split("/")[-2] for item in found if item.is_dir]
        return sorted(filter(is_domain, names))

    async def walk_leftovers(self) -> AsyncIterator[Leftover]:
        key = upload = None
        while True:
            page = await self._on_sdk(partial(self._multiparts, key, upload))
            for found in page.uploads:
                at = _microseconds(found.initiated_time)
                yield Leftover(LeftoverKind.MULTIPART, found.object_name, 0, at)
            key, upload = page.next_key_marker, page.next_upload_id_marker
            if not (page.is_truncated and key):
                return

    async def read_identity(self) -> tuple[str, int] | None:
        return newest_mark(await self._on_sdk(self._marks))

    async def write_identity(self, store_id: str, epoch: int) -> None:
        await self._put(f"{IDENTITY_FOLDER}/{mark_name(store_id, epoch)}", [])
        old = older_marks(await self._on_sdk(self._marks), epoch)
        await self._on_sdk(partial(self._remove, [f"{IDENTITY_FOLDER}/{name}" for name in old]))

    async def write_mark(self, kind: str, name: str) -> None:
        await self._put(mark_path(kind, name), [])

    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        top = f"{mark_folder(kind)}/"
        async for found in self._walk(top, top + after if after else ""):
            yield StoredObject(found.path.removeprefix(top), found.size, found.written_at)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        await self._on_sdk(partial(self._remove, [mark_path(kind, name) for name in names]))

    async def _put(self, path: str, parts: Sequence[Buffer]) -> None:
        deadline = put_deadline.get()
        refuse_if_late(deadline)
        body = BlockBody(parts, deadline)
        digest = _UNSIGNED if self._tls else await self._in_thread(body.sha256)
        async with self._request("PUT", path, digest, body) as response:
            await response.read()

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, digest: str, body: BlockBody | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One signed request, answered with success; all errors of aiohttp are translated."""
        if self._session is None:
            raise StoreUnavailable(reason=f"{self._location} is not open")
        url = self._url(path)
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=body,
                headers=self._signed(method, url, digest),
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    code = find_code(await response.content.read(_MAX_ERROR_BODY))
                    wait = response.headers.get("Retry-After")
                    raise refusal(str(self._location), response.status, code, retry_after=wait)
                yield response
        except TimeoutError as err:
            reason = f"{self._location} did not answer in time"
            raise StoreUnavailable(reason=reason) from err
        except (aiohttp.ClientError, OSError) as err:
            raise StoreUnavailable(reason=f"{self._location}: {_why(err)}") from err

    def _signed(self, method: str, url: str, digest: str) -> dict[str, str]:
        """The headers of a request, signature included. Costs 0.03 to 0.1 ms."""
        now = dt.datetime.now(dt.UTC)
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Host": self._location.endpoint,
            "x-amz-content-sha256": digest,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        }
        sign_v4_s3(
            method=method,
            url=urlsplit(url),
            region=self._location.region,
            headers=headers,
            credentials=self._credentials,
            content_sha256=digest,
            date=now,
        )
        return {"Accept-Encoding": "identity", **{name: str(headers[name]) for name in headers}}

    def _url(self, path: str) -> str:
        """Needs no quoting: domains, hashes, generations, marks and prefixes are plain ASCII."""
        return f"{self._location.origin}/{self._location.bucket}/{self._location.prefix}/{path}"

    def _make_bucket(self) -> None:
        bucket = self._location.bucket
        if self._sdk.bucket_exists(bucket):
            return
        try:
            self._sdk.make_bucket(bucket)
        except S3Error as err:
            if err.code != "BucketAlreadyOwnedByYou":  # another process was first
                raise

    async def _walk(self, folder: str, after: str) -> AsyncIterator[StoredObject]:
        listing = self._list(folder, after)
        last = after
        while page := await self._on_sdk(lambda: list(itertools.islice(listing, _PAGE))):
            for found in page:
                path = (found.object_name or "").removeprefix(f"{self._location.prefix}/")
                if path <= last:
                    raise StoreUnavailable(reason=f"{self._location} lists out of order")
                last = path
                yield StoredObject(path, found.size or 0, _microseconds(found.last_modified))

    def _list(
        self, folder: str, after: str = "", *, recursive: bool = True
    ) -> itertools.chain[Object]:
        prefix = self._location.prefix
        return itertools.chain(
            self._sdk.list_objects(
                self._location.bucket,
                f"{prefix}/{folder}",
                recursive=recursive,
                start_after=f"{prefix}/{after}" if after else None,
            )
        )

    def _multiparts(self, key: str | None, upload: str | None) -> ListMultipartUploadsResult:
        """One page of all in the bucket. MinIO answers only without a prefix, or with a name."""
        listed = self._sdk._list_multipart_uploads  # the SDK has no public way
        return listed(self._location.bucket, key_marker=key, upload_id_marker=upload)

    def _copy(self, paths: Sequence[str], folder: str) -> None:
        bucket, prefix = self._location.bucket, self._location.prefix
        for path in paths:
            try:
                source = CopySource(bucket, f"{prefix}/{path}")
                self._sdk.copy_object(bucket, f"{prefix}/{folder}/{path}", source)
            except S3Error as err:
                if err.code != "NoSuchKey":
                    raise

    def _marks(self) -> list[str]:
        found = self._list(f"{IDENTITY_FOLDER}/")
        return [(mark.object_name or "").rpartition("/")[2] for mark in found]

    def _remove(self, paths: Sequence[str]) -> None:
        names = [DeleteObject(f"{self._location.prefix}/{path}") for path in paths]
        failed = [  # nothing is sent before this iterates
            error
            for error in self._sdk.remove_objects(self._location.bucket, names)
            if error.code != "NoSuchKey"
        ]
        if failed:
            reason = f"{self._location}: {len(failed)} objects not removed ({failed[0].code})"
            raise StoreUnavailable(reason=reason)

    async def _on_sdk(self, job: Callable[[], T]) -> T:
        """The seam for the SDK: a worker thread, and its errors translated."""
        try:
            return await self._in_thread(job)
        except S3Error as err:
            raise refusal(str(self._location), 0, err.code or "") from err
        except _SDK_ERRORS as err:
            raise StoreUnavailable(reason=f"{self._location}: {_why(err)}") from err

    async def _in_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, job)


def _microseconds(at: dt.datetime | None) -> int:
    return 0 if at is None else int(at.timestamp() * 1_000_000)


def _why(err: Exception) -> str:
    """A reason without addresses of objects, which messages of the libraries contain."""
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return type(err).__name__
