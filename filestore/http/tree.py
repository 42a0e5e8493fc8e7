"""``/api/v1/groups/{g}/tree``, ``/folders``, ``/move``, ``/copy``: the tree."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import Field

from filestore.acts import browse, tree
from filestore.acts.access import Need, group_access
from filestore.acts.browse import Located
from filestore.http.call import Answer, Body, Call, reply
from filestore.http.groups import ONE
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.database import Tx
from filestore.meta.entries import Entry, Version
from filestore.model import Actor, EntryKind, Role, Scope, format_instant
from filestore.names import parse_path, split_path


class TreeItem(Answer):
    """A file or folder. What only files have is null for folders; ``etag`` is as in the header.

    ``expires_at``: when the file goes, because it is temporary; null: it stays.
    """

    id: str
    kind: str
    name: str
    path: str
    size: int | None
    mime: str | None
    version: int | None
    created_at: str
    modified_at: str
    etag: str | None
    expires_at: str | None

    @classmethod
    def of(cls, located: Located) -> "TreeItem":
        return cls(**_fields(located))


class TreeAnswer(TreeItem):
    """What lies at a path and, page by page, what lies in it; a file is alone in its list."""

    items: list[TreeItem]
    next: str | None


class Relocation(Body):
    """Two whole paths below the group's root; ``to`` has the new name, and lies in ``to_group``
    (name or id) where that is given: the caller must be a member there, too."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    to_group: str | None = None


def quoted(version: Version) -> str:
    """The strong ETag of a version: of equal ones the bytes are equal. RFC 9110, 8.8.3."""
    return f'"{version.etag}"'


def expiry(version: Version) -> str | None:
    """When a temporary version goes; None: it stays."""
    return None if version.expires_at is None else format_instant(version.expires_at)


def _fields(located: Located) -> dict[str, Any]:
    entry, version = located.entry, located.version
    is_file = entry.kind is EntryKind.FILE
    changed_at = entry.changed_at if version is None else version.created_at
    return {
        "id": entry.id,
        "kind": "file" if is_file else "folder",
        "name": entry.name,
        "path": located.path,
        "size": version and version.size,
        "mime": version and version.mime,
        "version": version and version.number,
        "created_at": format_instant(entry.created_at),
        "modified_at": format_instant(changed_at),
        "etag": version and quoted(version),
        "expires_at": None if version is None else expiry(version),
    }


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    look = partial(
        browse.list_folder,
        group_id=call.group.id,
        path=split_path(call.raw_tail()) if call.route.is_tail else (),
        after=paging.text_key(),
        limit=paging.wanted,
    )
    top, rows = await call.services.db.read(look)
    shown, following = paging.cut(rows, lambda row: (row.key,))
    items = [TreeItem.of(row) for row in shown]
    return reply(TreeAnswer(**_fields(top), items=items, next=following))


async def _make_folder(call: Call) -> web.Response:
    path = split_path(call.raw_tail())

    async def act(tx: Tx) -> tuple[Located, bool]:
        folder, is_new = await tree.make_folder(tx, call.actor, call.group.id, path)
        return await browse.show(tx, folder), is_new

    made, is_new = await call.services.db.transact(act)
    return reply(TreeItem.of(made), status=201 if is_new else 200)


_Act = Callable[[Tx, Actor, str, tree.Path, tree.Path, str], Awaitable[Entry]]
_THERE = Need(role=Role.MEMBER, scope=Scope.WRITE)


async def _relocate(how: _Act, status: int, call: Call) -> web.Response:
    wish = await call.json(Relocation)
    source, target = parse_path(wish.source), parse_path(wish.target)

    async def act(tx: Tx) -> Located:
        into = call.group
        if wish.to_group is not None:
            into = await group_access(tx, call.principal, wish.to_group, _THERE)
        moved = await how(tx, call.actor, call.group.id, source, target, into.id)
        return await browse.show(tx, moved)

    return reply(TreeItem.of(await call.services.db.transact(act)), status=status)


ROUTES = (
    Route(
        method="GET",
        path=ONE + "/tree",
        handler=_list,
        access=Access.VIEWER,
        summary="List the group's root folder",
        query=Paging,
        responses={200: TreeAnswer},
    ),
    Route(
        method="GET",
        path=ONE + "/tree/{path}",
        handler=_list,
        access=Access.VIEWER,
        summary="Show a file, or a folder with what lies in it",
        query=Paging,
        responses={200: TreeAnswer},
    ),
    Route(
        method="PUT",
        path=ONE + "/folders/{path}",
        handler=_make_folder,
        access=Access.MEMBER,
        summary="Make a folder, and those above it; 200 when it is there already",
        responses={200: TreeItem, 201: TreeItem},
        refuses=(409,),
    ),
    Route(
        method="POST",
        path=ONE + "/move",
        handler=partial(_relocate, tree.move, 200),
        access=Access.MEMBER,
        summary="Move or rename a file or folder, to a name that is free, also in another group",
        request=Relocation,
        responses={200: TreeItem},
        refuses=(409, 413),
    ),
    Route(
        method="POST",
        path=ONE + "/copy",
        handler=partial(_relocate, tree.copy, 201),
        access=Access.MEMBER,
        summary="Copy a file, or a folder with all in it, to a name that is free, in any group",
        request=Relocation,
        responses={201: TreeItem},
        refuses=(409, 413),
    ),
)
