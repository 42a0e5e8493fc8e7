"""Long work on the store: asked for, watched, cancelled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments
from filestore.errors import Json

POLL_S: Final = (0.1, 2.0)
"""Between two looks at a job: at first, and after it has turned out to be long."""


class Jobs:
    """``/api/v1/admin/jobs``; for site admins."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def ask(self, kind: str, parameters: dict[str, Json] | None = None) -> Document:
        """The new job, which is queued.

        :raises UnknownKind: the server has no such kind.
        """
        body: Document = {"kind": kind, **(parameters or {})}
        return (await self._transport.call("POST", _PATH, body=body)).document

    async def show(self, job_id: str) -> Document:
        """The job with how far it is, or with its report."""
        return (await self._transport.call("GET", f"{_PATH}/{segments(job_id)}")).document

    def list(self) -> AsyncIterator[Document]:
        """All jobs, the newest first, without their reports."""
        return pages(self._transport, _PATH)

    async def cancel(self, job_id: str) -> None:
        """Ends a job; one at work ends a moment later."""
        await self._transport.call("DELETE", f"{_PATH}/{segments(job_id)}")

    async def wait(self, job_id: str, watch: Callable[[Document], None]) -> Document:
        """The job when it has ended; ``watch`` is shown it at each look until then.

        Takes as long as the job. Breaking it off leaves the job at work.
        """
        pause_s, longest_s = POLL_S
        while (job := await self.show(job_id)).get("ended_at") is None:
            watch(job)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)
        return job


_PATH: Final = "admin/jobs"
