"""Queries on contents and their blocks: ordered lists of references, found by offset."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.tables import blocks, content_blocks, contents, now_us, versions
from filestore.model import MAX_INT, BlockState, ChunkerParams, ContentState

_BATCH: Final = 500
"""Contents that one statement names."""


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One reference of a content: where it lies in the file and where its object lies.

    ``state`` is the block's; only a live one (or its live twin) can be relied on.
    """

    offset: int
    size: int
    block_id: int
    domain: str
    hash: bytes
    generation: str
    state: BlockState


_CREATE: Final = sa.insert(contents).returning(contents.c.id, sort_by_parameter_order=True)


async def create_all(tx: Tx, domains: Sequence[str], params: ChunkerParams) -> list[int]:
    """The numbers of new contents in state ``building``, one for each domain that is named."""
    rows = [
        {
            "public_id": new_id("cnt"),
            "domain_id": domain_id,
            "state": ContentState.BUILDING,
            "min_size": params.min_size,
            "avg_size": params.avg_size,
            "max_size": params.max_size,
            "level": params.level,
        }
        for domain_id in domains
    ]
    return [int(number) for number in (await tx.execute(_CREATE, rows)).scalars()]


async def chunker_params(tx: Tx, content_id: int) -> ChunkerParams:
    """How the content was and is cut; said once, at its creation."""
    row = (await tx.execute(sa.select(contents).where(contents.c.id == content_id))).one()
    return ChunkerParams(row.min_size, row.avg_size, row.max_size, row.level)


async def add_rows(tx: Tx, content_id: int, rows: Sequence[tuple[int, int, int, bool]]) -> None:
    """Adds references: (offset, size, block id, provisional). The blocks are pinned or mine."""
    if rows:
        await tx.execute(
            sa.insert(content_blocks),
            [
                {
                    "content_id": content_id,
                    "byte_offset": offset,
                    "size": size,
                    "block_id": block_id,
                    "provisional": provisional,
                }
                for offset, size, block_id, provisional in rows
            ],
        )


async def remove_rows(tx: Tx, content_id: int, *, start: int, end: int = MAX_INT) -> list[int]:
    """Removes the references that begin in [start, end); the ids of their blocks."""
    rows = await tx.execute(
        sa.delete(content_blocks)
        .where(
            content_blocks.c.content_id == content_id,
            content_blocks.c.byte_offset >= start,
            content_blocks.c.byte_offset < end,
        )
        .returning(content_blocks.c.block_id)
    )
    return list(rows.scalars())


async def settle_rows(tx: Tx, content_id: int) -> None:
    """Clears the provisional flag: at the end of a file its last block simply stays."""
    await tx.execute(
        sa.update(content_blocks)
        .where(content_blocks.c.content_id == content_id, content_blocks.c.provisional)
        .values(provisional=False)
    )


async def provisional_rows(tx: Tx, content_id: int) -> list[tuple[int, int]]:
    """(offset, size) of the provisional tail, in order."""
    rows = await tx.execute(
        sa.select(content_blocks.c.byte_offset, content_blocks.c.size)
        .where(content_blocks.c.content_id == content_id, content_blocks.c.provisional)
        .order_by(content_blocks.c.byte_offset)
    )
    return [(row.byte_offset, row.size) for row in rows]


async def complete(tx: Tx, content_id: int, *, size: int, blake3: bytes | None) -> None:
    """Building becomes complete: from now on the content never changes."""
    await settle_rows(tx, content_id)
    await tx.execute(
        sa.update(contents)
        .where(contents.c.id == content_id, contents.c.state == ContentState.BUILDING)
        .values(state=ContentState.COMPLETE, size=size, blake3=blake3, completed_at=now_us())
    )


async def share(tx: Tx, content_id: int) -> bool:
    """Holds a complete content for one more version; False when it is going away.

    FOR SHARE: the foreign key alone would not wait for a release under way.
    """
    row = await tx.execute(
        sa.select(contents.c.id)
        .where(contents.c.id == content_id, contents.c.state == ContentState.COMPLETE)
        .with_for_update(read=True)
    )
    return row.one_or_none() is not None


async def share_all(tx: Tx, content_ids: Collection[int]) -> bool:
    """Holds complete contents as :func:`share` does; False when one of them is going away."""
    ordered = sorted(content_ids)
    held = 0
    for some in _batched(ordered):
        rows = await tx.execute(
            sa.select(contents.c.id)
            .where(contents.c.id.in_(some), contents.c.state == ContentState.COMPLETE)
            .order_by(contents.c.id)
            .with_for_update(read=True)
        )
        held += len(rows.all())
    return held == len(ordered)


