"""Reading the audit log: all of it for site admins, a group's for its managers."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from filestore.meta.database import Database
from filestore.meta.log_reading import Record, Wanted, list_records

_CHUNK: Final = 500
"""Records that are read at once: some 250 KB of them, whatever the length of the log."""


async def page_of_records(
    db: Database, wanted: Wanted, *, before: tuple[int, int] | None, limit: int
) -> list[Record]:
    """Records newest first, behind the key ``before``."""
    return await db.read(partial(list_records, wanted=wanted, before=before, limit=limit))


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
