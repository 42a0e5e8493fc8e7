"""When versions were last read, to about a day: for who asks what nobody needs any more."""

from collections.abc import Collection
from typing import Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import now_us, versions

FRESH_US: Final = 86_400_000_000
"""A version that was read within a day is not written again."""


async def note_downloads(tx: Tx, version_ids: Collection[str]) -> int:
    """Says of these versions that they were just read, where that is news; how many were.

    A row that somebody holds, who most likely deletes it, is left out: this waits for nobody and
    nobody waits for it in a circle.
    """
    stale = versions.c.downloaded_at < now_us() - sa.literal(FRESH_US, sa.BigInteger)
    news = (
        sa.select(versions.c.id)
        .where(versions.c.id.in_(version_ids), versions.c.downloaded_at.is_(None) | stale)
        .with_for_update(skip_locked=True, key_share=True)
    )
    done = await tx.execute(
        sa.update(versions).where(versions.c.id.in_(news)).values(downloaded_at=now_us())
    )
    return done.rowcount
