"""``/api/v1/groups/{g}/files/{path}``: a file by its path, for curl and for browsers."""

from functools import partial
from typing import Literal

from aiohttp import web

from filestore.acts import browse, tree
from filestore.acts.browse import Located
from filestore.acts.tree import Path
from filestore.acts.uploads import Guard, Request
from filestore.errors import BadHeader, BadName, Forbidden, NotFound
from filestore.failpoints import reached
from filestore.http.body import RequestBody
from filestore.http.call import Call, Query, no_content, reply
from filestore.http.completing import rights_again
from filestore.http.conditions import Conditions, Validators
from filestore.http.described import WRITING
from filestore.http.digests import HEADER as REPR_DIGEST
from filestore.http.digests import WANTED, format_known, parse_expected
from filestore.http.downloads import FileQuery, get_file, head_file
from filestore.http.groups import ONE
from filestore.http.media_guess import guess_media_type
from filestore.http.media_types import OCTETS, parse_media_type
from filestore.http.routing import Access, Route
from filestore.http.tree import TreeItem, quoted
from filestore.meta import entries
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Protocol, Role, Scope
from filestore.names import split_path
from filestore.quota import ledger

FILES = ONE + "/files/{path}"


class RemovalQuery(Query):
    """``permanent``: past the trash, for managers; there is no way back."""

    permanent: Literal["true", "false"] = "false"


async def _put(call: Call) -> web.Response:
    path = file_path(call)
    refuse_parts(call)
    body = RequestBody(call)
    headers = call.request.headers
    request = Request(
        group_id=call.group.id,
        domain_id=call.group.domain_id,
        user_id=call.principal.user_id,
        protocol=Protocol.HTTP,
        length=body.announced,
        folder=path[:-1],
        name=path[-1],
        mime=media_type(headers.get("Content-Type", ""), path[-1].given),
        expected=parse_expected(headers.get(REPR_DIGEST)),
        guard=guard(call.group.id, path, Conditions.of(headers), write=False),
    )
    again = rights_again(call, request.group_id, request.guard)
    upload = await call.services.transfers.put(call.actor, request, body, guard=again)
    return await answer_written(call, upload)


async def answer_written(call: Call, upload: Upload) -> web.Response:
    """The file that a finished upload made, as the answer to who sent its last byte."""
    look = partial(browse.written, version_id=str(upload.version_id))
    found = await call.services.db.read(look)
    if found is None or found.version is None:
        return no_content()  # somebody has deleted it for good in the meantime
    response = reply(TreeItem.of(found), status=201 if found.version.number == 1 else 200)
    response.headers["ETag"] = quoted(found.version)
    if WANTED in call.request.headers:
        sha256 = upload.expected.sha256  # it was checked, or the file would not be here
        known = format_known(blake3=found.version.blake3, sha256=sha256)
        response.headers.update({} if known is None else {REPR_DIGEST: known})
    return response


async def _delete(call: Call) -> web.Response:
    query = call.query(RemovalQuery)
    path = file_path(call)
    is_permanent = query.permanent == "true"
    if is_permanent:
        _check_may_purge(call)
    check = guard(call.group.id, path, Conditions.of(call.request.headers), write=True)
    db = call.services.db

    async def act(tx: Tx) -> None:
        if check is not None:
            await check(tx)
        await tree.put_in_trash(tx, call.actor, call.group.id, path)

    if is_permanent:
        await tree.remove_all(db, call.actor, call.group.id, path, check)
    else:
        await db.transact(act)
    reached("file.deleted")
    return no_content()


def refuse_parts(call: Call) -> None:
    """:raises BadHeader: the body is said to be a part of the file."""
    if "Content-Range" in call.request.headers:
        raise BadHeader(header="Content-Range", reason="a file is only taken whole")


def media_type(given: str, name: str) -> str:
    """What the client says; where it says nothing, what files of that name usually are."""
    return parse_media_type("Content-Type", given) if given.strip() else guess_media_type(name)


def file_path(call: Call) -> Path:
    """The path of the request, which is that of a file. :raises BadName: it cannot be one."""
    path = split_path(call.raw_tail())
    if not path:
        raise BadName(name="", reason="the path of a file has at least one name", rule="empty")
    return path


def _check_may_purge(call: Call) -> None:
    """What only the query tells, so the route's access cannot ask for it."""
    role = call.group.role
    if role is None or not role.includes(Role.MANAGER):
        raise Forbidden(needed=f"the role {Role.MANAGER}")
    if not call.principal.allows(Scope.MANAGE):
        raise Forbidden(needed=f"a token with the scope {Scope.MANAGE}")


def guard(group_id: str, path: Path, conditions: Conditions, *, write: bool) -> Guard | None:
    """Checks a request's conditions inside the transaction that changes the file.

    None when there are none. It takes the group's row and then the tree's root, in the order of
    all acts and as strongly as the act behind it does, so nobody can write to the path between
    the check and the change.
    """
    if not conditions:
        return None

    async def check(tx: Tx) -> None:
        await ledger.lock(tx, group_id)
        await entries.root(tx, group_id, write=write, share=not write)
        conditions.check_write(_validators(await _find(tx, group_id, path)))

    return check


async def _find(tx: Tx, group_id: str, path: Path) -> Located | None:
    try:
        return await browse.file_at(tx, group_id, path, None)
    except NotFound:
        return None


def _validators(found: Located | None) -> Validators | None:
    if found is None or found.version is None:
        return None
    return Validators(quoted(found.version), found.version.created_at // 1_000_000)


_WRITE_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
_READ_CONDITIONS = (*_WRITE_CONDITIONS, "If-Modified-Since")
_SHOWN = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition", "Repr-Digest")

ROUTES = (
    Route(
        method="GET",
        path=FILES,
        handler=get_file,
        access=Access.VIEWER,
        summary="The bytes of a file, or ranges of them",
        query=FileQuery,
        responses={200: OCTETS, 206: OCTETS, 304: None},
        headers=("Range", "If-Range", *_READ_CONDITIONS),
        answer_headers=(*_SHOWN, "Content-Range"),
        refuses=(412, 416),
    ),
    Route(
        method="HEAD",
        path=FILES,
        handler=head_file,
        access=Access.VIEWER,
        summary="Size, type, ETag and digest of a file",
        query=FileQuery,
        responses={200: None, 304: None},
        headers=_READ_CONDITIONS,
        answer_headers=_SHOWN,
        refuses=(412,),
    ),
    Route(
        method="PUT",
        path=FILES,
        handler=_put,
        access=Access.MEMBER,
        summary="Store a file whole: a new one, or a new version",
        request=OCTETS,
        responses={200: TreeItem, 201: TreeItem, 204: None},
        headers=("Repr-Digest", WANTED, *_WRITE_CONDITIONS),
        answer_headers=("ETag", "Repr-Digest"),
        refuses=(*WRITING, 412, 415),
    ),
    Route(
        method="DELETE",
        path=FILES,
        handler=_delete,
        access=Access.MEMBER,
        summary="Put a file or folder into the trash; permanent=true: past it, for managers",
        query=RemovalQuery,
        responses={204: None},
        headers=_WRITE_CONDITIONS,
        refuses=(409, 412),
    ),
)
