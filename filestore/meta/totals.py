"""What all groups hold together: for figures of the whole service, never for a group."""

from dataclasses import dataclass

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.groups import is_living_group
from filestore.meta.tables import groups, uploads
from filestore.model import UploadState


@dataclass(frozen=True, slots=True)
class Totals:
    """Living groups and the bytes of their quotas; uploads that are open, with their bytes."""

    groups: int
    limit: int
    used: int
    reserved: int
    uploads_open: int
    uploads_received: int


async def read_totals(tx: Tx) -> Totals:
    """Two sums, one over the groups and one over the open uploads."""
    of_groups = sa.select(
        sa.func.count().label("groups"),
        *(
            sa.func.coalesce(sa.func.sum(column), 0).label(name)
            for name, column in (
                ("limit", groups.c.quota_limit),
                ("used", groups.c.used),
                ("reserved", groups.c.reserved),
            )
        ),
    ).where(is_living_group())
    of_uploads = sa.select(
        sa.func.count(), sa.func.coalesce(sa.func.sum(uploads.c.byte_offset), 0)
    ).where(uploads.c.state == UploadState.OPEN)
    held = (await tx.execute(of_groups)).one()
    opened, received = (await tx.execute(of_uploads)).one()
    return Totals(
        groups=held.groups,
        limit=int(held.limit),  # a sum of PostgreSQL is a decimal
        used=int(held.used),
        reserved=int(held.reserved),
        uploads_open=opened,
        uploads_received=int(received),
    )
