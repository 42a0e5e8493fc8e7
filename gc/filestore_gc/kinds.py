"""The kinds of jobs: what may be asked with each, and what does it. One line each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from filestore.blocks.backend import Backend
from filestore.errors import Json
from filestore.meta.database import Database
from filestore.model import GIB, KIB
from filestore.quota.accepting import accept_heads
from filestore.quota.verifying import find_journal, verify_journal
from filestore.settings import Settings
from filestore_gc.auditing import Auditor
from filestore_gc.collector import Collector
from filestore_gc.fsck_run import run_fsck
from filestore_gc.jobs import Asked, Ended, Kind
from filestore_gc.progress import Progress
from filestore_gc.scrubbing import Scrubber

_YEAR_S: Final = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Ground:
    """What work is done on."""

    db: Database
    store: Backend
    settings: Settings
    collector: Collector
    scrubber: Scrubber
    auditor: Auditor


def known_kinds(ground: Ground) -> Mapping[str, Kind]:
    """All kinds, by the name under which they are asked for."""
    return {
        "gc": Kind(GcWishes, partial(collect, ground)),
        "fsck": Kind(FsckWishes, partial(check, ground)),
        "scrub": Kind(ScrubWishes, partial(scrub, ground)),
        "verify-journal": Kind(JournalWishes, partial(verify, ground)),
        "audit": Kind(AuditWishes, partial(audit, ground)),
    }


class Wishes(BaseModel):
    """What may be asked with a job: nothing, where a kind says no more."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class GcWishes(Wishes):
    """``grace_s`` overrides the setting, also for what is condemned already."""

    dry_run: bool = False
    grace_s: Annotated[int | None, Field(ge=0, le=_YEAR_S)] = None


class FsckWishes(Wishes):
    """``repair`` carries out what is safe; without it the report says what that would be."""

    repair: bool = False


class ScrubWishes(Wishes):
    """``bytes_per_s`` instead of the setting; what was checked within ``older_than_s`` is left
    out."""

    bytes_per_s: Annotated[int | None, Field(ge=64 * KIB, le=100 * GIB)] = None
    older_than_s: Annotated[int, Field(ge=0, le=10 * _YEAR_S)] = 0


class JournalWishes(Wishes):
    """``group``: the name or id of one group, or the id of one that was deleted; else all.
    ``accept_restore``: what a restored database does not have goes from the store, too."""

    group: Annotated[str | None, Field(max_length=255)] = None
    accept_restore: bool = False


class AuditWishes(Wishes):
    """``group``: the name or id of one; else all of them. ``repair`` writes the correcting entries
    that the report lists without it. ``physical``: the store's own list is looked at, too."""

    group: Annotated[str | None, Field(max_length=255)] = None
    repair: bool = False
    physical: bool = False


async def collect(ground: Ground, wishes: GcWishes, asked: Asked) -> Ended:
    """A collection to its end, or its plan."""
    if wishes.dry_run:
        report = await ground.collector.plan(grace_s=wishes.grace_s)
    else:
        report = await ground.collector.run_once(
            grace_s=wishes.grace_s, actor=asked.actor, tell=asked.tell
        )
    return Ended(report.to_json(), report.problem)


async def check(ground: Ground, wishes: FsckWishes, asked: Asked) -> Ended:
    """fsck, with its plan; on request the repair. Damage is a result, and no failure."""
    run = await run_fsck(
        ground.db,
        ground.store,
        ground.settings,
        repair=wishes.repair,
        actor=asked.actor,
        progress=_teller(asked),
    )
    return Ended(run.to_json(), run.after.problem or run.repaired.problem)


async def scrub(ground: Ground, wishes: ScrubWishes, asked: Asked) -> Ended:
    """A scrub to its end. Damage is a result, and no failure."""
    report = await ground.scrubber.run_once(
        bytes_per_s=wishes.bytes_per_s,
        older_than_s=wishes.older_than_s,
        actor=asked.actor,
        progress=_teller(asked),
    )
    return Ended(report.to_json(), report.problem)


async def verify(ground: Ground, wishes: JournalWishes, asked: Asked) -> Ended:
    """The journals of the quotas from end to end. What is wrong is a result, and no failure.

    :raises NotFound: there is no such group.
    """
    group_id = None
    if wishes.group is not None:
        group_id = await ground.db.read(partial(find_journal, ref=wishes.group))
    check = partial(verify_journal, ground.db, ground.store, group_id, tell=_teller(asked))
    report = await check()
    if wishes.accept_restore and await accept_heads(ground.db, ground.store, asked.actor, report):
        report = await check()
    return Ended(report.to_json())


async def audit(ground: Ground, wishes: AuditWishes, asked: Asked) -> Ended:
    """An audit of quotas to its end. A difference is a result, and no failure.

    :raises NotFound: there is no such group.
    """
    report = await ground.auditor.run_once(
        group=wishes.group,
        repair=wishes.repair,
        physical=wishes.physical,
        actor=asked.actor,
        progress=_teller(asked),
    )
    return Ended(report.to_json(), report.problem)


def _teller(asked: Asked) -> Progress:
    def tell(counts: dict[str, int]) -> None:
        progress: dict[str, Json] = {**counts}
        asked.tell(progress)

    return tell
