"""One fixed story of a group's files, in steps that can be taken again after a crash.

It passes every point at which a crash leaves something behind: uploads in pieces and with a
break, bytes that are known, overwriting, concatenation, deleting, expiry, collection, damage and
its healing, and a database that is restored from a backup.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

from tests.crash.acting import Acting
from tests.crash.offline import Offline
from tests.crash.promises import Promise, Promises
from tests.e2e import tus
from tests.e2e.material import GIB, KIB, MIB, Material
from tests.http.api import Api

_PATIENCE_S: Final = 60.0
_KEPT: Final = "kept.bin"
_FLIPPED: Final = "flipped.bin"
_HIDDEN: Final = "hidden.bin"
_AGAIN: Final = "again.bin"
_BEGUN: Final = "begun.bin"
_JOINED: Final = "joined.bin"
_WHOLE: Final = 5 * MIB // 2
_CUT: Final = 300 * KIB
_FIRST: Final = 900 * KIB
_BROKEN_OFF: Final = 1600 * KIB


class Scenario:
    """The story of group ``group``. ``before``: the one told before on the same store, whose
    damage this one heals, and whose unfinished upload expires."""

    def __init__(self, group: str, promises: Promises, before: "Scenario | None" = None) -> None:
        self.group = group
        self.promises = promises
        self.before = before
        self._kept = Material(f"{group} kept", 300 * KIB)
        self._small = {
            name: Material(f"{group} {name}", 20 * KIB) for name in (_FLIPPED, _HIDDEN, _AGAIN)
        }
        self._large = Material(f"{group} large", _WHOLE)
        self._joined = Material(f"{group} joined", _FIRST)
        self._parts: list[str] = []
        self.steps: tuple[Callable[[Acting], Awaitable[None]], ...] = (
            self._make_groups,
            self._keep,
            self._upload_in_pieces,
            self._upload_known_bytes,
            self._upload_by_the_draft,
            self._rely,
            self._scrub,
            self._repair,
            self._heal,
            self._overwrite,
            self._concatenate,
            self._delete,
            self._give_up,
            self._leave_behind,
            self._tidy,
            self._overflow,
            self._seal,
            self._collect,
            self._read,
        )

    def __repr__(self) -> str:
        return f"<Scenario {self.group}, {self.promises!r}>"

    async def prepare(self, store: Offline) -> None:
        """Before the backup is made: a block of the story before was lost, and is back."""
        if self.before is not None:
            await store.hide_a_block(_HIDDEN, self.before.group)

    async def go_on(self, acting: Acting) -> None:
        """What happens between the backup and its being restored: a block goes, and comes back
        under another key, and the store gets one that the backup knows nothing of."""
        if self.before is None:
            return
        files = f"/api/v1/groups/{self.before.group}/files"
        gone = await acting.api.delete(f"{files}/{_AGAIN}?permanent=true")
        assert gone.status == 204, gone.body
        await self._collect(acting)
        again = self.before._small[_AGAIN]
        for name, material in ((_AGAIN, again), ("forgotten.bin", Material("forgotten", KIB))):
            reply = await acting.api.put(f"{files}/{name}", data=material.read(0, material.size))
            assert reply.status == 201, reply.body

    async def damage(self, store: Offline) -> None:
        """Behind the restore: what the story before left behind is damaged and old."""
        if self.before is not None:
            await store.let_uploads_expire()
            await store.let_temporary_files_expire()
            await store.remove_a_block(_KEPT, self.before.group)
            await store.flip_a_block(_FLIPPED, self.before.group)
            await store.leave_strangers()

    async def check(self, acting: Acting) -> None:
        """Every promise is kept. Also right after a crash."""
        await acting.forget_strangers()
        readable = [file.name for file in self.promises.living]
        await acting.check(readable)

    async def _make_groups(self, acting: Acting) -> None:
        """One keeps everything; of another everything old goes at once; a third overflows."""
        for name, rules in (
            (self.group, {}),
            (self._tidied, {"versions_keep": 1, "trash_retention_s": 0}),
            (f"{self.group}-overflowing", {}),
        ):
            made = await acting.api.post(
                "/api/v1/groups", {"name": name, "quota_bytes": GIB} | rules
            )
            assert made.status in (201, 409), made.body

    async def _keep(self, acting: Acting) -> None:
        """Files that stay until the next story."""
        await self._bring(acting, _KEPT, self._kept)
        for name, material in self._small.items():
            if not self.promises.file(name).versions:
                await acting.put(name, material)

    async def _upload_in_pieces(self, acting: Acting) -> None:
        """A request, a second one that breaks off on the way, and the rest."""
        promise = await self._begun(acting, "large.bin", self._large)
        if promise is None:
            return
        if promise.offset < _FIRST:
            await acting.send(promise, _FIRST)
        if promise.offset == _FIRST:
            await self._break_off(acting, promise)
        await acting.send(promise, promise.material.size)

    async def _upload_known_bytes(self, acting: Acting) -> None:
        """The same bytes under another name, behind some that are new."""
        await self._bring(acting, "same.bin", self._large)

    async def _upload_by_the_draft(self, acting: Acting) -> None:
        """A request that begins the upload and brings its bytes; the rest, if that breaks."""
        known = [one for one in self.promises.uploads.values() if one.is_ietf]
        material = Material(f"{self.group} draft", _WHOLE)
        promise = known[-1] if known else await acting.put_ietf("draft.bin", material)
        if promise.is_open:
            await acting.send(promise, promise.material.size)

    async def _rely(self, acting: Acting) -> None:
        """Bytes that the restored database believes to have, and that are gone, come again."""
        if self.before is None:
            return
        gone = self.before._small[_AGAIN]
        if not self.promises.file("relying.bin").versions:
            await acting.put("relying.bin", gone)
        await acting.read("relying.bin")

    async def _scrub(self, acting: Acting) -> None:
        """What reads well again is live again, and what does not any more is lost."""
        if self.before is not None:
            await self._finish(acting, await acting.ask("scrub"))

    async def _repair(self, acting: Acting) -> None:
        """The restored database and its store are brought together."""
        if self.before is not None:
            await self._finish(acting, await acting.ask("fsck", repair=True))

    async def _heal(self, acting: Acting) -> None:
        """The bytes of which the store lost a block come again; the old files read well then."""
        if self.before is None:
            return
        old = self.before
        await self._bring(acting, "healing.bin", old._kept)
        if not self.promises.file("healing-too.bin").versions:
            await acting.put("healing-too.bin", old._small[_FLIPPED])
        for name, material in ((_KEPT, old._kept), *old._small.items()):
            await tus.assert_equal(acting.api, old.group, name, material)

    async def _overwrite(self, acting: Acting) -> None:
        if len(self.promises.file("large.bin").versions) == 1:
            await acting.put("large.bin", Material(f"{self.group} new", 200 * KIB))

    async def _concatenate(self, acting: Acting) -> None:
        """A file of two partial uploads, which then end."""
        if not self.promises.file(_JOINED).versions:
            cuts = [0, _CUT, self._joined.size]
            self._parts = [
                await acting.make_part(f"{self.group} {begin}", self._joined, begin, end)
                for begin, end in itertools.pairwise(cuts)
            ]
            await acting.join(_JOINED, self._joined, self._parts)
        for part in self._parts:
            await acting.drop_part(part)

    async def _delete(self, acting: Acting) -> None:
        """Both files that have the same bytes: first one, which frees nothing."""
        for name in ("same.bin", "large.bin"):
            if self.promises.file(name).versions:
                await acting.delete(name)
                await self._collect(acting)

    async def _give_up(self, acting: Acting) -> None:
        """An upload that is ended on the way."""
        given_up = Material(f"{self.group} given up", _WHOLE)
        promise = await self._begun(acting, "given-up.bin", given_up)
        if promise is not None:
            if promise.offset == 0:
                await acting.send(promise, _FIRST)
            await acting.end(promise)

    async def _leave_behind(self, acting: Acting) -> None:
        """An upload that nobody goes on with: it expires before the next story."""
        promise = await self._begun(acting, _BEGUN, Material(f"{self.group} begun", _WHOLE))
        if promise is not None and promise.offset == 0:
            await acting.send(promise, _FIRST)

    async def _seal(self, acting: Acting) -> None:
        """Until every row of the journals is sealed, and the heads lie in the store."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                found = await acting.verify_journal()
                assert found["findings"] == [], found
                if found["sealed_rows"] == found["rows"] and found["marks"] >= found["groups"]:
                    return

    async def _tidy(self, acting: Acting) -> None:
        """A file with an older version, and one in the trash, in the group that keeps neither."""
        files = f"/api/v1/groups/{self._tidied}/files"
        for name, number in (("twice.bin", 1), ("twice.bin", 2), ("thrown.bin", 3)):
            data = Material(f"{self._tidied} {number}", 20 * KIB).read(0, 20 * KIB)
            reply = await acting.api.put(f"{files}/{name}", data=data)
            assert reply.status in (200, 201), reply.body
        thrown = await acting.api.delete(f"{files}/thrown.bin")
        assert thrown.status == 204, thrown.body

    async def _overflow(self, acting: Acting) -> None:
        """A file that is temporary, because its group is beyond its soft limit from the first byte
        on: it goes before the next story."""
        group = f"/api/v1/groups/{self.group}-overflowing"
        steps = (
            ("PUT", "/api/v1/admin/temporary-pool", {"limit_bytes": GIB}),
            ("PATCH", group, {"soft_limit": 0, "overflows": True}),
        )
        for method, path, wish in steps:
            reply = await acting.api.call(method, path, json=wish)
            assert reply.status == 200, reply.body
        data = Material(f"{self.group} overflowing", 20 * KIB).read(0, 20 * KIB)
        reply = await acting.api.put(f"{group}/files/extra.bin", data=data)
        assert reply.status in (200, 201), reply.body
        assert reply.json["expires_at"] is not None

    async def _collect(self, acting: Acting) -> None:
        await self._finish(acting, await acting.ask_collection())

    async def _finish(self, acting: Acting, path: str) -> None:
        """The job at ``path`` ends well."""
        async with asyncio.timeout(_PATIENCE_S):
            while (job := (await acting.api.get(path)).json)["ended_at"] is None:
                continue
        assert job["state"] == "done", job

    async def _read(self, acting: Acting) -> None:
        await self.check(acting)

    @property
    def _tidied(self) -> str:
        return f"{self.group}-tidied"

    async def _bring(self, acting: Acting, name: str, material: Material) -> None:
        """Uploads to the end, from wherever it stands."""
        promise = await self._begun(acting, name, material)
        if promise is not None:
            await acting.send(promise, material.size)

    async def _begun(self, acting: Acting, name: str, material: Material) -> Promise | None:
        """The upload of this file, which is open; None if it is over already."""
        for promise in self.promises.uploads.values():
            if promise.name == name:
                return promise if promise.is_open else None
        return await acting.begin(name, material)

    async def _break_off(self, acting: Acting, promise: Promise) -> None:
        """A request that ends before its body does; what came is kept."""
        rest = promise.material.size - promise.offset
        async with tus.SlowPatch(acting.api, promise.path, promise.offset, rest) as request:
            await request.feed(promise.material, promise.offset, _BROKEN_OFF)
        await tus.wait_for_offset(acting.api, self.group, promise.path, _BROKEN_OFF)
        await acting.look(promise)


def acting_in(scenario: Scenario, api: Api) -> Acting:
    """The client of the story, asking the server as it runs now."""
    return Acting(api, scenario.group, scenario.promises)
