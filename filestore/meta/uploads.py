"""Queries on uploads. Every change of a running one goes through :func:`fence`.

The row's lock is the first that a transaction takes, and ``epoch`` says who may write: a
holder whose epoch was raised by somebody else finds zero rows and drops what it has.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from filestore.errors import NotFound, UploadGone, UploadTakenOver
from filestore.meta.database import Tx
from filestore.meta.notices import notify
from filestore.meta.plans import among
from filestore.meta.tables import contents, now_us, uploads, versions
from filestore.model import ExpectedDigest, Protocol, UploadPart, UploadState

WANTED: Final = "wanted"
FREED: Final = "freed"
"""Notices to other processes: ``wanted ID EPOCH`` asks a holder to let go, ``freed ID`` answers."""

_OPEN_AS_INDEXED: Final = sa.literal(UploadState.OPEN.value, literal_execute=True)
"""In the words of the partial index of ended uploads: SQLite compares words, not parameters."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One row of ``uploads``; sizes and offsets in bytes, times in microseconds."""

    id: str
    group_id: str
    user_id: str
    token_id: str | None
    protocol: Protocol
    content_id: int | None
    folder: str
    name: str
    mime: str
    raw_metadata: str | None
    expected: ExpectedDigest
    offset: int
    length: int | None
    reserved: int
    epoch: int
    holder_id: str | None
    wanted_epoch: int | None
    state: UploadState
    failure: str | None
    version_id: str | None
    created_at: int
    expires_at: int
    expires_cap_at: int
    part: UploadPart | None
    raw_concat: str | None
    idempotency_key: str | None
    is_deferred: bool
    now: int
    domain_id: str | None
    reserved_files: int
    pool_id: str | None

    @property
    def is_open(self) -> bool:
        return self.state is UploadState.OPEN

    @property
    def is_whole_part(self) -> bool:
        """A partial upload that has all its bytes: it stays open, waits for finals, may expire."""
        return self.is_open and self.part is UploadPart.PARTIAL and self.offset == self.length

    @property
    def is_due(self) -> bool:
        """Whether its time has run out; it still is open until a transaction says otherwise."""
        return self.is_open and self.expires_at <= self.now

    @property
    def building(self) -> int:
        """The content under construction, which every open upload has."""
        if self.content_id is None:
            raise AssertionError(f"{self.id} is {self.state} and has no content")
        return self.content_id


_COLUMNS = (*uploads.c, now_us().label("now"), contents.c.domain_id)


_SELECT: Final = sa.select(*_COLUMNS).select_from(
    uploads.outerjoin(contents, contents.c.id == uploads.c.content_id)
)
_FIND: Final = _SELECT.where(uploads.c.id == sa.bindparam("of_id"))
_FIND_ALL: Final = _SELECT.where(uploads.c.id.in_(sa.bindparam("ids", expanding=True)))
_LOCK: Final = _FIND.with_for_update(of=uploads)


def _upload(row: Any) -> Upload:
    return Upload(
        id=row.id,
        group_id=row.group_id,
        user_id=row.user_id,
        token_id=row.token_id,
        protocol=Protocol(row.protocol),
        content_id=row.content_id,
        folder=row.folder,
        name=row.name,
        mime=row.mime,
        raw_metadata=row.raw_metadata,
        expected=ExpectedDigest(row.expected_blake3, row.expected_sha256),
        offset=row.byte_offset,
        length=row.length,
        reserved=row.reserved,
        epoch=row.epoch,
        holder_id=row.holder_id,
        wanted_epoch=row.wanted_epoch,
        state=UploadState(row.state),
        failure=row.failure,
        version_id=row.version_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        expires_cap_at=row.expires_cap_at,
        part=None if row.part is None else UploadPart(row.part),
        raw_concat=row.raw_concat,
        idempotency_key=row.idempotency_key,
        is_deferred=row.is_deferred,
        now=row.now,
        domain_id=row.domain_id,
        reserved_files=row.reserved_files,
        pool_id=row.pool_id,
    )


