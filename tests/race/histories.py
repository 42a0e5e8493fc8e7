"""Random histories of one group: every act that moves bytes, in any order, by many at once.

Uploads, cancels, expiries, copies and moves between folders, the trash and back, versions that are
restored and purged, limits of bytes, files and shares that change meanwhile, by several users;
and moves and copies into another group, where there is one.
"""

import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import sqlalchemy as sa

from filestore.acts import tree
from filestore.acts import versions as version_acts
from filestore.acts.uploads import Request
from filestore.errors import (
    BadRequest,
    Conflict,
    Exists,
    FilesExceeded,
    LengthExceeded,
    NotFound,
    OffsetMismatch,
    QuotaExceeded,
    ShareExceeded,
    UploadGone,
    UploadTakenOver,
)
from filestore.meta.database import Tx
from filestore.meta.tables import entries, groups, member_accounts, uploads, users, versions
from filestore.model import Actor, Protocol
from filestore.names import parse_name, parse_path
from filestore_gc.reaping import Reaper
from tests.services.hot_path import ACTOR, DOMAIN, Process, random_bytes

Draw = Callable[[int], int]
"""A number from 0 up to, but not including, the given one."""

REFUSALS: Final = (
    BadRequest,
    Conflict,
    Exists,
    FilesExceeded,
    LengthExceeded,
    NotFound,
    OffsetMismatch,
    QuotaExceeded,
    ShareExceeded,
    UploadGone,
    UploadTakenOver,
)
"""What an act may be refused with. Anything else, also "database unavailable", is a defect."""

FILES: Final = ["/a", "/b", "/f/a", "/f/b", "/g/h/a", "/g/h/b"]
FOLDERS: Final = ["/f", "/g", "/g/h"]
LARGEST: Final = 300
DATA: Final = [random_bytes(2 * LARGEST, seed) for seed in range(3)]
"""Few different bytes, so that uploads share blocks."""
_CROSSING: Final = ("copy", "move")
ACTORS: Final = [ACTOR, Actor("usr_second", None, None), Actor("usr_third", None, None)]


async def add_actors(tx: Tx) -> None:
    """The users beside the usual one."""
    names = [actor.user_id for actor in ACTORS[1:]]
    await tx.execute(users.insert(), [{"id": n, "name": n, "name_key": n} for n in names])


