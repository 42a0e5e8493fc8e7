"""``filestore group`` and ``member``."""

from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, Group, Quota, User, duration_s
from filestore.cli.output import Column, SizeColumn, show, show_list, size_of
from filestore.cli.quota_text import limit_lines
from filestore.client.transport import Document
from filestore.model import Role, format_size, parse_size

group_app = typer.Typer(help="Groups own files and a quota.", no_args_is_help=True)
member_app = typer.Typer(help="Who may do what in a group.", no_args_is_help=True)


@group_app.command("create")
def create_group(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new group's name.")],
    quota: Quota = None,
    as_json: AsJson = False,
) -> None:
    """Create a group."""
    group = run(lambda client: client.groups.create(name, quota))
    done = f"created group {name} with {size_of(group, 'quota_bytes')}"
    show(group, done, as_json=as_json)


@group_app.command("list")
def list_groups(as_json: AsJson = False) -> None:
    """List the groups that you see."""
    columns = (
        Column("NAME", "name"),
        SizeColumn("USED", "used_bytes"),
        SizeColumn("RESERVED", "reserved_bytes"),
        SizeColumn("QUOTA", "quota_bytes"),
        Column("YOUR ROLE", "role"),
    )
    items = collect(lambda client: client.groups.list())
    show_list(items, columns, as_json=as_json, empty="no groups")


@group_app.command("show")
def show_group(group: Group, as_json: AsJson = False) -> None:
    """Show one group."""
    found = run(lambda client: client.groups.show(group))
    lines = [
        f"{found.get('name')} ({found.get('id')})",
        f"quota        {size_of(found, 'quota_bytes')}",
        *limit_lines(found),
        f"used         {size_of(found, 'used_bytes')}",
        f"reserved     {size_of(found, 'reserved_bytes')}",
        f"warned       {_warned(found)}",
        f"your role    {found.get('role') or '-'}",
        f"created      {found.get('created_at')}",
        f"trash        is kept for {days_of(found, 'trash_retention_s')}",
        f"versions     {_kept_versions(found)}",
    ]
    show(found, *lines, as_json=as_json)


@group_app.command("rename")
def rename_group(
    group: Group,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    as_json: AsJson = False,
) -> None:
    """Rename a group. Its id, its files and its members stay."""
    renamed = run(lambda client: client.groups.rename(group, name))
    show(renamed, f"group {group} is now called {name}", as_json=as_json)


@group_app.command("retention")
def set_retention(
    group: Group,
    time: Annotated[
        int,
        typer.Argument(
            parser=duration_s, metavar="TIME", help="30d, 12h, or 0d: it is not kept at all."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Set how long a group's trash is kept before it is deleted for good."""
    changed = run(lambda client: client.groups.set_trash_retention(group, time))
    kept = days_of(changed, "trash_retention_s")
    show(changed, f"the trash of {group} is kept for {kept}", as_json=as_json)


@group_app.command("delete")
def delete_group(group: Group, as_json: AsJson = False) -> None:
    """Delete a group."""
    run(lambda client: client.groups.delete(group))
    show({"group": group, "deleted": True}, f"deleted group {group}", as_json=as_json)


def _warned(group: Document) -> str:
    percent = group.get("warned_percent")
    return f"at {percent} %" if percent else "of nothing"


def _kept_versions(group: Document) -> str:
    """Which versions of a file its group keeps."""
    rules = []
    if count := group.get("versions_keep"):
        rules.append(f"the newest {count}")
    if group.get("versions_keep_s"):
        rules.append(f"those replaced within {days_of(group, 'versions_keep_s')}")
    return f"{' and '.join(rules) or 'all'} are kept"


def days_of(group: Document, member: str) -> str:
    """A duration of the document for people, in the largest unit that says it exactly."""
    seconds = group.get(member)
    if not isinstance(seconds, int):
        return "-"
    size, unit = next(
        (size, unit) for size, unit in ((86_400, "d"), (3600, "h"), (1, "s")) if seconds % size == 0
    )
    return f"{seconds // size} {unit}"


@member_app.command("add")
def add_member(
    group: Group,
    user: User,
    role: Annotated[Role, typer.Option(help="What the member may do.")] = Role.MEMBER,
    as_json: AsJson = False,
) -> None:
    """Make a user a member of a group, or change the role."""
    member = run(lambda client: client.groups.add_member(group, user, role))
    show(member, f"{user} is {role.value} of {group}", as_json=as_json)


@member_app.command("share")
def set_share(
    group: Group,
    user: User,
    size: Annotated[
        str, typer.Argument(metavar="SIZE", help="10GiB, or none: all that the group has.")
    ],
    as_json: AsJson = False,
) -> None:
    """Set what a member may take of a group's quota: files, old versions, trash, uploads."""
    share = None if size == "none" else _size(size)
    member = run(lambda client: client.groups.set_share(group, user, share))
    said = "all that the group has" if share is None else format_size(share)
    show(member, f"{user} may take {said} of {group}", as_json=as_json)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err


@member_app.command("remove")
def remove_member(group: Group, user: User, as_json: AsJson = False) -> None:
    """End a membership."""
    run(lambda client: client.groups.remove_member(group, user))
    result: Document = {"group": group, "user": user, "removed": True}
    show(result, f"{user} is no longer a member of {group}", as_json=as_json)


@member_app.command("list")
def list_members(group: Group, as_json: AsJson = False) -> None:
    """List the members of a group."""
    columns = (
        Column("USER", "user"),
        Column("ROLE", "role"),
        SizeColumn("USED", "used_bytes"),
        SizeColumn("RESERVED", "reserved_bytes"),
        SizeColumn("SHARE", "share_bytes"),
        Column("ID", "user_id"),
    )
    items = collect(lambda client: client.groups.members(group))
    show_list(items, columns, as_json=as_json, empty="no members")
