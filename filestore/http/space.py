"""``/api/v1/groups/{g}/freeable`` and ``/damaged``: what would be freed, what cannot be read.

A group learns of its own references only. What others hold of the same bytes is in
``physical``, for site admins.
"""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts.access import is_site_admin
from filestore.http.call import Answer, Call, Query, reply
from filestore.http.groups import ONE
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.http.trash import TRASH
from filestore.meta.affected import DamagedFile
from filestore.names import MAX_PATH_BYTES, parse_path
from filestore_gc import list_damaged, show_freeable, show_trashed


class PathQuery(Query):
    """Which file or folder; left out: all that lives in the group."""

    path: Annotated[str, Field(max_length=MAX_PATH_BYTES)] = ""


class HolderItem(Answer):
    """What else in the group refers to some of the bytes: a file, or an upload by its id."""

    path: str
    bytes: int
    trashed: bool
    upload: bool


class GroupHolderItem(Answer):
    """Another group that refers to some of the bytes."""

    group: str
    name: str
    bytes: int


class PhysicalAnswer(Answer):
    """Of the bytes in the store: what would go, what would stay, and which groups hold that."""

    freed_bytes: int
    kept_bytes: int
    held_by_groups: list[GroupHolderItem]


class FreeableAnswer(Answer):
    """``quota_bytes``: what deleting it for good gives back to the group at once.

    Of its distinct blocks, nothing else in the group refers to ``unique_bytes``; ``held_by``
    says what refers to the others, those first that hold most.
    """

    path: str
    quota_bytes: int
    versions: int
    unique_bytes: int
    shared_bytes: int
    held_by: list[HolderItem]
    physical: PhysicalAnswer | None = None


class DamagedItem(Answer):
    """A version of a file that cannot be read whole: uploading the same bytes again heals it."""

    version_id: str
    path: str
    version: int | None
    bytes: int
    current: bool
    trashed: bool

    @classmethod
    def of(cls, found: DamagedFile) -> "DamagedItem":
        file = found.file
        return cls(
            version_id=found.id,
            path=file.path,
            version=file.version,
            bytes=found.size,
            current=file.is_current,
            trashed=file.is_trashed,
        )


class DamagedPage(Answer):
    """Damaged versions, those in the trash included. Empty again when all is healed."""

    items: list[DamagedItem]
    next: str | None


async def _freeable(call: Call) -> web.Response:
    found = await show_freeable(
        call.services.db,
        call.group.id,
        parse_path(call.query(PathQuery).path),
        is_admin=is_site_admin(call.principal),
    )
    return reply(FreeableAnswer.model_validate(found.to_json()))


async def _trashed(call: Call) -> web.Response:
    found = await show_trashed(
        call.services.db,
        call.group.id,
        call.parameters["entry"],
        is_admin=is_site_admin(call.principal),
    )
    return reply(FreeableAnswer.model_validate(found.to_json()))


async def _damaged(call: Call) -> web.Response:
    paging = call.query(Paging)
    page = await list_damaged(
        call.services.db, call.group.id, after=paging.text_key() or "", limit=paging.wanted
    )
    shown, following = paging.cut(page.files, lambda found: (found.id,))
    return reply(DamagedPage(items=[DamagedItem.of(found) for found in shown], next=following))


ROUTES = (
    Route(
        method="GET",
        path=ONE + "/freeable",
        handler=_freeable,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show what deleting a file or folder would free",
        query=PathQuery,
        responses={200: FreeableAnswer},
    ),
    Route(
        method="GET",
        path=TRASH + "/{entry}/freeable",
        handler=_trashed,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show what deleting something in the trash for good would free",
        responses={200: FreeableAnswer},
    ),
    Route(
        method="GET",
        path=ONE + "/damaged",
        handler=_damaged,
        access=Access.VIEWER,
        site_admin=True,
        summary="List the files of a group that cannot be read whole",
        query=Paging,
        responses={200: DamagedPage},
    ),
)
