"""What fsck asks the database: blocks in the order of a listing, and those that do not fit.

A :class:`Look` goes through a table in pages that are bounded by their number of rows, so no
statement is long and memory is constant. What it sees there it sees without a lock; what it
sees again, under the locks of the rows and in a new statement, is so.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa

from filestore.errors import Json
from filestore.meta.database import Tx
from filestore.meta.healing import COLUMNS, KnownBlock, known
from filestore.meta.instance import Instance
from filestore.meta.log import audit
from filestore.meta.tables import (
    blocks,
    content_blocks,
    contents,
    domains,
    gc_queue,
    instance,
    now_us,
)
from filestore.model import SYSTEM, BlockState, Codec, ContentState

UNLISTED: Final = "unlisted"
"""Why a block is queued: fsck found that nothing refers to it and nobody had asked."""
ADOPTED: Final = "adopted"
"""Why a block is queued: its row was rebuilt from its object, and nothing refers to it yet."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """One kind of thing that may be wrong with the rows of a table.

    ``find`` gives what is wrong among the rows that a condition picks; ``name`` is the key of
    what was found, ``first`` a key before all others; ``hold`` locks rows by their names.
    """

    key: tuple[sa.ColumnElement[Any], ...]
    first: Any
    find: Callable[[Tx, sa.ColumnElement[bool]], Awaitable[list[T]]]
    name: Callable[[T], Any]
    hold: Callable[[Tx, Sequence[Any]], Awaitable[None]]

    async def page(self, tx: Tx, *, after: Any, rows: int) -> tuple[Any | None, list[T]]:
        """What seems wrong with the next so many rows; and the last of them (None: the end).

        Takes no lock.
        """
        if tx.dialect.name == "postgresql":
            # After some pages it would go on with one plan for any bounds, made for a large part
            # of the table: at 2 million blocks 5 s a page instead of 20 ms.
            await tx.execute(sa.text("SET LOCAL plan_cache_mode = force_custom_plan"))
        last = await self._last(tx, after, rows)
        return last, await self.find(tx, self._between(after, last))

    async def again(self, tx: Tx, names: Sequence[Any]) -> list[T]:
        """What of these is wrong, seen in a new statement under their locks."""
        await self.hold(tx, names)
        return await self.find(tx, self._named(names))

    def _between(self, after: Any, last: Any | None) -> sa.ColumnElement[bool]:
        """Behind ``after`` and up to ``last``. By the first part also alone: PostgreSQL cannot
        tell how many pairs lie between two, and takes them for a quarter of the table."""
        bounds = [self._whole > after]
        if last is not None:
            bounds.append(self._whole <= last)
        if len(self.key) > 1:
            bounds.append(self.key[0] >= after[0])
            if last is not None:
                bounds.append(self.key[0] <= last[0])
        return sa.and_(*bounds)

    def _named(self, names: Sequence[Any]) -> sa.ColumnElement[bool]:
        """By the first part also alone: for pairs SQLite would read the whole table."""
        named: sa.ColumnElement[bool] = self._whole.in_(list(names))
        if len(self.key) == 1:
            return named
        return sa.and_(self.key[0].in_({name[0] for name in names}), named)

    @property
    def _whole(self) -> Any:
        return self.key[0] if len(self.key) == 1 else sa.tuple_(*self.key)

    async def _last(self, tx: Tx, after: Any, rows: int) -> Any | None:
        query = sa.select(*self.key).where(self._whole > after).order_by(*self.key)
        row = (await tx.execute(query.offset(rows - 1).limit(1))).one_or_none()
        if row is None:
            return None
        return row[0] if len(self.key) == 1 else tuple(row)


@dataclass(frozen=True, slots=True)
class StoredShape:
    """How a block lies in the store, as its object says: sizes in bytes."""

    size: int
    stored_size: int
    codec: Codec


@dataclass(frozen=True, slots=True)
class Dead:
    """A block that files refer to and that is not live, and its live twin."""

    block: KnownBlock
    twin_id: int | None


async def all_domains(tx: Tx) -> list[str]:
    return list(await tx.scalars(sa.select(domains.c.id).order_by(domains.c.id)))


async def block_page(
    tx: Tx, domain_id: str, *, after: tuple[bytes, str], limit: int
) -> list[KnownBlock]:
    """Blocks of a domain in all states, in the order of their objects' paths.

    Generations are compared byte by byte, as paths are, whatever order the database is set to.
    """
    byte_order = "C" if tx.dialect.name == "postgresql" else "BINARY"
    generation = sa.collate(blocks.c.generation, byte_order)
    last_hash, last_generation = after
    rows = await tx.execute(
        sa.select(*COLUMNS)
        .where(
            blocks.c.domain_id == domain_id,
            blocks.c.hash >= last_hash,
            sa.or_(blocks.c.hash > last_hash, generation > last_generation),
        )
        .order_by(blocks.c.hash, generation)
        .limit(limit)
    )
    return [known(row) for row in rows]


async def adopt(
    tx: Tx, domain_id: str, name: tuple[bytes, str], shape: StoredShape, *, keep_us: int
) -> int:
    """The id of a new live row for an object that the database has forgotten, and its task.

    The caller has read the object and verified it. Nothing refers to it yet; the collector
    leaves it alone for ``keep_us``, so that whoever sends the same bytes again finds it.

    :raises IntegrityError: ``uq_blocks_live``: another block has its hash, or the domain or
        the row came into being meanwhile.
    """
    hash, generation = name
    block_id = await tx.scalar(
        sa.insert(blocks)
        .values(
            domain_id=domain_id,
            hash=hash,
            generation=generation,
            size=shape.size,
            stored_size=shape.stored_size,
            codec=shape.codec,
            state=BlockState.LIVE,
            checked_at=now_us(),
        )
        .returning(blocks.c.id)
    )
    await tx.execute(
        sa.insert(gc_queue).values(
            block_id=block_id,
            reason=ADOPTED,
            not_before=now_us() + sa.literal(keep_us, sa.BigInteger),
        )
    )
    said: dict[str, Json] = {"bytes": shape.size}
    await audit(tx, SYSTEM, "block.adopt", target=f"{hash.hex()}.{generation}", after=said)
    return int(block_id or 0)


async def correct_shape(tx: Tx, block: KnownBlock, shape: StoredShape) -> bool:
    """Records how a live block really lies in the store; whether it still is what was seen."""
    changed = await tx.execute(
        sa.update(blocks)
        .where(
            blocks.c.id == block.block_id,
            blocks.c.generation == block.generation,
            blocks.c.state == BlockState.LIVE,
        )
        .values(stored_size=shape.stored_size, codec=shape.codec)
    )
    return changed.rowcount == 1


async def join_epochs(tx: Tx, seen: Instance, epoch: int) -> bool:
    """Raises the database's epoch to ``epoch``; False: it is not what was seen any more."""
    changed = await tx.execute(
        sa.update(instance)
        .where(
            instance.c.store_id == seen.store_id,
            instance.c.epoch == seen.epoch,
            instance.c.epoch < epoch,
        )
        .values(epoch=epoch)
    )
    if changed.rowcount != 1:
        return False
    before: dict[str, Json] = {"epoch": seen.epoch}
    await audit(tx, SYSTEM, "store.join", before=before, after={"epoch": epoch})
    return True


