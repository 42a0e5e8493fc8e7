"""Making one content refer to the blocks of others, in batches that lock for a moment only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from filestore.meta import blocks as pins
from filestore.meta.contents import add_rows
from filestore.meta.database import Tx
from filestore.meta.plans import among
from filestore.meta.tables import blocks, content_blocks, contents
from filestore.model import BlockState, ContentState

_ATTEMPTS: Final = 3
"""Looks at one page: a block that was lost between two statements has its twin in the next."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where all bytes of a content stand in another one: [begin, end)."""

    content_id: int
    begin: int
    end: int


class SourceGone(Exception):
    """A content that was copied from is going away, or does not reach as far as it should."""

    def __init__(self, content_id: int) -> None:
        super().__init__(f"content {content_id}")
        self.content_id = content_id


class SourceLost(Exception):
    """A block is lost, and no live one has its hash."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A reference to be: where in the target, and where it was found."""

    offset: int
    size: int
    block_id: int

    @property
    def end(self) -> int:
        return self.offset + self.size


async def copy_rows(
    tx: Tx, target_id: int, places: Sequence[Place], *, offset: int, limit: int
) -> int:
    """Copies references to what stands at ``offset`` of the target and behind, from building
    contents; the offset behind them. The target is the caller's; the first place contains
    ``offset``. Copied is a part of that place, or all of it and of some that follow.

    Each block is pinned as by any other writer: FOR SHARE where it is live, ordered by id. For a
    lost one its live twin is taken. Costs six statements at most and O(``limit``).

    :raises SourceGone: nothing may be copied any more.
    :raises SourceLost: what remains cannot be read.
    """
    await _hold_sources(tx, {place.content_id for place in places})
    for _ in range(_ATTEMPTS):
        rows = await _page(tx, places[0], offset, limit)
        is_single = rows[-1].end < places[0].end or len(places) == 1
        if not is_single:
            rows += await _whole_places(tx, places[1:], limit - len(rows))
        twins = await _pin(tx, {row.block_id for row in rows})
        if twins is None:
            continue
        end = rows[-1].end
        if is_single and not twins:
            await _copy(tx, target_id, places[0], offset, end)
        else:
            moved = [(row.offset, row.size, twins.get(row.block_id, row.block_id)) for row in rows]
            await add_rows(tx, target_id, [(*row, False) for row in moved])
        return end
    raise SourceLost


async def _hold_sources(tx: Tx, ids: set[int]) -> None:
    """Keeps the contents from being released until the transaction ends.

    :raises SourceGone: one of them is already.
    """
    held = await tx.scalars(
        sa.select(contents.c.id)
        .where(among(contents.c.id, sorted(ids)), contents.c.state == ContentState.BUILDING)
        .order_by(contents.c.id)
        .with_for_update(read=True)
    )
    if gone := ids - set(held):
        raise SourceGone(min(gone))


async def _page(tx: Tx, place: Place, offset: int, limit: int) -> list[_Row]:
    """The references that follow ``offset`` in one place; one at least."""
    of = content_blocks.c
    found = await tx.execute(
        sa.select(of.byte_offset, of.size, of.block_id)
        .where(of.content_id == place.content_id, of.byte_offset >= offset - place.begin)
        .order_by(of.byte_offset)
        .limit(limit)
    )
    rows = [_Row(place.begin + row.byte_offset, row.size, row.block_id) for row in found]
    if not rows or not _are_gapless(rows, offset) or rows[-1].end > place.end:
        raise SourceGone(place.content_id)
    return rows


async def _whole_places(tx: Tx, places: Sequence[Place], limit: int) -> list[_Row]:
    """The references of those of the next places that have no more than ``limit`` together."""
    of = content_blocks.c
    found = await tx.execute(
        sa.select(of.content_id, of.byte_offset, of.size, of.block_id)
        .where(among(of.content_id, sorted({place.content_id for place in places})))
        .order_by(of.content_id, of.byte_offset)
        .limit(limit)
    )
    sources: dict[int, list[_Row]] = {}
    for row in found:
        one = _Row(row.byte_offset, row.size, row.block_id)
        sources.setdefault(row.content_id, []).append(one)
    rows: list[_Row] = []
    for place in places:
        mine = _moved(sources.get(place.content_id, ()), place.begin)
        is_whole = bool(mine) and _are_gapless(mine, place.begin) and mine[-1].end == place.end
        if not is_whole or len(rows) + len(mine) > limit:
            break
        rows += mine
    return rows


def _moved(rows: Collection[_Row], by: int) -> list[_Row]:
    return [_Row(row.offset + by, row.size, row.block_id) for row in rows]


def _are_gapless(rows: Sequence[_Row], start: int) -> bool:
    ends = [start, *(row.end for row in rows)]
    return all(row.offset == end for row, end in zip(rows, ends, strict=False))


async def _pin(tx: Tx, wanted: set[int]) -> Mapping[int, int] | None:
    """Pins the blocks; for those that are lost their twins, which are given by them. None: some
    could not be pinned."""
    missing = wanted - await pins.pin_live(tx, wanted)
    if not missing:
        return {}
    twins = await _twins(tx, missing)
    pinned = await pins.pin_live(tx, twins.values())
    found = {lost: twin for lost, twin in twins.items() if twin in pinned}
    return found if missing <= found.keys() else None


async def _copy(tx: Tx, target_id: int, place: Place, offset: int, end: int) -> None:
    """In one statement. No reference can change meanwhile: only those to lost blocks ever do, and
    all of these are held live."""
    of = content_blocks.c
    found = sa.select(
        sa.literal(target_id, sa.BigInteger),
        of.byte_offset + sa.literal(place.begin, sa.BigInteger),
        of.size,
        of.block_id,
        sa.false(),
    ).where(
        of.content_id == place.content_id,
        of.byte_offset >= offset - place.begin,
        of.byte_offset < end - place.begin,
    )
    columns = ["content_id", "byte_offset", "size", "block_id", "provisional"]
    await tx.execute(sa.insert(content_blocks).from_select(columns, found))


async def _twins(tx: Tx, ids: set[int]) -> dict[int, int]:
    """The live block with the same hash in the same domain, by the id of each of these."""
    twin = blocks.alias("twin")
    is_twin = sa.and_(
        twin.c.domain_id == blocks.c.domain_id,
        twin.c.hash == blocks.c.hash,
        twin.c.state == BlockState.LIVE,
    )
    found = await tx.execute(
        sa.select(blocks.c.id, twin.c.id.label("twin"))
        .join(twin, is_twin)
        .where(among(blocks.c.id, sorted(ids)))
    )
    return {row.id: row.twin for row in found}
