"""``/api/v1/admin/jobs``: long work on the store, asked for by site admins."""

from functools import partial
from typing import Any

from aiohttp import web
from pydantic import ConfigDict

from filestore.acts.jobs import ask, cancel, show
from filestore.errors import UnknownKind
from filestore.http.call import Answer, Body, Call, checked, no_content, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.jobs import Job, newest
from filestore.model import JobState, format_instant

PATH = "/api/v1/admin/jobs"
ONE = PATH + "/{job}"


class NewJob(Body):
    """A job to ask for: its kind, and what that kind takes (gc: ``dry_run``, ``grace_s``)."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    kind: str


class JobItem(Answer):
    """A job. ``progress`` is how far it is, ``error`` (code, detail) why it failed.

    ``actor`` is who asked for it, ``process`` what does it, ``seen_at`` its last sign of life.
    """

    id: str
    kind: str
    state: JobState
    parameters: dict[str, Any]
    progress: dict[str, Any] | None
    error: dict[str, str] | None
    actor: str | None
    process: str | None
    created_at: str
    started_at: str | None
    seen_at: str | None
    cancelled_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, job: Job) -> "JobItem":
        return cls(**_fields(job))


class JobAnswer(JobItem):
    """A job with what it reports at its end, also of a failure half-way."""

    report: dict[str, Any] | None

    @classmethod
    def whole(cls, job: Job) -> "JobAnswer":
        return cls.model_validate(_fields(job) | {"report": job.report})


class JobPage(Answer):
    """Jobs, the newest first."""

    items: list[JobItem]
    next: str | None


async def _ask(call: Call) -> web.Response:
    wish = await call.json(NewJob)
    jobs = call.services.jobs
    kind = jobs.kinds.get(wish.kind)
    if kind is None:
        known = sorted(jobs.kinds)
        raise UnknownKind(kind=wish.kind, known=", ".join(known), kinds=[*known])
    parameters = checked(kind.parameters, wish.model_extra or {})
    job = await ask(call.services.db, call.actor, wish.kind, parameters.model_dump(mode="json"))
    jobs.wake()
    return reply(JobAnswer.whole(job), status=202, location=f"{PATH}/{job.id}")


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    key = paging.key(int, str)
    before = None if key is None else (int(key[0]), str(key[1]))
    rows = await call.services.db.read(partial(newest, before=before, limit=paging.wanted))
    shown, following = paging.cut(rows, lambda job: (job.created_at, job.id))
    return reply(JobPage(items=[JobItem.of(job) for job in shown], next=following))


async def _show(call: Call) -> web.Response:
    return reply(JobAnswer.whole(await show(call.services.db, call.parameters["job"])))


async def _cancel(call: Call) -> web.Response:
    await cancel(call.services.db, call.actor, call.parameters["job"])
    return no_content()


def _fields(job: Job) -> dict[str, Any]:
    times = ("created_at", "started_at", "seen_at", "cancelled_at", "ended_at")
    found = {name: getattr(job, name) for name in times}
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "parameters": job.parameters,
        "progress": job.progress,
        "error": job.error,
        "actor": job.actor.user_id,
        "process": job.process_id,
        **{name: None if at is None else format_instant(at) for name, at in found.items()},
    }


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=_ask,
        access=Access.ADMIN,
        summary="Ask for long work; where it can be seen is in Location",
        request=NewJob,
        responses={202: JobAnswer},
    ),
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.ADMIN,
        summary="List jobs, the newest first, without their reports",
        query=Paging,
        responses={200: JobPage},
    ),
    Route(
        method="GET",
        path=ONE,
        handler=_show,
        access=Access.ADMIN,
        summary="Show how far a job is, or what it came to",
        responses={200: JobAnswer},
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=_cancel,
        access=Access.ADMIN,
        summary="Cancel a job; one at work ends a moment later",
        responses={204: None},
    ),
)