async def have_rows(
    tx: Tx, domain_id: str, names: Collection[tuple[bytes, str]]
) -> set[tuple[bytes, str]]:
    """Those of the blocks, by hash and generation, that have a row in any state."""
    name = sa.tuple_(blocks.c.hash, blocks.c.generation)
    rows = await tx.execute(
        sa.select(blocks.c.hash, blocks.c.generation).where(
            blocks.c.domain_id == domain_id,
            blocks.c.hash.in_({hash for hash, _ in names}),  # for pairs SQLite reads all rows
            name.in_(list(names)),
        )
    )
    return {(row.hash, row.generation) for row in rows}


async def _dead(tx: Tx, where: sa.ColumnElement[bool]) -> list[Dead]:
    states = [state for state in BlockState if state is not BlockState.LIVE]
    twin = blocks.alias("twin")
    is_twin = sa.and_(
        twin.c.domain_id == blocks.c.domain_id,
        twin.c.hash == blocks.c.hash,
        twin.c.state == BlockState.LIVE,
    )
    is_wanted = sa.exists().where(
        content_blocks.c.block_id == blocks.c.id,
        contents.c.id == content_blocks.c.content_id,
        contents.c.state != ContentState.DELETING,
    )
    query = (
        sa.select(*COLUMNS, twin.c.id.label("twin_id"))
        .select_from(blocks.outerjoin(twin, is_twin))
        .where(where, blocks.c.state.in_(states), is_wanted)
        .order_by(blocks.c.id)
    )
    return [Dead(known(row), row.twin_id) for row in await tx.execute(query)]


async def _unlisted(tx: Tx, where: sa.ColumnElement[bool]) -> list[KnownBlock]:
    rows = await tx.execute(
        sa.select(*COLUMNS).where(
            where,
            blocks.c.state.in_([BlockState.LIVE, BlockState.LOST]),
            ~sa.exists().where(content_blocks.c.block_id == blocks.c.id),
            ~sa.exists().where(gc_queue.c.block_id == blocks.c.id),
        )
    )
    return [known(row) for row in rows]


async def hold(tx: Tx, key: sa.ColumnElement[Any], where: sa.ColumnElement[bool]) -> None:
    """Holds rows against changes until the transaction ends, in the order of their keys."""
    await tx.execute(sa.select(key).where(where).order_by(key).with_for_update(read=True))


async def _hold_blocks(tx: Tx, ids: Sequence[int]) -> None:
    await hold(tx, blocks.c.id, blocks.c.id.in_(list(ids)))


DEAD: Final = Look((blocks.c.id,), 0, _dead, lambda dead: dead.block.block_id, _hold_blocks)
"""Blocks that files or uploads refer to and that are not live."""

NOT_LISTED: Final = Look((blocks.c.id,), 0, _unlisted, lambda block: block.block_id, _hold_blocks)
"""Live and lost blocks that nothing refers to and nobody asked the collector to look at."""
