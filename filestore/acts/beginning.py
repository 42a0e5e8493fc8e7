"""New uploads, with their reservations: several of one group in one transaction.

Who begins an upload waits for the group's row. So that a group in which many begin at once does
not make each of them wait for all others' commits, those that wait go in together: the rows are
read once, :class:`~filestore.quota.admission.Admission` decides in their order, and one statement
of each kind writes what was let in.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Row

from filestore.acts import tree
from filestore.acts.booking import path_of_upload
from filestore.acts.uploads import (
    HASH_OF_NOTHING,
    Limits,
    Request,
    complete,
    mismatch_of_nothing,
    too_large,
)
from filestore.errors import FilestoreError, NotFound, TooMany
from filestore.ids import new_id
from filestore.meta import accounts, contents, uploads
from filestore.meta.database import LateRefusal, Tx
from filestore.meta.uploads import Upload
from filestore.model import Actor, Cause, ChunkerParams
from filestore.names import Name, parse_name
from filestore.quota import ledger
from filestore.quota.admission import Admission, Share, Verdict
from filestore.quota.refusal import refusal_of, room_of

Refusal = FilestoreError | LateRefusal
Outcome = Upload | Refusal


@dataclass(frozen=True, slots=True)
class Wish:
    """Who asks for what upload."""

    actor: Actor
    request: Request


@dataclass(slots=True)
class New:
    """An upload that is let in, before its row is there."""

    wish: Wish
    id: str
    name: Name
    brings_file: bool
    account_id: str = ""


@dataclass(slots=True)
class _Door:
    """What is known of a group under its lock, while wishes are decided one after the other."""

    admission: Admission
    limits: Limits
    running: int
    by_user: Counter[str]

    def decide(self, new: New) -> Refusal | None:
        """None: it is in, and what it takes is gone for those behind it."""
        request = new.wish.request
        if self.by_user[request.user_id] >= self.limits.per_user:
            what, limit = "running uploads of one user", self.limits.per_user
            return TooMany(what=what, limit=limit, retry_after_s=60)
        if self.running >= self.limits.per_group:
            what, limit = "running uploads in one group", self.limits.per_group
            return TooMany(what=what, limit=limit, retry_after_s=60)
        size = request.length or 0
        verdict = self.admission.admit(request.user_id, size, int(new.brings_file))
        if verdict.is_refusal:
            return refusal_of(self.admission, verdict, request.user_id, size)
        new.account_id = accounts.POOL_ID if verdict is Verdict.POOL else request.group_id
        self.running += 1
        self.by_user[request.user_id] += 1
        return None


async def begin_all(
    tx: Tx, wishes: Sequence[Wish], *, params: ChunkerParams, limits: Limits
) -> list[Outcome]:
    """New uploads of one group with their reservations, in the order of ``wishes``.

    One of length 0 is complete at once, unless it waits. Each outcome is the upload or the error
    for who asked: TooLarge, QuotaExceeded and its kin, TooMany, Conflict, NotFound (the group is
    gone), or what the guard raised; of those nothing is written. The group's row is locked to the
    end.

    Some fifteen statements, and two for each upload of length 0.
    """
    outcomes: list[Outcome | None] = [too_large(wish.request.length, limits) for wish in wishes]
    group_id = wishes[0].request.group_id
    group = await accounts.hold(tx, group_id)
    if group is None:
        return [outcome or NotFound(what="group") for outcome in outcomes]
    await _ask_guards(tx, wishes, outcomes)
    asked = [number for number, outcome in enumerate(outcomes) if outcome is None]
    news = await named(tx, group_id, [wishes[number] for number in asked])
    users = {wish.request.user_id for wish in wishes}
    size = sum(wish.request.length or 0 for wish in wishes)
    door = _Door(
        await open_door(tx, group, users, size),
        limits,
        running=await uploads.count_open(tx, group_id),
        by_user=Counter(await uploads.count_open_by(tx, users)),
    )
    let_in: list[tuple[int, New]] = []
    for number, new in zip(asked, news, strict=True):
        outcomes[number] = new if isinstance(new, FilestoreError) else door.decide(new)
        if isinstance(new, New) and outcomes[number] is None:
            let_in.append((number, new))
    made = await _create(tx, group_id, [new for _, new in let_in], params, limits)
    for (number, _), upload in zip(let_in, made, strict=True):
        outcomes[number] = upload
    return [outcome for outcome in outcomes if outcome is not None]


async def open_door(tx: Tx, group: Row[Any], users: Collection[str], size: int) -> Admission:
    """What these users may still take of a group whose row is locked, and what its pool may.

    ``size``: what they want together. The pool is one row for all groups, so it is locked only
    where this goes beyond the soft limit.
    """
    room = room_of(group)
    needs_pool = room.overflows and room.is_beyond_soft(size)
    pool = await accounts.hold(tx, accounts.POOL_ID) if needs_pool else None
    shares = await accounts.taken_by(tx, group.id, users)
    return Admission(
        room,
        None if pool is None else room_of(pool),
        {user_id: Share(*share) for user_id, share in shares.items()},
    )


async def _ask_guards(tx: Tx, wishes: Sequence[Wish], outcomes: list[Outcome | None]) -> None:
    for number, wish in enumerate(wishes):
        if outcomes[number] is None and wish.request.guard is not None:
            try:
                await wish.request.guard(tx)
            except FilestoreError as err:
                outcomes[number] = err


async def named(tx: Tx, group_id: str, wishes: Sequence[Wish]) -> list[New | FilestoreError]:
    """Each with its id and name, and whether a file comes to be with it; or what is in its way."""
    ids = [new_id("upl") for _ in wishes]
    names = [wish.request.name or parse_name(i) for wish, i in zip(wishes, ids, strict=True)]
    paths = [(*wish.request.folder, name) for wish, name in zip(wishes, names, strict=True)]
    places = await tree.check_places(tx, group_id, paths)
    return [
        place
        if isinstance(place, FilestoreError)
        else New(wish, upload_id, name, not place and not wish.request.is_part)
        for wish, upload_id, name, place in zip(wishes, ids, names, places, strict=True)
    ]


async def _create(
    tx: Tx, group_id: str, news: Sequence[New], params: ChunkerParams, limits: Limits
) -> list[Upload]:
    if not news:
        return []
    domains = [new.wish.request.domain_id for new in news]
    content_ids = await contents.create_all(tx, domains, params)
    rows = [row_of(new, content_id) for new, content_id in zip(news, content_ids, strict=True)]
    made = await uploads.insert_all(tx, rows, expire_s=limits.expire_s, cap_s=limits.cap_s)
    await _reserve(tx, group_id, news, made)
    return [await _finished(tx, new, upload) for new, upload in zip(news, made, strict=True)]


def row_of(new: New, content_id: int) -> dict[str, object]:
    """The columns of a new upload, without its times; it reserves its length in bytes, if known."""
    request = new.wish.request
    return {
        "id": new.id,
        "group_id": request.group_id,
        "user_id": request.user_id,
        "token_id": new.wish.actor.token_id,
        "protocol": request.protocol,
        "content_id": content_id,
        "folder": tree.shown_path(request.folder),
        "name": new.name.given,
        "mime": request.mime,
        "raw_metadata": request.raw_metadata,
        "expected_blake3": request.expected.blake3,
        "expected_sha256": request.expected.sha256,
        "length": request.length,
        "reserved": request.length or 0,
        "reserved_files": int(new.brings_file),
        "part": request.part,
        "raw_concat": request.raw_concat,
        "idempotency_key": request.idempotency_key,
        "is_deferred": request.length is None,
        "pool_id": None if new.account_id == request.group_id else new.account_id,
    }


async def _reserve(tx: Tx, group_id: str, news: Sequence[New], made: Sequence[Upload]) -> None:
    """Posts what was let in. The limits are asked once more, by the statement itself.

    Files count in the group also where a pool takes the bytes.
    """
    of_group: list[ledger.Line] = []
    of_pool: list[ledger.Line] = []
    for new, upload in zip(news, made, strict=True):
        line = ledger.Line(
            cause=Cause.RESERVE,
            reserved=upload.reserved,
            reserved_files=upload.reserved_files,
            ref=upload.id,
            actor_id=new.wish.actor.user_id,
            member_id=upload.user_id,
            path=path_of_upload(upload),
            mime=upload.mime,
        )
        if upload.pool_id is None:
            of_group.append(line)
        else:
            of_group.append(replace(line, reserved=0))
            of_pool.append(replace(line, reserved_files=0))
    last = news[-1].wish.actor
    for account, lines in ((group_id, of_group), (accounts.POOL_ID, of_pool)):
        await ledger.post(tx, last, account, lines, within_limit=True, group_id=group_id)


async def _finished(tx: Tx, new: New, upload: Upload) -> Upload:
    """The upload, which is complete now when it has nothing to wait for."""
    request = new.wish.request
    is_late = request.length != 0 or request.waits or request.is_part
    if is_late or mismatch_of_nothing(request.expected):
        return upload
    blake3 = HASH_OF_NOTHING["blake3"]
    await complete(tx, new.wish.actor, upload, size=0, blake3=blake3)
    return await uploads.lock(tx, upload.id)
