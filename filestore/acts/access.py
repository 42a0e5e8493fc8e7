"""What a principal may do: the token's rights and the membership of this moment, both.

Who may not see a group cannot tell it from one that does not exist. A site admin sees all
groups in the list, so what he may not do in one is refused by its reason.
"""

from dataclasses import dataclass
from typing import Final

from filestore.errors import Forbidden, NotFound
from filestore.meta.database import Tx
from filestore.meta.groups import find_group
from filestore.meta.members import role_of
from filestore.model import Principal, Role, Scope

SITE_ADMIN: Final = "a site admin and a token with the scope admin that is not limited to groups"

MEMBERSHIP: Final = "membership of the group, which a site admin may give"


@dataclass(frozen=True, slots=True)
class GroupAccess:
    """A group that the caller may act on. ``role`` is None for a site admin who is no member."""

    id: str
    name: str
    domain_id: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class Need:
    """What an act on a group needs. ``site_admin``: a site admin passes without the rest."""

    role: Role | None = None
    scope: Scope | None = None
    site_admin: bool = False


def is_site_admin(principal: Principal) -> bool:
    """Whether the caller may administer the whole service now.

    A token that is limited to groups never may: else it could make itself one that is not.
    """
    return principal.is_admin and principal.allows(Scope.ADMIN) and principal.groups is None


def require_site_admin(principal: Principal) -> None:
    """:raises Forbidden: the caller is not a site admin, or the token does not allow it."""
    if not is_site_admin(principal):
        raise Forbidden(needed=SITE_ADMIN)


async def group_access(tx: Tx, principal: Principal, ref: str, need: Need) -> GroupAccess:
    """The group ``ref`` (name or id), when the caller may do now what ``need`` says.

    :raises NotFound: no such group, or the caller is no member, or the token is limited to others.
    :raises Forbidden: a member, but the role or the token's scope is missing; or a site admin who
        is no member; says which.
    """
    group = await find_group(tx, ref)
    if group is None or (principal.groups is not None and group.id not in principal.groups):
        raise NotFound(what="group")
    role = await role_of(tx, group.id, principal.user_id)
    access = GroupAccess(group.id, group.name, group.domain_id, role)
    if need.site_admin and is_site_admin(principal):
        return access
    if role is None and is_site_admin(principal):
        raise Forbidden(needed=MEMBERSHIP)
    if role is None:
        raise NotFound(what="group")
    if need.scope is not None and not principal.allows(need.scope):
        raise Forbidden(needed=f"a token with the scope {need.scope}")
    if need.role is not None and not role.includes(need.role):
        raise Forbidden(needed=f"the role {need.role}")
    return access
