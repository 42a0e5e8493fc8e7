"""Reading the audit log: all of it for site admins, a group's for its managers."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from filestore.errors import NotFound
from filestore.meta.database import Database
from filestore.meta.log_reading import Record, Wanted, is_known, list_records

_CHUNK: Final = 500
"""Records that are read at once: some 250 KB of them, whatever the length of the log."""


async def page_of_records(
    db: Database, wanted: Wanted, *, before: tuple[int, int] | None, limit: int
) -> list[Record]:
    """Records newest first, behind the key ``before``."""
    return await db.read(partial(list_records, wanted=wanted, before=before, limit=limit))


async def check_known(db: Database, wanted: Wanted) -> None:
    """For who sees all users and groups: a misspelt name is no empty log.

    :raises NotFound: there is and was no such user or group.
    """
    actor, group = await db.read(partial(is_known, wanted=wanted))
    if not actor or not group:
        raise NotFound(what="group" if actor else "user")


async def all_records(db: Database, wanted: Wanted) -> AsyncGenerator[list[Record], None]:
    """All that is wanted, newest first, in chunks, each from a read of its own: memory does not
    grow with the log, and a slow reader holds no transaction. What is written meanwhile is not
    in it."""
    before: tuple[int, int] | None = None
    while True:
        found = await page_of_records(db, wanted, before=before, limit=_CHUNK)
        if found:
            yield found
            before = (found[-1].at, found[-1].id)
        if len(found) < _CHUNK:
            return
