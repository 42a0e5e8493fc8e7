"""Where a service under test keeps rows and blocks, and how many bytes it has stored."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.services.postgres import PostgresService
from tests.services.s3 import S3Service

DISK: Final = "sqlite-disk"
SEAWEEDFS: Final = "postgres-seaweedfs"
MINIO: Final = "postgres-minio"

ALL: Final = (
    DISK,
    pytest.param(SEAWEEDFS, marks=pytest.mark.needs("postgres", "seaweedfs")),
    pytest.param(MINIO, marks=pytest.mark.needs("postgres", "minio")),
)
"""Parameters for the fixture ``backend``."""

SHARED: Final = ALL[1:]
"""Those that several processes can use at a time."""


@dataclass(frozen=True)
class Backend:
    """A fresh database and a fresh place for blocks. None: what is embedded."""

    name: str
    folder: Path
    database: str | None = None
    service: S3Service | None = None
    postgres: PostgresService | None = None
    bucket: str = field(default_factory=lambda: f"e2e-{secrets.token_hex(6)}")

    @property
    def blocks(self) -> str | None:
        return None if self.service is None else self.service.bucket_url(self.bucket)

    @property
    def environment(self) -> dict[str, str]:
        return {} if self.service is None else s3_keys(self.service)

    @contextmanager
    def backup(self) -> Iterator[None]:
        """The database is restored at the end of the block as it was at its beginning, while
        no server runs; the blocks are not."""
        if self.database is None or self.postgres is None:
            data, saved = self.folder / "data", self.folder / "saved"
            shutil.copytree(data, saved, ignore=shutil.ignore_patterns("blocks"))
            yield
            for path in data.glob("filestore.sqlite3*"):
                path.unlink()
            shutil.copytree(saved, data, dirs_exist_ok=True)
            shutil.rmtree(saved)
        else:
            name = self.postgres.database_name(self.database)
            saved_url = self.postgres.make_database(template=name)
            yield
            self.postgres.replace_database(self.database, by=saved_url)
            self.postgres.drop_database(saved_url)

    def stored_bytes(self) -> int:
        """Bytes of all objects in the store, headers included."""
        if self.service is None:
            files = (self.folder / "data" / "blocks").rglob("*")
            return sum(path.stat().st_size for path in files if path.is_file())
        client = self.service.client()
        objects = client.list_objects(self.bucket, recursive=True)
        return sum(found.size or 0 for found in objects)


def s3_keys(service: S3Service) -> dict[str, str]:
    """The variables that give a service the keys of ``service``."""
    return {
        "FILESTORE_S3_ACCESS_KEY": service.access_key,
        "FILESTORE_S3_SECRET_KEY": service.secret_key,
    }


@contextmanager
def made(name: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend ``name``, on the servers of this pytest process."""
    if name == DISK:
        yield Backend(name, folder)
        return
    postgres: PostgresService = request.getfixturevalue("postgres_service")
    kind = "seaweedfs_service" if name == SEAWEEDFS else "minio_service"
    service: S3Service = request.getfixturevalue(kind)
    url = postgres.make_database()
    try:
        yield Backend(name, folder, url, service, postgres)
    finally:
        postgres.drop_database(url)
