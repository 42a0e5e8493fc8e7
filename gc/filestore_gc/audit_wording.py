"""What an audit found, for people: lines made from the same document that JSON gives."""

from collections.abc import Iterator, Mapping
from typing import Any

from filestore.model import format_size

Document = Mapping[str, Any]

_FILES = ("files", "reserved_files")


def audit_lines(report: Document) -> Iterator[str]:
    """The verdict, what differs and why, what would correct it, or what did."""
    accounts, rows = report["accounts"], report["journal_rows"]
    yield f"{accounts} accounts and {rows} rows of their journals looked at"
    yield _verdict(report)
    for account in report["found"]:
        yield from _account_lines(account, is_repair=report["is_repair"])
    if report["omitted"]:
        yield f"  and {report['omitted']} more accounts"
    for note in report["notes"]:
        yield f"  note: {note['account']}: {note['note']}"
    if report["physical"] is not None:
        yield from _physical_lines(report["physical"])
    if report["problem"] is not None:
        yield f"the store could not be looked at: {report['problem']['reason']}"


def _verdict(report: Document) -> str:
    size, files = format_size(report["difference_bytes"]), report["difference_files"]
    more = f" and {files} files" if files else ""
    said = f"verified at {report['verified_at']}, difference {size}{more}"
    if not report["drifted_accounts"] and not more:
        return said
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report["kinds"].items()))
    done = ", all of it corrected" if report["result"] == "corrected" else ""
    return f"{said} in {report['drifted_accounts']} accounts ({kinds}){done}"


def _account_lines(account: Document, *, is_repair: bool) -> Iterator[str]:
    yield f"  {'pool' if account['is_pool'] else 'group'} {account['name']}"
    for each in account["differences"]:
        yield f"    {_difference(each)}"
    if account["omitted"]:
        yield f"    and {account['omitted']} more"
    plan = account["plan"]
    word = "corrected" if account["is_corrected"] else "would be corrected"
    if not (plan["rows"] or plan["members"]):
        yield "    left: no correction of a counter puts this right"
        return
    if is_repair and not account["is_corrected"]:
        word = "not corrected"
    before, truth = account["before"], account["truth"]
    moved = [
        f"{name} {before[name]} -> {truth[name]}" for name in before if before[name] != truth[name]
    ]
    yield f"    {word}: {', '.join(moved) or 'the counters stay'}"
    for row in plan["rows"]:
        yield f"      entry {_moves(row)}: {row['why']}{_about(row)}"
    for member in plan["members"]:
        used, reserved = member["used"], member["reserved"]
        change = f"used {used[0]} -> {used[1]}, reserved {reserved[0]} -> {reserved[1]}"
        yield f"      member {member['user']}: {change}"
    if plan["omitted"]:
        yield f"      and {plan['omitted']} more entries"
    for each in account["left"]:
        yield f"    left: {_difference(each)}"


def _difference(each: Document) -> str:
    unit = "files" if each["figure"] in _FILES else "B"
    size = f"{each['found'] - each['expected']:+} {unit}"
    about = each["path"] or each["entry"] or each["upload"] or each["version"] or ""
    who = f" of {each['member']}" if each["member"] else ""
    what = f"{about}{who}".strip()
    last = each["last_row"]
    seen = f" (last row {last['seq']}, {last['cause']}, {last['at']})" if last else ""
    return f"{each['figure']} {size}{f', {what}' if what else ''}: {each['cause']}{seen}"


def _moves(row: Document) -> str:
    names = ("used", "reserved", "files", "reserved_files")
    return ", ".join(f"{name} {row[f'delta_{name}']:+}" for name in names if row[f"delta_{name}"])


def _about(row: Document) -> str:
    about = row["path"] or row["entry"] or row["upload"]
    return f" ({about})" if about else ""


def _physical_lines(physical: Document) -> Iterator[str]:
    size = format_size(physical["object_bytes"])
    yield (
        f"the store lists {physical['objects']} objects ({size}),"
        f" difference {format_size(physical['difference_bytes'])}"
    )
    for state in physical["states"]:
        yield (
            f"  {state['state']}: {state['blocks']} blocks of {format_size(state['bytes'])} take"
            f" {format_size(state['stored_bytes'])}; listed {state['objects']} objects,"
            f" {format_size(state['object_bytes'])}"
        )
    for domain in physical["domains"]:
        size = format_size(domain["bytes"])
        yield f"  domain {domain['domain']}: {domain['objects']} objects, {size}"
    for finding in physical["findings"]:
        yield f"  {finding['kind']} {finding['subject']}: {finding['said']}"
    if physical["omitted"] or not physical["complete"]:
        yield "  there is more of this than is listed"
