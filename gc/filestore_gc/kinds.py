"""The kinds of jobs: what may be asked with each, and what does it. One line each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from filestore.blocks.backend import Backend
from filestore.meta.database import Database
from filestore_gc.collector import Collector
from filestore_gc.jobs import Asked, Ended, Kind

_YEAR_S: Final = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Ground:
    """What work is done on."""

    db: Database
    store: Backend
    collector: Collector


def known_kinds(ground: Ground) -> Mapping[str, Kind]:
    """All kinds, by the name under which they are asked for."""
    return {
        "gc": Kind(GcWishes, partial(collect, ground)),
    }


class Wishes(BaseModel):
    """What may be asked with a job: nothing, where a kind says no more."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class GcWishes(Wishes):
    """``grace_s`` overrides the setting, also for what is condemned already."""

    dry_run: bool = False
    grace_s: Annotated[int | None, Field(ge=0, le=_YEAR_S)] = None


async def collect(ground: Ground, wishes: GcWishes, asked: Asked) -> Ended:
    """A collection to its end, or its plan."""
    if wishes.dry_run:
        report = await ground.collector.plan(grace_s=wishes.grace_s)
    else:
        report = await ground.collector.run_once(
            grace_s=wishes.grace_s, actor=asked.actor, tell=asked.tell
        )
    return Ended(report.to_json(), report.problem)
