"""Fills an empty database with a store's worth of rows, without the service and without bytes.

The rows are what the service would have written: every constraint holds (foreign keys are off
only while the rows come in), counters and journals agree, and fsck finds nothing. Two kinds of
blocks: those of versions have invented hashes; *orphans* are the blocks of small files whose
bytes :func:`file_bytes` gives again, so that an upload can meet a block that is being collected.
Their rows lie scattered among the others.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import make_url

from filestore.ids import Kind
from filestore.meta.database import open_database
from filestore.meta.tables import metadata
from filestore.model import GIB, KIB, MIB, ChunkerParams
from filestore_chunker import Cutter, Params, block_hash

DOMAIN: Final = "default"
USER: Final = "usr_bench"
STORE: Final = "sto_bench"
STREAMS: Final = 4
"""Groups that uploads go to, one for each stream, so that they do not wait for each other."""
SMALL: Final = ChunkerParams(KIB, 2 * KIB, 8 * KIB, 2)
FILE_SIZE: Final = 32 * KIB
"""Some 14 blocks of the small parameters: as many as an upload of real files records at once."""
QUOTA: Final = 2**50

WARM_PART: Final = 50

_GROUPS: Final = 100
_BLOCK_SIZES: Final = (MIB // 2, MIB, 2 * MIB, 4 * MIB)
_DAY_US: Final = 86_400_000_000
_AGE_US: Final = 30 * _DAY_US

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Shape:
    """How much is to be filled in. ``orphans``: how many in each round of collection."""

    blocks: int
    versions: int
    orphans: tuple[int, ...]
    seed: str


@dataclass(frozen=True)
class Round:
    """The orphans of one round: the ids of their blocks, and the files that they make up."""

    ids: Sequence[int]
    files: range


def file_bytes(seed: str, number: int) -> bytes:
    """The bytes of a small file, always the same."""
    return random.Random(f"{seed} {number}").randbytes(FILE_SIZE)


def upload_group(stream: int) -> str:
    return f"grp_upload_{stream}"


class Filling:
    """All rows of one shape, table by table."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._random = random.Random(f"fill {shape.seed}")
        self._now = time.time_ns() // 1000
        self._orphans: dict[int, tuple[bytes, int]] = {}
        self.rounds: list[Round] = []
        self._scatter()

    def __repr__(self) -> str:
        return f"<Filling of {self._shape}>"

    def tables(self) -> Iterator[tuple[str, Sequence[str], Iterator[Row]]]:
        """(table, columns, rows); rows are made while they are read, so memory stays small."""
        old = self._now - _AGE_US
        yield "domains", ["id", "created_at"], iter([(DOMAIN, old)])
        yield "users", ["id", "name", "name_key", "created_at"], iter([(USER, "b", "b", old)])
        mark = (1, STORE, 1, old)
        yield "instance", ["id", "store_id", "epoch", "created_at"], iter([mark])
        yield "blocks", _BLOCK_COLUMNS, self._blocks()
        yield "groups", _GROUP_COLUMNS, self._groups()
        yield "member_accounts", ["group_id", "user_id", "used"], self._accounts()
        yield "entries", _ENTRY_COLUMNS, self._entries()
        yield "contents", _CONTENT_COLUMNS, self._contents()
        yield "content_blocks", _REFERENCE_COLUMNS, self._references()
        yield "versions", _VERSION_COLUMNS, self._versions()
        yield "uploads", _UPLOAD_COLUMNS, self._uploads()
        yield "quota_journal", _JOURNAL_COLUMNS, self._journal()

    def _scatter(self) -> None:
        total = self._shape.blocks + sum(self._shape.orphans)
        ids = iter(self._random.sample(range(1, total + 1), sum(self._shape.orphans)))
        number = 0
        for count in self._shape.orphans:
            first, mine = number, list[int]()
            while len(mine) < count:
                for found in _cut(file_bytes(self._shape.seed, number))[: count - len(mine)]:
                    mine.append(next(ids))
                    self._orphans[mine[-1]] = found
                number += 1
            self.rounds.append(Round(sorted(mine), range(first, number)))

    def _blocks(self) -> Iterator[Row]:
        old, pick = self._now - _AGE_US, random.Random(f"blocks {self._shape.seed}")
        number = 0
        for block_id in range(1, self._shape.blocks + len(self._orphans) + 1):
            if (known := self._orphans.get(block_id)) is not None:
                hash, size = known
            else:
                hash, size = pick.randbytes(32), _block_size(number)
                number += 1
            generation = f"{pick.getrandbits(64):016x}"
            checked = old + pick.randrange(_AGE_US)
            shape = (size, size + 32, "plain", "live")
            yield (block_id, DOMAIN, hash, generation, *shape, old, old, checked)

    def _groups(self) -> Iterator[Row]:
        for group, size, count in self._taken():
            yield self._group(group, size, count)
        for stream in range(STREAMS):
            yield self._group(upload_group(stream), 0, 0)

    def _group(self, group: str, used: int, count: int) -> Row:
        names = (group, group, group, DOMAIN, QUOTA)
        return (*names, used, count, count, 30 * 86_400, self._now - _AGE_US)

    def _accounts(self) -> Iterator[Row]:
        for group, size, _ in self._taken():
            yield (group, USER, size)

    def _taken(self) -> Iterator[tuple[str, int, int]]:
        """(group, bytes, files): all of it is of one member."""
        used, counts = [0] * _GROUPS, [0] * _GROUPS
        for number in range(self._shape.versions):
            used[number % _GROUPS] += self._size(number)
            counts[number % _GROUPS] += 1
        for group, (size, count) in enumerate(zip(used, counts, strict=True)):
            yield _id("grp", group), size, count

    def _entries(self) -> Iterator[Row]:
        old = self._now - _AGE_US
        for group in range(_GROUPS):
            yield (
                _id("ent", -1 - group),
                _id("grp", group),
                None,
                "root",
                "",
                "",
                "",
                0,
                None,
                old,
            )
        for stream in range(STREAMS):
            root = _id("ent", -1 - _GROUPS - stream)
            yield (root, upload_group(stream), None, "root", "", "", "", 0, None, old)
        for number in range(self._shape.versions):
            group, name = number % _GROUPS, f"file {number}.bin"
            place = (_id("grp", group), _id("ent", -1 - group))
            yield (_id("ent", number), *place, "file", name, name, name, 1, 1, old)

    def _contents(self) -> Iterator[Row]:
        old, sizes = self._now - _AGE_US, (MIB // 2, MIB, 4 * MIB, 2)
        for number in range(self._shape.versions):
            public, size = _id("cnt", number), self._size(number)
            yield (number + 1, public, DOMAIN, "complete", size, bytes(32), *sizes, old, old)

    def _references(self) -> Iterator[Row]:
        ids = (
            block_id
            for block_id in range(1, self._shape.blocks + len(self._orphans) + 1)
            if block_id not in self._orphans
        )
        for content in range(self._shape.versions):
            offset = 0
            for number in self._numbers(content):
                size = _block_size(number)
                yield (content + 1, offset, size, next(ids))
                offset += size

    def _versions(self) -> Iterator[Row]:
        mime, old = "application/octet-stream", self._now - _AGE_US
        for number in range(self._shape.versions):
            names = (_id("ver", number), _id("ent", number), 1, number + 1)
            yield (*names, self._size(number), mime, USER, old)

    def _uploads(self) -> Iterator[Row]:
        old = self._now - _AGE_US
        for number in range(self._shape.versions):
            size, name = self._size(number), f"file {number}.bin"
            names = (_id("upl", number), _id("grp", number % _GROUPS), USER, "tus", number + 1)
            what = ("[]", name, "application/octet-stream", size, size, "done")
            yield (*names, *what, _id("ver", number), old, old, old, old)

    def _journal(self) -> Iterator[Row]:
        used, counts = [0] * _GROUPS, [0] * _GROUPS
        for number in range(self._shape.versions):
            group, size = number % _GROUPS, self._size(number)
            used[group] += size
            counts[group] += 1
            key = (_id("grp", group), counts[group], self._now - _AGE_US, USER, "charge")
            yield (*key, _id("ver", number), size, 0, used[group], 0)

    def _numbers(self, content: int) -> range:
        """Which of the blocks with invented hashes are a content's."""
        count, versions = self._shape.blocks, self._shape.versions
        return range(content * count // versions, (content + 1) * count // versions)

    def _size(self, content: int) -> int:
        return sum(map(_block_size, self._numbers(content)))


async def fill(url: str, shape: Shape) -> list[Round]:
    """Makes the schema and the rows; what is to be collected in each round."""
    await (await open_database(url)).close()
    filling = Filling(shape)
    if url.startswith("sqlite"):
        await asyncio.to_thread(_fill_sqlite, str(make_url(url).database), filling)
    else:
        await _fill_postgres(url, filling)
    return filling.rounds


async def queue(url: str, ids: Sequence[int]) -> None:
    """Asks the collector to look at the blocks, as the reaper does: at one in :data:`WARM_PART`
    now, and at the others in a run after that of now."""
    now = time.time_ns() // 1000
    rows = (
        (block, now, "released", now + _DAY_US * bool(number % WARM_PART), _id("grp", block % 100))
        for number, block in enumerate(ids)
    )
    columns = ["block_id", "not_before", "reason", "queued_at", "group_id"]
    if url.startswith("sqlite"):
        await asyncio.to_thread(_queue_sqlite, str(make_url(url).database), columns, rows)
        return
    connection = await connect(url)
    try:
        await connection.copy_records_to_table("gc_queue", records=rows, columns=columns)
    finally:
        await connection.close()


async def connect(url: str) -> Any:
    """A connection of the driver itself, for what SQLAlchemy has no words for."""
    return await asyncpg.connect(url.replace("+asyncpg", "", 1))


async def _fill_postgres(url: str, filling: Filling) -> None:
    connection = await connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")  # no foreign keys
        for table, columns, rows in filling.tables():
            await connection.copy_records_to_table(table, records=rows, columns=list(columns))
        for table in ("blocks", "contents"):
            sequence = f"pg_get_serial_sequence('{table}', 'id')"
            await connection.execute(f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _fill_sqlite(path: str, filling: Filling) -> None:
    with _sqlite(path) as connection:
        for table, columns, rows in filling.tables():
            connection.executemany(_insert(table, columns), rows)
    connection.close()


def _queue_sqlite(path: str, columns: Sequence[str], rows: Iterator[Row]) -> None:
    with _sqlite(path) as connection:
        connection.executemany(_insert("gc_queue", columns), rows)
    connection.close()


def _sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{GIB // KIB}")
    return connection


def _insert(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {metadata.tables[table].name} ({', '.join(columns)}) VALUES ({marks})"


def _cut(data: bytes) -> list[tuple[bytes, int]]:
    """(hash, size) of each block of a small file."""
    cutter = Cutter(Params(SMALL.min_size, SMALL.avg_size, SMALL.max_size, SMALL.level))
    cuts = [*cutter.feed(data), *cutter.finish()]
    return [(block_hash(cut.data), len(cut.data)) for cut in cuts]


def _block_size(number: int) -> int:
    return _BLOCK_SIZES[number % len(_BLOCK_SIZES)]


def _id(kind: Kind, number: int) -> str:
    """An id that looks as random as a real one: neighbours are not neighbours in an index."""
    mixed = (number % 2**64) * 0x9E3779B97F4A7C15 % 2**64
    return f"{kind}_{mixed:026x}"


_BLOCK_COLUMNS: Final = [
    *("id", "domain_id", "hash", "generation", "size", "stored_size", "codec", "state"),
    *("created_at", "state_at", "checked_at"),
]
_GROUP_COLUMNS: Final = [
    *("id", "name", "name_key", "domain_id", "quota_limit", "used", "files"),
    "journal_seq",
    *("trash_retention_s", "created_at"),
]
_ENTRY_COLUMNS: Final = [
    *("id", "group_id", "parent_id", "kind", "name", "name_key", "name_fold"),
    *("last_number", "current_number", "created_at"),
]
_CONTENT_COLUMNS: Final = [
    *("id", "public_id", "domain_id", "state", "size", "blake3"),
    *("min_size", "avg_size", "max_size", "level", "created_at", "completed_at"),
]
_REFERENCE_COLUMNS: Final = ["content_id", "byte_offset", "size", "block_id"]
_VERSION_COLUMNS: Final = [
    *("id", "entry_id", "number", "content_id", "size", "mime", "author_id", "created_at"),
]
_UPLOAD_COLUMNS: Final = [
    *("id", "group_id", "user_id", "protocol", "content_id", "folder", "name", "mime"),
    *("byte_offset", "length", "state", "version_id"),
    *("created_at", "changed_at", "expires_at", "expires_cap_at"),
]
_JOURNAL_COLUMNS: Final = [
    *("group_id", "seq", "at", "actor_id", "cause", "ref"),
    *("delta_used", "delta_reserved", "used_after", "reserved_after"),
]
