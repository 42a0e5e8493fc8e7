"""Quotas for people: sizes with bars, and sentences where figures need one."""

from collections.abc import Collection, Iterator
from typing import Any, Final

from filestore.model import format_size

LIMITS: Final = ("soft_limit", "files_limit", "overflows")
_BAR: Final = 20
_LINES: Final = (
    ("files", "live_bytes"),
    ("older versions", "versions_bytes"),
    ("trash", "trash_bytes"),
    ("running uploads", "reserved_bytes"),
    ("free", "free_bytes"),
)
_BESIDE: Final = (
    ("temporary", "temporary_bytes"),
    ("temporary uploads", "temporary_reserved_bytes"),
)


def bar(part: int, whole: int) -> str:
    """How much ``part`` is of ``whole``: a bar and percents. Something is never shown as none."""
    share = part / whole if whole else 0.0
    marks = min(_BAR, round(_BAR * share) or (1 if part else 0))
    percent = f"{share:4.0%}" if share == 0 or share >= 0.005 else " <1%"
    return f"[{'#' * marks}{'.' * (_BAR - marks)}] {percent}"


def quota_lines(group: str, quota: Any) -> Iterator[str]:
    """A group's quota: what takes the room, what is beside it, and how long there will be any."""
    limit = quota["limit_bytes"]
    yield f"{group}: {format_size(quota['used_bytes'])} used of {format_size(limit)}"
    for label, member in _LINES:
        size = quota.get(member, 0)
        yield f"  {label:<18} {format_size(size):>10}  {bar(size, limit)}"
    soft = quota.get("soft_limit_bytes")
    if soft is not None:
        yield f"  {'soft limit':<18} {format_size(soft):>10}  {bar(soft, limit)}"
    for label, member in _BESIDE:
        if quota.get(member):
            yield f"  {label:<18} {format_size(quota[member]):>10}  not charged to the group"
    yield from _beside(quota)


def _beside(quota: Any) -> Iterator[str]:
    most = quota.get("files_limit")
    yield f"  {quota.get('files', 0)} files" + ("" if most is None else f" of {most}")
    yield (
        f"  {format_size(quota['unique_bytes'])} of distinct blocks,"
        f" {format_size(quota['shared_bytes'])} saved by sharing them"
    )
    if quota.get("overflows"):
        yield "  what goes beyond the soft limit is taken as temporary"
    if forecast := quota.get("forecast"):
        yield f"  {forecast_text(forecast)}"


def limit_lines(group: Any, members: Collection[str] = LIMITS) -> Iterator[str]:
    """The limits of a group besides its quota: those of ``members``."""
    soft, files = group.get("soft_limit"), group.get("files_limit")
    said = {
        "soft_limit": f"soft limit   {'none' if soft is None else format_size(soft)}",
        "files_limit": f"files limit  {'none' if files is None else files}",
        "overflows": f"overflow     {'taken as temporary' if group.get('overflows') else 'no'}",
    }
    return (said[name] for name in LIMITS if name in members)


def forecast_text(forecast: Any) -> str:
    """When it is full, in words."""
    outlook, rate = forecast["outlook"], forecast["bytes_per_day"]
    if outlook == "growing":
        return f"full in {forecast['days_to_full']} days, at {format_size(rate)} a day"
    words = {
        "full": "full",
        "not-growing": "not growing",
        "not-enough-history": "no forecast yet: that takes a week",
    }
    return words.get(outlook, str(outlook))


def site_lines(site: Any) -> Iterator[str]:
    """All groups, the store, and what is promised."""
    pool, used = site["pool"], site["used_bytes"]
    yield f"{site['groups']} groups, {site['files']} files: {format_size(used)} used"
    for label, member in (*_LINES[:-1], *_BESIDE):
        yield f"  {label:<28} {format_size(site[member]):>10}"
    yield f"  {'distinct in each group':<28} {format_size(site['unique_in_groups_bytes']):>10}"
    yield f"  {'distinct in all':<28} {format_size(site['unique_bytes']):>10}"
    shared = format_size(site["shared_between_groups_bytes"])
    yield f"  {'shared between groups':<28} {shared:>10}"
    ratio = site["compression_ratio"]
    packed = "" if ratio is None else f"  {ratio:.2f} times smaller by compression"
    yield f"  {'in the store':<28} {format_size(site['stored_bytes']):>10}{packed}"
    for one in site["blocks"]:
        label = f"  {one['state']} blocks"
        yield f"  {label:<28} {format_size(one['stored_bytes']):>10}  {one['blocks']}"
    yield f"  {'promised by limits':<28} {format_size(pool['limit_bytes']):>10}"
    if pool["pool_bytes"] is not None:
        ratio = pool["overcommit_ratio"]
        times = "" if ratio is None else f"  promised {ratio:.2f} times"
        yield f"  {'pool of the site':<28} {format_size(pool['pool_bytes']):>10}{times}"


def outcome_line(row: Any) -> str:
    """What a row of a file did to its group."""
    changes = []
    for name, form in (
        ("quota_bytes", format_size),
        ("soft_limit", format_size),
        ("files_limit", str),
    ):
        before, after = row["before"][name], row["after"][name]
        if before != after:
            shown = ["none" if one is None else form(one) for one in (before, after)]
            changes.append(f"{name} {shown[0]} -> {shown[1]}")
    warning = "; BELOW what it holds" if row["below_use"] else ""
    return f"{row['group']}: {', '.join(changes)} (used {format_size(row['used_bytes'])}){warning}"