@functools.cache
def _insertion(expire_s: int, cap_s: int) -> sa.Insert:
    return sa.insert(uploads).values(
        state=UploadState.OPEN,
        expires_at=now_us() + min(expire_s, cap_s) * 1_000_000,
        expires_cap_at=now_us() + cap_s * 1_000_000,
    )


async def insert_all(
    tx: Tx, rows: Sequence[dict[str, Any]], *, expire_s: int, cap_s: int
) -> list[Upload]:
    """New open uploads, each of which expires ``expire_s`` after its last progress, ``cap_s`` at
    most; in the order of ``rows``, which have the same columns."""
    await tx.execute(_insertion(expire_s, cap_s), list(rows))
    ids = [row["id"] for row in rows]
    made = {row.id: _upload(row) for row in await tx.execute(_FIND_ALL, {"ids": ids})}
    return [made[upload_id] for upload_id in ids]


async def find(tx: Tx, upload_id: str) -> Upload | None:
    """The upload as it is now, without a lock."""
    row = (await tx.execute(_FIND, {"of_id": upload_id})).one_or_none()
    return None if row is None else _upload(row)


async def lock_by_key(tx: Tx, user_id: str, key: str) -> Upload | None:
    """The user's upload that was begun under this key, its row locked; None: there is none."""
    mine = sa.and_(uploads.c.user_id == user_id, uploads.c.idempotency_key == key)
    row = (await tx.execute(_SELECT.where(mine).with_for_update(of=uploads))).one_or_none()
    return None if row is None else _upload(row)


async def lock_all(tx: Tx, upload_ids: Collection[str]) -> dict[str, Upload]:
    """Those of the uploads that there are, by id; their rows are locked in that order."""
    statement = _SELECT.where(among(uploads.c.id, sorted(upload_ids))).order_by(uploads.c.id)
    rows = await tx.execute(statement.with_for_update(of=uploads))
    return {row.id: _upload(row) for row in rows}


async def lock_taken_by(tx: Tx, final_id: str) -> list[Upload]:
    """The open partial uploads whose reservations a final one took over; their rows are locked."""
    taken = (uploads.c.taken_by == final_id, uploads.c.state == UploadState.OPEN)
    statement = _SELECT.where(*taken).order_by(uploads.c.id).with_for_update(of=uploads)
    return [_upload(row) for row in await tx.execute(statement)]


async def find_all(tx: Tx, upload_ids: Collection[str]) -> dict[str, Upload]:
    """Those of the uploads that there are, by id, without a lock."""
    rows = await tx.execute(_SELECT.where(among(uploads.c.id, sorted(upload_ids))))
    return {row.id: _upload(row) for row in rows}


async def lock(tx: Tx, upload_id: str) -> Upload:
    """The upload, its row locked until the transaction ends.

    :raises NotFound: there is no such upload.
    """
    row = (await tx.execute(_LOCK, {"of_id": upload_id})).one_or_none()
    if row is None:
        raise NotFound(what="upload")
    return _upload(row)


async def fence(tx: Tx, upload_id: str, epoch: int) -> Upload:
    """The upload, locked, if it is open and still mine.

    :raises UploadTakenOver: another request or process raised the epoch, or completed it, so
        that the client has to ask how far it is; drop what you have.
    :raises UploadGone: it was ended meanwhile without a file.
    """
    upload = await lock(tx, upload_id)
    if upload.state is UploadState.DONE or (upload.is_open and upload.epoch != epoch):
        raise UploadTakenOver()
    if not upload.is_open:
        raise UploadGone(state=upload.state)
    return upload


