"""Objects against rows: two sorted streams, merged; what is missing in one is looked at again.

Both streams are read a page at a time while uploads and collection go on, so a difference
between them is a suspicion. It is a finding when a second look, in the order in which rows and
objects come and go, shows it again:

- An object comes after its row, and goes before it; keys are never reused. So an object that
  is still there after its row was not, is an orphan.
- A live row always has its object. So a row that is live before and after its object was not
  to be read, is damaged.

Memory is that of a page of each stream, and of one batch of suspicions.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from filestore.blocks.backend import BlockFetcher
from filestore.blocks.header import decode, read_header
from filestore.blocks.port import BlockKey, BlockWalker, StoredObject, StoreSurveyor
from filestore.blocks.verified import VerifiedReader
from filestore.errors import BlockDamaged, BlockMissing
from filestore.meta import fsck
from filestore.meta.affected import Affected, affected_by_block
from filestore.meta.blocks import find_live
from filestore.meta.database import Database
from filestore.meta.healing import KnownBlock, find_block
from filestore.meta.processes import was_idle
from filestore.model import BlockState
from filestore_gc.fsck_report import Finding, Findings, Kind, Note, NoteKind
from filestore_gc.heal import find_fault, key_of, parse_path

PAGE: Final = 1000
"""Rows read at once: as many as one answer of an S3 listing has."""
BATCH: Final = 100
"""Suspicions looked at again together."""
_EXAMPLES: Final = 10


class ObjectStore(BlockFetcher, BlockWalker, StoreSurveyor, Protocol):
    """What of a store is needed to hold its objects against rows."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An object, a row, or both, that seem not to fit."""

    kind: Kind
    object: StoredObject | None
    block: KnownBlock | None
    key: BlockKey


Pair = tuple[StoredObject | None, KnownBlock | None]


async def merge(
    objects: AsyncIterator[StoredObject], rows: AsyncIterator[KnownBlock]
) -> AsyncIterator[Pair]:
    """Both streams, which ascend by path, in one: pairs, and what only one of them has.

    Holds one item of each.
    """
    found = await anext(objects, None)
    row = await anext(rows, None)
    while found is not None or row is not None:
        path = key_of(row).path if row is not None else None
        if row is None or (found is not None and path is not None and found.path < path):
            yield found, None
            found = await anext(objects, None)
        elif found is None or (path is not None and path < found.path):
            yield None, row
            row = await anext(rows, None)
        else:
            yield found, row
            found, row = await anext(objects, None), await anext(rows, None)


def suspect(found: StoredObject | None, row: KnownBlock | None) -> Kind | None:
    """What seems wrong with a pair. Only live blocks need their object, and all of it."""
    if row is None:
        return Kind.ORPHAN
    if row.state is BlockState.LOST:
        return None if found is None else Kind.READABLE
    if row.state is not BlockState.LIVE:
        return None
    if found is None:
        return Kind.MISSING
    return Kind.WRONG_SIZE if found.size != row.stored_size else None