class History:
    """Acts drawn by ``draw`` on one group. Several histories may share a group and uploads.

    ``other``: a group into which it also moves and copies.
    """

    def __init__(
        self, at: Process, group: str, draw: Draw, shared: list[str], other: str | None = None
    ) -> None:
        self._at = at
        self._group = group
        self._draw = draw
        self._uploads = shared
        self._other = other
        self.outcomes: Counter[str] = Counter()
        self.acts: list[Callable[[], Awaitable[object]]] = [
            self._begin,
            self._begin,
            self._begin_unknown,
            self._append,
            self._append,
            self._append,
            self._finish,
            self._finish,
            self._finish,
            self._terminate,
            self._expire,
            functools.partial(self._two_paths, "copy"),
            functools.partial(self._two_paths, "move"),
            functools.partial(self._one_path, "put_in_trash"),
            functools.partial(self._one_path, "remove"),
            functools.partial(self._trashed, "restore"),
            functools.partial(self._trashed, "purge"),
            functools.partial(self._version, "restore_version"),
            functools.partial(self._version, "remove_version"),
            functools.partial(self._version, "remove_older"),
            self._limit,
            self._limit_files,
            self._limit_share,
            self._release,
        ]
        if other is not None:
            self.acts += [functools.partial(self._two_paths, act, other) for act in _CROSSING]

    async def step(self) -> None:
        """One act; being refused is a part of history."""
        act = self.acts[self._draw(len(self.acts))]
        name = act.args[0] if isinstance(act, functools.partial) else act.__name__.strip("_")
        try:
            await act()
            self.outcomes[name] += 1
        except REFUSALS as err:
            self.outcomes[f"{name}: {type(err).__name__}"] += 1

    async def _begin(self) -> None:
        await self._new(self._draw(LARGEST))

    async def _begin_unknown(self) -> None:
        await self._new(None)

    async def _new(self, length: int | None) -> None:
        folder, _, name = self._path(FILES).rpartition("/")
        actor = self._actor()
        request = Request(
            self._group, DOMAIN, str(actor.user_id), Protocol.TUS, length,
            folder=parse_path(folder), name=parse_name(name),
        )  # fmt: skip
        upload = await self._at.hot.transfers.begin(actor, request)
        if upload.is_open:
            self._uploads.append(upload.id)

    async def _append(self) -> None:
        await self._send(1 + self._draw(LARGEST), ends=False)

    async def _finish(self) -> None:
        await self._send(self._draw(LARGEST), ends=True)

    async def _send(self, size: int, *, ends: bool) -> None:
        if not self._uploads:
            return
        upload = await self._at.look(self._chosen())
        data = DATA[len(upload.id + upload.name) % len(DATA)]
        rest = data[upload.offset : upload.offset + size]
        if upload.length is not None:
            rest = data[upload.offset : upload.length if ends else upload.offset + size]
            rest = rest[: upload.length - upload.offset]
        length = upload.offset + len(rest) if ends and upload.length is None else None
        await self._at.append(upload.id, upload.offset, rest, length=length)

    async def _terminate(self) -> None:
        if self._uploads:
            await self._at.hot.transfers.terminate(ACTOR, self._chosen())

    async def _expire(self) -> None:
        if self._uploads:
            late = sa.update(uploads).where(uploads.c.id == self._chosen())
            await self._at.change(late.where(uploads.c.state == "open").values(expires_at=1))
            await Reaper(self._at.db, self._at.id).expire_uploads()

    async def _two_paths(self, act: str, into: str | None = None) -> None:
        places = FILES + FOLDERS
        source, target = parse_path(self._path(places)), parse_path(self._path(places))
        way = getattr(tree, act)
        await self._at.transact(way, self._actor(), self._group, source, target, into)

    async def _one_path(self, act: str) -> None:
        path = parse_path(self._path(FILES + FOLDERS))
        await self._at.transact(getattr(tree, act), self._actor(), self._group, path)

    async def _trashed(self, act: str) -> None:
        query = sa.select(entries.c.id).where(
            entries.c.group_id == self._group, entries.c.deleted_at.is_not(None)
        )
        if found := await self._at.all(query.order_by(entries.c.id)):
            entry_id = found[self._draw(len(found))].id
            await self._at.transact(getattr(tree, act), self._actor(), self._group, entry_id)

    async def _version(self, act: str) -> None:
        query = sa.select(sa.func.max(versions.c.number)).join(entries)
        most = await self._at.one(query.where(entries.c.group_id == self._group)) or 1
        path, number = parse_path(self._path(FILES)), 1 + self._draw(most)
        way = getattr(version_acts, act)
        await self._at.transact(way, self._actor(), self._group, path, number)

    async def _limit(self) -> None:
        change = sa.update(groups).where(groups.c.id == self._group)
        await self._at.change(change.values(quota_limit=self._draw(10) * LARGEST))

    async def _limit_files(self) -> None:
        limit = self._draw(12) or None
        change = sa.update(groups).where(groups.c.id == self._group)
        await self._at.change(change.values(files_limit=limit))

    async def _limit_share(self) -> None:
        limit = self._draw(8) * LARGEST or None
        mine = member_accounts.c.user_id == self._actor().user_id
        change = sa.update(member_accounts).where(member_accounts.c.group_id == self._group, mine)
        await self._at.change(change.values(share_limit=limit))

    async def _release(self) -> None:
        await Reaper(self._at.db, self._at.id).release_contents()

    def _actor(self) -> Actor:
        return ACTORS[self._draw(len(ACTORS))]

    def _chosen(self) -> str:
        return self._uploads[self._draw(len(self._uploads))]

    def _path(self, places: list[str]) -> str:
        return places[self._draw(len(places))]