async def change(tx: Tx, upload: Upload, values: dict[str, Any]) -> None:
    """Writes to an upload that this transaction has locked. ``offset`` never goes back.

    :raises UploadTakenOver: the row is not the one that was locked (a bug elsewhere).
    """
    guard = [uploads.c.id == upload.id, uploads.c.epoch == upload.epoch]
    if "byte_offset" in values:
        guard.append(uploads.c.byte_offset <= values["byte_offset"])
    changed = await tx.execute(
        sa.update(uploads).where(*guard).values(changed_at=now_us(), **values)
    )
    if changed.rowcount != 1:
        raise UploadTakenOver()


async def ask(tx: Tx, upload: Upload) -> None:
    """Asks who holds a locked upload, in another process, to save what it has and let go."""
    await change(tx, upload, {"wanted_epoch": upload.epoch})
    await notify(tx, f"{WANTED} {upload.id} {upload.epoch}")


async def wanted(tx: Tx, *, holder_id: str) -> list[tuple[str, int]]:
    """Uploads that a process holds and others asked for, with the epoch that was asked."""
    rows = await tx.execute(
        sa.select(uploads.c.id, uploads.c.epoch).where(
            uploads.c.holder_id == holder_id, uploads.c.wanted_epoch == uploads.c.epoch
        )
    )
    return [(row.id, row.epoch) for row in rows]


async def let_go(tx: Tx, upload_id: str, epoch: int) -> None:
    """Says that nobody holds the upload now, unless somebody else does already.

    Who asked for it is told; else nobody is, since a notice costs all commits a lock.
    """
    freed = await tx.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.epoch == epoch)
        .values(holder_id=None)
        .returning(uploads.c.wanted_epoch)
    )
    if freed.scalar_one_or_none() == epoch:
        await notify(tx, f"{FREED} {upload_id}")


def slid_expiry(expire_s: int) -> Any:
    """The new ``expires_at`` after progress: later by the sliding time, up to the cap."""
    later = now_us() + expire_s * 1_000_000
    return sa.case((later < uploads.c.expires_cap_at, later), else_=uploads.c.expires_cap_at)


def is_due() -> sa.ColumnElement[bool]:
    """Open uploads whose time has run out."""
    return sa.and_(uploads.c.state == _OPEN_AS_INDEXED, uploads.c.expires_at <= now_us())


def is_left_over() -> sa.ColumnElement[bool]:
    """Open partial uploads of a file that is gone again: nobody is charged for their bytes.

    While the file is there it is charged for them, and until then the final upload reserves them.
    One that another final upload is being made of is in use: that reserves its bytes anew.
    """
    final, other = uploads.alias("final"), uploads.alias("other")
    is_gone = sa.exists().where(
        final.c.id == uploads.c.taken_by,
        final.c.version_id.is_not(None),
        ~sa.exists().where(versions.c.id == final.c.version_id),
    )
    is_in_use = sa.exists().where(
        other.c.user_id == uploads.c.user_id,
        other.c.state == _OPEN_AS_INDEXED,
        other.c.part == UploadPart.FINAL,
        other.c.raw_concat.contains(uploads.c.id),
    )
    is_open = uploads.c.state == _OPEN_AS_INDEXED
    return sa.and_(uploads.c.taken_by.is_not(None), is_open, is_gone, ~is_in_use)


async def due(tx: Tx, *, limit: int) -> list[str]:
    """Ids of open uploads whose time has run out, oldest first. A hint: it takes no lock."""
    query = sa.select(uploads.c.id).where(is_due()).order_by(uploads.c.expires_at).limit(limit)
    return list(await tx.scalars(query))


async def left_over(tx: Tx, *, limit: int) -> list[str]:
    """Ids of partial uploads whose file is gone. A hint: it takes no lock."""
    query = sa.select(uploads.c.id).where(is_left_over()).order_by(uploads.c.taken_by).limit(limit)
    return list(await tx.scalars(query))


async def left_over_among(tx: Tx, upload_ids: Collection[str]) -> set[str]:
    """Those of the partial uploads, whose rows the caller holds, whose file is gone."""
    query = sa.select(uploads.c.id).where(among(uploads.c.id, sorted(upload_ids)), is_left_over())
    return set(await tx.scalars(query))