async def release(tx: Tx, content_ids: Sequence[int]) -> list[int]:
    """Contents that no version refers to any more become ``deleting``; their numbers.

    Locks first and looks in a second statement: of two that delete the last two versions at
    once, the later sees the earlier's deletion.
    """
    gone: list[int] = []
    for some in _batched(sorted(set(content_ids))):
        gone += await _release_some(tx, some)
    return gone


def _batched(ordered: Sequence[int]) -> Iterator[Sequence[int]]:
    """``ordered`` in pieces that fit one statement: both databases allow 32,766 parameters."""
    return (ordered[at : at + _BATCH] for at in range(0, len(ordered), _BATCH))


async def _release_some(tx: Tx, ordered: Sequence[int]) -> list[int]:
    await tx.execute(
        sa.select(contents.c.id)
        .where(contents.c.id.in_(ordered))
        .order_by(contents.c.id)
        .with_for_update()
    )
    is_referenced = sa.exists().where(versions.c.content_id == contents.c.id)
    rows = await tx.execute(
        sa.update(contents)
        .where(
            contents.c.id.in_(ordered),
            contents.c.state == ContentState.COMPLETE,
            ~is_referenced,
        )
        .values(state=ContentState.DELETING)
        .returning(contents.c.id)
    )
    return list(rows.scalars())


async def abandon(tx: Tx, content_id: int) -> None:
    """The content of an upload that ended without a file becomes ``deleting``."""
    await tx.execute(
        sa.update(contents)
        .where(contents.c.id == content_id, contents.c.state == ContentState.BUILDING)
        .values(state=ContentState.DELETING)
    )


async def refs_from(
    tx: Tx, content_id: int, offset: int, *, end: int, limit: int
) -> list[BlockRef]:
    """The references that cover [offset, end), in order, at most ``limit`` of them.

    The first is the one that contains ``offset``. A block that is not live is answered with
    its live twin where there is one, so that damage heals for readers at once.
    """
    first = (
        sa.select(sa.func.max(content_blocks.c.byte_offset))
        .where(content_blocks.c.content_id == content_id, content_blocks.c.byte_offset <= offset)
        .scalar_subquery()
    )
    twin = blocks.alias("twin")
    rows = await tx.execute(
        sa.select(
            content_blocks.c.byte_offset,
            content_blocks.c.size,
            sa.func.coalesce(twin.c.id, blocks.c.id).label("id"),
            blocks.c.domain_id,
            blocks.c.hash,
            sa.func.coalesce(twin.c.generation, blocks.c.generation).label("generation"),
            sa.func.coalesce(twin.c.state, blocks.c.state).label("state"),
        )
        .join(blocks, blocks.c.id == content_blocks.c.block_id)
        .outerjoin(
            twin,
            sa.and_(
                blocks.c.state != BlockState.LIVE,
                twin.c.domain_id == blocks.c.domain_id,
                twin.c.hash == blocks.c.hash,
                twin.c.state == BlockState.LIVE,
            ),
        )
        .where(
            content_blocks.c.content_id == content_id,
            content_blocks.c.byte_offset >= first,
            content_blocks.c.byte_offset < end,
        )
        .order_by(content_blocks.c.byte_offset)
        .limit(limit)
    )
    return [
        BlockRef(
            row.byte_offset,
            row.size,
            row.id,
            row.domain_id,
            row.hash,
            row.generation,
            BlockState(row.state),
        )
        for row in rows
    ]


async def next_unhashed(tx: Tx, after: int = 0) -> tuple[int, int] | None:
    """(number, size) of a complete content whose BLAKE3 is not known yet, or None."""
    row = (
        await tx.execute(
            sa.select(contents.c.id, contents.c.size)
            .where(
                contents.c.id > after,
                contents.c.state == ContentState.COMPLETE,
                contents.c.blake3.is_(None),
            )
            .order_by(contents.c.id)
            .limit(1)
        )
    ).one_or_none()
    return None if row is None else (row.id, row.size)


async def set_digest(tx: Tx, content_id: int, blake3: bytes) -> None:
    """Records what the whole content hashes to; the first answer stays."""
    await tx.execute(
        sa.update(contents)
        .where(contents.c.id == content_id, contents.c.blake3.is_(None))
        .values(blake3=blake3)
    )
