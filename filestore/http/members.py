"""``/api/v1/groups/{g}/members``: who is in a group, in which role."""

from aiohttp import web

from filestore.acts.groups import page_of_members, seat_member, show_member, unseat_member
from filestore.acts.shares import set_member_share
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.groups import ONE, Bytes
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.members import Member
from filestore.model import Role, format_instant

PATH = ONE + "/members"


class MemberAnswer(Answer):
    """A member of a group, with what the member's files (older versions and the trash too) and
    running uploads take of it. ``share_bytes`` null: all that the group has."""

    user_id: str
    user: str
    role: Role
    created_at: str
    share_bytes: int | None
    used_bytes: int
    reserved_bytes: int

    @classmethod
    def of(cls, member: Member) -> "MemberAnswer":
        return cls(
            user_id=member.user_id,
            user=member.user_name,
            role=member.role,
            created_at=format_instant(member.created_at),
            share_bytes=member.share,
            used_bytes=member.used,
            reserved_bytes=member.reserved,
        )


class MemberPage(Answer):
    """Members by name."""

    items: list[MemberAnswer]
    next: str | None


class Membership(Body):
    """The role to have."""

    role: Role


class Share(Body):
    """What a member may take of the group at most; null: all that it has."""

    share_bytes: Bytes | None


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    rows = await page_of_members(
        call.services.db, call.group, after=paging.text_key(), limit=paging.wanted
    )
    shown, following = paging.cut(rows, lambda row: (row[0],))
    return reply(MemberPage(items=[MemberAnswer.of(one) for _, one in shown], next=following))


async def _show(call: Call) -> web.Response:
    member = await show_member(call.services.db, call.group, call.parameters["user"])
    return reply(MemberAnswer.of(member))


async def _put(call: Call) -> web.Response:
    wish = await call.json(Membership)
    member, is_new = await seat_member(
        call.services.db,
        call.principal,
        call.actor,
        call.group,
        call.parameters["user"],
        wish.role,
    )
    return reply(MemberAnswer.of(member), status=201 if is_new else 200)


async def _set_share(call: Call) -> web.Response:
    wish = await call.json(Share)
    member = await set_member_share(
        call.services.db, call.actor, call.group, call.parameters["user"], wish.share_bytes
    )
    return reply(MemberAnswer.of(member))


async def _remove(call: Call) -> web.Response:
    await unseat_member(
        call.services.db, call.principal, call.actor, call.group, call.parameters["user"]
    )
    return no_content()


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.VIEWER,
        site_admin=True,
        summary="List the members of a group",
        query=Paging,
        responses={200: MemberPage},
    ),
    Route(
        method="GET",
        path=PATH + "/{user}",
        handler=_show,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show a member",
        responses={200: MemberAnswer},
    ),
    Route(
        method="PUT",
        path=PATH + "/{user}",
        handler=_put,
        access=Access.MANAGER,
        site_admin=True,
        summary="Make a user a member, or change the role",
        request=Membership,
        responses={200: MemberAnswer, 201: MemberAnswer},
        refuses=(409,),
    ),
    Route(
        method="PUT",
        path=PATH + "/{user}/share",
        handler=_set_share,
        access=Access.MANAGER,
        site_admin=True,
        summary="Say what a member may take of the group; less than is taken stops new uploads",
        request=Share,
        responses={200: MemberAnswer},
    ),
    Route(
        method="DELETE",
        path=PATH + "/{user}",
        handler=_remove,
        access=Access.MANAGER,
        site_admin=True,
        summary="End a membership",
        responses={204: None},
        refuses=(409,),
    ),
)