async def lock_left_over(tx: Tx, upload_id: str) -> Upload | None:
    """The partial upload, its row locked; None when it is in use again, or has ended.

    The row is locked before it is asked: in one statement, PostgreSQL would ask about the final
    upload as it was before the wait.
    """
    upload = await lock(tx, upload_id)
    return upload if await left_over_among(tx, [upload_id]) else None


async def forget_ended(tx: Tx, before: sa.ColumnElement[int] | int, limit: int) -> int:
    """Removes rows of uploads that ended before a moment (microseconds); how many went.

    Oldest first, at most ``limit``. Who asks for such an upload afterwards is told that there is
    none, so ``before`` lies as far back as a client may come back for a lost answer. Files and
    the journal do not need the rows; open parts need those of their final uploads, to end with the
    file. Repeat it until it removes nothing.
    """
    part = uploads.alias("part")
    has_parts = sa.exists().where(part.c.taken_by == uploads.c.id, part.c.state == _OPEN_AS_INDEXED)
    ended = (
        sa.select(uploads.c.id)
        .where(uploads.c.state != _OPEN_AS_INDEXED, uploads.c.changed_at < before, ~has_parts)
        .order_by(uploads.c.changed_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(await tx.scalars(ended))
    await tx.execute(sa.delete(uploads).where(uploads.c.id.in_(ids)))
    return len(ids)


def _is_running() -> sa.ColumnElement[bool]:
    """That an upload is open, and no partial one that is whole and whose reservation a final one
    has taken over. Never NULL, also for what is no part."""
    is_whole = sa.and_(uploads.c.length > 0, uploads.c.byte_offset == uploads.c.length)
    is_part = sa.func.coalesce(uploads.c.part, "") == UploadPart.PARTIAL
    is_used_part = sa.and_(is_part, is_whole, uploads.c.reserved == 0)
    return sa.and_(uploads.c.state == UploadState.OPEN, ~is_used_part)


_COUNT_OPEN: Final = (
    sa.select(sa.func.count())
    .select_from(uploads)
    .where(_is_running(), uploads.c.group_id == sa.bindparam("of_group"))
)
_COUNT_OPEN_BY: Final = (
    sa.select(uploads.c.user_id, sa.func.count().label("n"))
    .where(
        _is_running(),
        uploads.c.user_id.in_(sa.bindparam("users", expanding=True)),
    )
    .group_by(uploads.c.user_id)
)


async def count_open(tx: Tx, group_id: str) -> int:
    """How many uploads run in a group; not those that are part of a file already: clients leave
    them to expire."""
    return int(await tx.scalar(_COUNT_OPEN, {"of_group": group_id}) or 0)


async def count_open_by(tx: Tx, user_ids: Collection[str]) -> dict[str, int]:
    """:func:`count_open` for each of these users who have any."""
    rows = await tx.execute(_COUNT_OPEN_BY, {"users": sorted(user_ids)})
    return {row.user_id: row.n for row in rows}


async def count_finals(tx: Tx, user_id: str) -> int:
    """How many final uploads of a user are not done."""
    statement = sa.select(sa.func.count()).where(
        uploads.c.user_id == user_id,
        uploads.c.state == UploadState.OPEN,
        uploads.c.part == UploadPart.FINAL,
    )
    return int(await tx.scalar(statement) or 0)


async def list_open(tx: Tx, group_id: str, *, after: str | None, limit: int) -> list[Upload]:
    """Running uploads of a group in the order of their ids."""
    statement = _SELECT.where(uploads.c.group_id == group_id, uploads.c.state == UploadState.OPEN)
    if after is not None:
        statement = statement.where(uploads.c.id > after)
    rows = await tx.execute(statement.order_by(uploads.c.id).limit(limit))
    return [_upload(row) for row in rows]