@dataclass
class ObjectCheck:
    """Holds all objects of a store against the rows of a database. ``on_page``: called each
    time when as many as a page have been looked at; ``on_pair``: with each object and row of a
    domain, as they are seen first."""

    db: Database
    store: ObjectStore
    findings: Findings
    page: int = PAGE
    on_page: Callable[[], None] = lambda: None
    on_pair: Callable[[str, StoredObject | None, KnownBlock | None], None] = lambda *_: None
    objects: int = 0
    object_bytes: int = 0
    blocks: int = 0
    _foreign: int = 0
    _foreign_bytes: int = 0
    _examples: list[str] = field(default_factory=list)
    _suspicions: list[Suspicion] = field(default_factory=list)
    _pairs: int = 0

    async def run(self) -> None:
        """:raises StoreUnavailable: what was found until then is found."""
        known = await self.db.read(fsck.all_domains)
        for domain in sorted({*known, *await self.store.domains()}):
            async for found, row in merge(self.store.walk(domain), self._rows(domain)):
                self.on_pair(domain, found, row)
                self._count(found, row)
                await self._hold_against(found, row)
            await self._look_again()

    @property
    def notes(self) -> list[Note]:
        """Files that lie among the objects and are none."""
        if not self._foreign:
            return []
        examples = tuple(self._examples)
        return [Note(NoteKind.FOREIGN, self._foreign, self._foreign_bytes, examples=examples)]

    async def _rows(self, domain: str) -> AsyncIterator[KnownBlock]:
        after = (b"", "")
        look = partial(fsck.block_page, domain_id=domain, limit=self.page)
        while rows := await self.db.read(partial(look, after=after)):
            after = (rows[-1].hash, rows[-1].generation)
            for row in rows:
                yield row

    def _count(self, found: StoredObject | None, row: KnownBlock | None) -> None:
        self.blocks += row is not None
        if found is not None:
            self.objects += 1
            self.object_bytes += found.size
        self._pairs += 1
        if self._pairs % self.page == 0:
            self.on_page()

    async def _hold_against(self, found: StoredObject | None, row: KnownBlock | None) -> None:
        kind = suspect(found, row)
        if kind is None or not self.findings.has_room(kind):
            return
        key = key_of(row) if row is not None else parse_path(found.path if found else "")
        if key is None:
            self._note_foreign(found)
            return
        self._suspicions.append(Suspicion(kind, found, row, key))
        if len(self._suspicions) >= BATCH:
            await self._look_again()

    def _note_foreign(self, found: StoredObject | None) -> None:
        if found is not None:
            self._foreign += 1
            self._foreign_bytes += found.size
            if len(self._examples) < _EXAMPLES:
                self._examples.append(found.path)

    async def _look_again(self) -> None:
        suspicions, self._suspicions = self._suspicions, []
        orphans = [each for each in suspicions if each.block is None]
        for domain in sorted({each.key.domain for each in orphans}):
            await self._look_for_rows(
                domain, [each for each in orphans if each.key.domain == domain]
            )
        reader = VerifiedReader(self.store)
        for each in suspicions:
            if each.block is not None and self.findings.has_room(each.kind):
                finding = await self._look_at_block(reader, each.kind, each.block)
                if finding is not None:
                    self.findings.add(finding)

    async def _look_for_rows(self, domain: str, orphans: Sequence[Suspicion]) -> None:
        names = {(each.key.hash, each.key.generation) for each in orphans}
        known = await self.db.read(partial(fsck.have_rows, domain_id=domain, names=names))
        for each in orphans:
            if (each.key.hash, each.key.generation) in known or each.object is None:
                continue
            if self.findings.has_room(Kind.ORPHAN):
                await self._look_at_orphan(each.key, each.object)

    async def _look_at_orphan(self, key: BlockKey, found: StoredObject) -> None:
        try:
            shape = await read_shape(self.store, key)
            said = f"no row names it; it holds the block's {shape.size} bytes"
        except BlockDamaged as err:
            shape, said = None, f"no row names it; it holds no block: {err.members.get('reason')}"
        except BlockMissing:
            return
        is_forgotten = await self.db.read(partial(was_idle, at_us=found.written_at))
        self.findings.add(
            Finding(
                Kind.ORPHAN,
                key.path,
                said,
                size=found.size,
                key=key,
                written_at=found.written_at,
                reads_well=shape is not None,
                is_forgotten=is_forgotten,
            )
        )

    async def _look_at_block(
        self, reader: VerifiedReader, kind: Kind, seen: KnownBlock
    ) -> Finding | None:
        """What is wrong with a block that has a row; None: nothing is, or it went meanwhile."""
        fault = await find_fault(reader, seen)
        stored = None if fault else await self._stored_size(seen)
        block = await self.db.transact(partial(find_block, block_id=seen.block_id, lock=True))
        if block is None or (block.generation, block.state) != (seen.generation, seen.state):
            return None
        if kind is Kind.READABLE:
            is_alone = fault is None and not await self._has_twin(block)
            return _finding(kind, block, "it reads well again", well=True) if is_alone else None
        if fault is not None:
            look = partial(affected_by_block, block_id=block.block_id)
            affected = await self.db.read(look)
            return _finding(kind, block, fault, affected=affected)
        if stored is None or stored == block.stored_size:
            return None
        said = f"its object has {stored} bytes, its row says {block.stored_size}"
        return _finding(Kind.WRONG_SIZE, block, said, well=True)

    async def _stored_size(self, block: KnownBlock) -> int | None:
        """Bytes of the block's object; None: it went since it was read."""
        try:
            return (await read_shape(self.store, key_of(block))).stored_size
        except (BlockMissing, BlockDamaged):
            return None

    async def _has_twin(self, block: KnownBlock) -> bool:
        look = partial(find_live, domain_id=block.domain, hashes=[block.hash])
        return bool(await self.db.read(look))


async def read_shape(store: BlockFetcher, key: BlockKey) -> fsck.StoredShape:
    """How the block lies in its object, after verifying that it does.

    :raises BlockDamaged: the object does not hold the block that its name says.
    :raises BlockMissing: there is no object.
    """

    def finish(stored: bytes) -> fsck.StoredShape:
        header = read_header(stored)
        decode(stored, expected_hash=key.hash, expected_size=header.plain_size)
        return fsck.StoredShape(header.plain_size, len(stored), header.codec)

    return await store.fetch(key, finish)


def _finding(
    kind: Kind,
    block: KnownBlock,
    said: str,
    *,
    well: bool = False,
    affected: Affected | None = None,
) -> Finding:
    return Finding(
        kind,
        key_of(block).path,
        said,
        size=block.stored_size or block.size,
        block=block,
        key=key_of(block),
        reads_well=well,
        affected=affected or Affected(),
    )
