"""Looking at balance sheets: of a group for who may see it, of the site for its admins."""

from dataclasses import dataclass

from filestore.acts.access import GroupAccess
from filestore.errors import NotFound
from filestore.meta.database import Database, Tx
from filestore.meta.growth import closings
from filestore.meta.reports import Key, Report, Sort, list_reports
from filestore.meta.sheet import Line, Sheet, read_sheets
from filestore.meta.sheet_items import Items, list_items
from filestore.meta.sheet_items import Key as ItemKey
from filestore.meta.site import Site, read_site
from filestore.meta.snapshot import hold_still
from filestore.quota.forecast import USUAL_DAYS, Closing, Forecast, foresee


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A group's sheet, and when it would be full if it went on like this."""

    sheet: Sheet
    forecast: Forecast


async def show_sheet(db: Database, access: GroupAccess, *, days: int = USUAL_DAYS) -> Foreseen:
    """The sheet of one moment, with a forecast from the last ``days`` days.

    :raises NotFound: the group was deleted meanwhile.
    """

    async def look(tx: Tx) -> Foreseen:
        await hold_still(tx)
        found = await read_sheets(tx, [access.id])
        if not found:
            raise NotFound(what="group")
        forecasts = await _foresee(tx, found, days)
        return Foreseen(found[0], forecasts[access.id])

    return await db.read(look)


async def page_of_items(
    db: Database, access: GroupAccess, line: Line, *, after: ItemKey | None, limit: int
) -> Items:
    """What is behind a line of the group's sheet, of one moment."""

    async def look(tx: Tx) -> Items:
        await hold_still(tx)
        return await list_items(tx, access.id, line, after=after, limit=limit)

    return await db.read(look)


async def show_site(db: Database) -> Site:
    """All groups together, and what the store itself holds."""
    return await db.read(read_site)


async def page_of_reports(
    db: Database, sort: Sort, *, unread_days: int, after: Key | None, limit: int
) -> list[tuple[Report, Forecast]]:
    """Groups for admins, with the forecasts of the usual time."""

    async def look(tx: Tx) -> list[tuple[Report, Forecast]]:
        await hold_still(tx)
        found = await list_reports(tx, sort, unread_days=unread_days, after=after, limit=limit)
        forecasts = await _foresee(tx, [report.sheet for report in found], USUAL_DAYS)
        return [(report, forecasts[report.sheet.group_id]) for report in found]

    return await db.read(look)


async def _foresee(tx: Tx, sheets: list[Sheet], days: int) -> dict[str, Forecast]:
    closed = await closings(tx, [sheet.group_id for sheet in sheets], days)
    return {
        sheet.group_id: foresee(
            [Closing(day, used) for day, used in closed.get(sheet.group_id, [])],
            limit=sheet.limit,
            held=sheet.used,
        )
        for sheet in sheets
    }
