"""Real S3 services for tests: SeaweedFS and MinIO as child processes, one of each per session.

A guard, a shell that reads a pipe which only this process holds, owns the service and its
folder. When the pipe closes, for whatever reason (also ``kill -9``), the guard kills the
service and removes the folder.
"""

import io
import json
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import urllib3
from minio import Minio
from minio.error import MinioException

from tests.services.needs import find_program, require

_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 30.0
_LOWEST_PORT: Final = 11_000
_HIGHEST_PORT: Final = 21_999
"""Below the ports that Linux gives out by itself (32768), also after adding 10000."""

_GRPC_OFFSET: Final = 10_000  # SeaweedFS speaks gRPC at each HTTP port plus this
_GUARD: Final = """
folder=$1; litter=$2; shift 2
"$@" >"$folder/log" 2>&1 &
service=$!
cat >/dev/null
kill -KILL "$service" 2>/dev/null
wait "$service" 2>/dev/null
rm -rf "$folder" $litter
"""


@dataclass(frozen=True, slots=True)
class S3Service:
    """A running service. ``url`` is ``s3://HOST:PORT``: append ``/BUCKET?secure=false``."""

    url: str
    access_key: str
    secret_key: str
    name: str
    folder: Path
    """Holds the service's data below ``data``, and its log."""

    @property
    def endpoint(self) -> str:
        return self.url.removeprefix("s3://")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def bucket_url(self, bucket: str, **options: str) -> str:
        """What ``--blocks`` takes for a bucket of this service."""
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        return f"{self.url}/{bucket}?secure=false{extra}"

    def client(self) -> Minio:
        """A client of the SDK that does not try again."""
        return Minio(
            self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region="us-east-1",
            http_client=urllib3.PoolManager(timeout=10.0, retries=False),
        )


@contextmanager
def seaweedfs() -> Iterator[S3Service]:
    """A SeaweedFS server with one volume folder, ready for buckets of a few GiB."""
    program = find_program("seaweedfs")
    require("seaweedfs", program is not None)
    assert program is not None
    master, volume, filer, s3 = _free_ports(4, offsets=(0, _GRPC_OFFSET))
    grpc = {"master": master, "volume": volume, "filer": filer, "s3": s3}
    litter = [f"/tmp/seaweedfs-{of}-grpc-{port + _GRPC_OFFSET}.sock" for of, port in grpc.items()]
    with _guarded("seaweedfs", s3, litter) as (service, run):
        config = service.folder / "s3.json"
        config.write_text(json.dumps(_seaweedfs_config(service)))
        (service.folder / "data").mkdir()
        run(
            [
                *(str(program), "server", f"-dir={service.folder / 'data'}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
                *("-s3", f"-s3.port={s3}", f"-s3.config={config}"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                *(f"-filer.localSocket={service.folder}/filer.sock",),
                *(f"-s3.localSocket={service.folder}/s3.sock",),
                *("-master.volumeSizeLimitMB=256", "-volume.max=1000"),
                "-master.telemetry=false",
            ]
        )
        _wait_until_ready(service)
        yield service


@contextmanager
def minio() -> Iterator[S3Service]:
    """A MinIO server on one folder."""
    program = find_program("minio")
    require("minio", program is not None)
    assert program is not None
    (port,) = _free_ports(1)
    with _guarded("minio", port) as (service, run):
        run(
            [
                "/usr/bin/env",
                *(f"MINIO_ROOT_USER={service.access_key}", "MINIO_BROWSER=off"),
                f"MINIO_ROOT_PASSWORD={service.secret_key}",
                *("CI=1", f"HOME={service.folder}"),
                *(str(program), "server", "--quiet", f"--address={service.endpoint}"),
                str(service.folder / "data"),
            ]
        )
        _wait_until_ready(service)
        yield service


@pytest.fixture(scope="session")
def seaweedfs_service() -> Iterator[S3Service]:
    """One SeaweedFS of this pytest process."""
    with seaweedfs() as service:
        yield service


@pytest.fixture(scope="session")
def minio_service() -> Iterator[S3Service]:
    """One MinIO of this pytest process."""
    with minio() as service:
        yield service


@contextmanager
def _guarded(
    name: str, port: int, litter: Sequence[str] = ()
) -> Iterator[tuple[S3Service, Callable[[Sequence[str]], None]]]:
    """A service to be, and what starts it; it ends with the block or with this process.

    ``litter`` is what it leaves outside its folder, whatever it is told.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"filestore-{name}-"))
    url, access_key = f"s3://127.0.0.1:{port}", secrets.token_hex(8)
    service = S3Service(url, access_key, secrets.token_hex(16), name, folder)
    guards: list[subprocess.Popen[bytes]] = []

    def run(command: Sequence[str]) -> None:
        guards.append(
            subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", folder, " ".join(litter), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for pytest, which then closes the pipe
            )
        )

    try:
        yield service, run
    finally:
        for guard in guards:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(_STOP_TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(service: S3Service) -> None:
    """Waits for a whole round trip: SeaweedFS takes connections before it can store."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    client = service.client()
    while True:
        try:
            _round_trip(client)
            return
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as err:
            if time.monotonic() > deadline:
                log = service.log[-4000:]
                raise RuntimeError(
                    f"{service.name} was not ready in {_START_TIMEOUT_S} s: {err}\n{log}"
                ) from err
            time.sleep(0.1)


def _round_trip(client: Minio) -> None:
    bucket, name, data = "ready", "probe", b"ready"
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    client.put_object(bucket, name, io.BytesIO(data), len(data))
    response = client.get_object(bucket, name)
    try:
        if response.read() != data:
            raise OSError("the service gave other bytes than it was given")
    finally:
        response.close()
        response.release_conn()


def _seaweedfs_config(service: S3Service) -> dict[str, object]:
    keys = {"accessKey": service.access_key, "secretKey": service.secret_key}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return {"identities": [{"name": "test", "credentials": [keys], "actions": actions}]}


def _free_ports(count: int, offsets: Sequence[int] = (0,)) -> list[int]:
    """Ports that are free now, also at each of ``offsets`` above them."""
    found: list[int] = []
    candidates = random.sample(range(_LOWEST_PORT, _HIGHEST_PORT), 1000)
    for port in candidates:
        if all(_is_free(port + offset) for offset in offsets):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"there are no {count} free ports up to {_HIGHEST_PORT}")


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False
