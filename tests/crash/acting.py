"""What clients do, with every acknowledgement written down, and the check of all of them."""

import base64
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from yarl import URL

from tests.crash.promises import Promise, Promises
from tests.e2e import ietf, tus
from tests.e2e.material import Material
from tests.e2e.stage import quota_of
from tests.http.api import Api

BROKEN: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)
"""How a client notices that the server is gone."""

JOBS: Final = "/api/v1/admin/jobs"


class Acting:
    """Acts on one group. ``api`` is another one after each start of the server.

    Each act raises one of :data:`BROKEN` when the server goes away meanwhile; whether it had
    its effect is found by :meth:`settle`.
    """

    def __init__(self, api: Api, group: str, promises: Promises) -> None:
        self.api = api
        self.group = group
        self.promises = promises
        self.in_flight = 0
        """Requests with bytes of files that are on their way."""

    def __repr__(self) -> str:
        return f"<Acting on {self.group}, {self.in_flight} in flight, {self.promises!r}>"

    async def begin(self, name: str, material: Material) -> Promise:
        path = await tus.begin(self.api, self.group, name, material)
        return self.promises.created(path, name, material)

    async def begin_ietf(self, name: str, material: Material) -> Promise:
        """An upload by the IETF draft that is only begun."""
        path = await ietf.begin(self.api, self._path(name), material.size)
        return self.promises.created(path, name, material, is_ietf=True)

    async def put_ietf(self, name: str, material: Material) -> Promise:
        """A file in one request by the IETF draft; also if that breaks behind the interim answer
        that names the upload: it can be gone on with. What interim answers say is promised.
        """
        begun: list[Promise] = []

        def heard(fields: Mapping[str, str]) -> None:
            if "location" in fields:
                path = URL(fields["location"]).path
                begun.append(self.promises.created(path, name, material, is_ietf=True))
            else:
                self.promises.reached(begun[0], int(fields["upload-offset"]))

        self.in_flight += 1
        try:
            status, _ = await ietf.put(self.api, self._path(name), material, heard)
        except BROKEN:
            if not begun:
                raise
        else:
            assert status in (200, 201), (name, status)
            self.promises.reached(begun[0], material.size)
        finally:
            self.in_flight -= 1
        return begun[0]

    async def send(self, promise: Promise, end: int) -> None:
        """Sends the bytes from where the upload stands up to ``end``."""
        if promise.is_ietf:
            await self._send_ietf(promise, end)
            return
        self.in_flight += 1
        try:
            reply = await tus.patch(self.api, promise.path, promise.material, promise.offset, end)
        finally:
            self.in_flight -= 1
        assert reply.status == 204, (promise, reply.status, reply.body)
        assert int(reply.headers["Upload-Offset"]) == end
        self.promises.reached(promise, end)

    async def _send_ietf(self, promise: Promise, end: int) -> None:
        def heard(fields: Mapping[str, str]) -> None:
            self.promises.reached(promise, int(fields["upload-offset"]))

        self.in_flight += 1
        try:
            status, fields = await ietf.append(
                self.api, promise.path, promise.material, promise.offset, end, heard
            )
        finally:
            self.in_flight -= 1
        is_rest = end == promise.material.size
        assert status in ((200, 201) if is_rest else (204,)), (promise, status, fields)
        assert fields["upload-complete"] == ("?1" if is_rest else "?0"), (promise, fields)
        assert int(fields["upload-offset"]) == end
        self.promises.reached(promise, end)

    async def look(self, promise: Promise) -> None:
        """Asks where the upload stands."""
        headers, status = (ietf.SPEAKS, 204) if promise.is_ietf else (tus.TUS, 200)
        reply = await self.api.call("HEAD", promise.path, headers=headers)
        if reply.status == 410:
            self.promises.ended(promise)
            return
        assert reply.status == status, (promise, reply.status)
        if promise.is_ietf:
            is_done = promise.material.size == int(reply.headers["Upload-Offset"])
            assert reply.headers["Upload-Complete"] == ("?1" if is_done else "?0"), promise
        self.promises.reached(promise, int(reply.headers["Upload-Offset"]))

    async def end(self, promise: Promise) -> None:
        """Ends the upload for good."""
        promise.is_ending = True
        reply = await self.api.delete(promise.path, headers=tus.TUS)
        assert reply.status == 204, (promise, reply.body)
        self.promises.ended(promise)

    async def put(self, name: str, material: Material) -> None:
        """A file, or a new version of it, in one request."""
        self.promises.asked(name, [*self.promises.file(name).versions, material])
        self.in_flight += 1
        try:
            reply = await self.api.put(self._path(name), data=material.read(0, material.size))
        finally:
            self.in_flight -= 1
        assert reply.status in (200, 201), (name, reply.status, reply.body)
        self.promises.answered(name)

    async def make_part(self, key: str, material: Material, begin: int, end: int) -> str:
        """A whole partial upload of these bytes, whatever of it was there before; its path."""
        headers = tus.TUS | {
            "Upload-Length": str(end - begin),
            "Upload-Concat": "partial",
            "Idempotency-Key": key,
        }
        path = f"/api/v1/groups/{self.group}/uploads"
        made = await self.api.post(path, headers=headers)
        assert made.status == 201, made.body
        part, offset = tus.path_of(made), int(made.headers["Upload-Offset"])
        self.promises.kept(key, offset)
        self.in_flight += 1
        try:
            reply = await tus.patch(self.api, part, material, begin + offset, end, base=begin)
        finally:
            self.in_flight -= 1
        assert reply.status == 204, (part, reply.status, reply.body)
        self.promises.kept(key, end - begin)
        return part

    async def join(self, name: str, material: Material, parts: list[str]) -> None:
        """Makes a version of a file of partial uploads; asked again it is the same version."""
        self.promises.asked(name, [*self.promises.file(name).versions, material])
        filename = base64.b64encode(name.encode()).decode()
        headers = tus.TUS | {
            "Upload-Concat": "final;" + " ".join(parts),
            "Upload-Metadata": f"filename {filename}",
        }
        path = f"/api/v1/groups/{self.group}/uploads"
        reply = await self.api.post(path, headers=headers)
        assert reply.status == 201, (name, reply.status, reply.body)
        self.promises.answered(name)

    async def drop_part(self, part: str) -> None:
        """Ends a partial upload; it may have ended before."""
        reply = await self.api.delete(part, headers=tus.TUS)
        assert reply.status in (204, 410), (part, reply.status)

    async def delete(self, name: str) -> None:
        """Deletes a file past the trash."""
        self.promises.asked(name, [])
        reply = await self.api.delete(f"{self._path(name)}?permanent=true")
        assert reply.status == 204, (name, reply.status, reply.body)
        self.promises.answered(name)

    async def ask_collection(self) -> str:
        """Asks for a collection that frees at once; the job's path."""
        return await self.ask("gc", grace_s=0)

    async def ask(self, kind: str, **wishes: object) -> str:
        """Asks for a job; its path."""
        reply = await self.api.post(JOBS, {"kind": kind, **wishes})
        assert reply.status == 202, reply.body
        return str(reply.headers["Location"])

    async def verify_journal(self) -> Any:
        """The report of a verification, when it has ended."""
        reply = await self.api.post(JOBS, {"kind": "verify-journal"})
        assert reply.status == 202, reply.body
        while (job := (await self.api.get(reply.headers["Location"])).json)["ended_at"] is None:
            continue
        assert job["state"] == "done", job
        return job["report"]

    async def settle(self, name: str) -> None:
        """The file has the versions that it must have; which, if an act was not answered.

        One that was deleted stays deleted.
        """
        reply = await self.api.get(f"/api/v1/groups/{self.group}/versions/{name}?limit=1000")
        assert reply.status in (200, 404), (name, reply.status, reply.body)
        found = reply.json["items"] if reply.status == 200 else []
        self.promises.found(name, [item["size"] for item in reversed(found)])

    async def read(self, name: str) -> None:
        """The file, all of its bytes, is the last version that was promised."""
        current = self.promises.file(name).current
        assert current is not None
        await tus.assert_equal(self.api, self.group, name, current)

    async def check(self, names: list[str]) -> None:
        """No offset went back, each file has its versions, and these read as they must.

        Nobody else acts meanwhile.
        """
        for promise in self.promises.open:
            await self.look(promise)
        for name in self.promises.files:
            await self.settle(name)
        for name in names:
            if self.promises.file(name).versions:  # not deleted by an act that was not answered
                await self.read(name)

    async def check_sums(self) -> None:
        """The group's sums are those of what was promised; nobody else is in the group.

        A creation whose answer was lost may have left an upload that only the server knows. A
        partial upload has no reservation while a final one, or its file, is charged for it.
        """
        reply = await self.api.get(f"/api/v1/groups/{self.group}/uploads?limit=1000")
        running = {f"/api/v1/uploads/{item['id']}": item for item in reply.json["items"]}
        assert {promise.path for promise in self.promises.open} <= running.keys()
        for item in running.values():
            is_paid_for = item["part"] == "partial" and item["reserved"] == 0
            assert item["reserved"] == item["length"] or is_paid_for, item
        used = sum(file.size for file in self.promises.living)
        reserved = sum(item["reserved"] for item in running.values())
        assert await quota_of(self.api, self.group) == (used, reserved), repr(self)

    async def forget_strangers(self) -> None:
        """Ends the uploads that the server has and whose creation was not answered."""
        reply = await self.api.get(f"/api/v1/groups/{self.group}/uploads?limit=1000")
        if reply.status == 404:
            return  # there is no such group yet
        known = {promise.path for promise in self.promises.open}
        for item in reply.json["items"]:
            if item["part"] is not None:
                continue  # its key, or what it is made of, finds it again
            if (path := f"/api/v1/uploads/{item['id']}") not in known:
                assert (await self.api.delete(path, headers=tus.TUS)).status == 204

    def _path(self, name: str) -> str:
        return f"/api/v1/groups/{self.group}/files/{name}"
