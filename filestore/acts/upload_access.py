"""Who may go on with an upload, complete it, and end it, as things stand now.

An upload's address names no group, so its group is looked up first. Who may not see the group
cannot tell the upload from one that does not exist.
"""

from collections.abc import Awaitable, Callable

from filestore.acts.access import Need, group_access
from filestore.errors import Forbidden, NotFound, WrongProtocol
from filestore.ids import is_id
from filestore.meta import uploads
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Principal, Protocol, Role, Scope
from filestore.quota import ledger

_WRITE = Need(role=Role.MEMBER, scope=Scope.WRITE)
_MANAGE = Need(role=Role.MANAGER, scope=Scope.MANAGE)


async def upload_to_continue(
    tx: Tx, principal: Principal, upload_id: str, protocol: Protocol
) -> Upload:
    """The upload, if the caller began it, by this protocol, and may still write to its group.

    :raises NotFound: no such upload, or the caller is no member of its group.
    :raises Forbidden: a member who did not begin it, or who may not write any more.
    :raises WrongProtocol: it was begun by another one.
    """
    upload = await _visible(tx, principal, upload_id)
    if upload.user_id != principal.user_id:
        raise Forbidden(needed="to be the user who began the upload")
    await group_access(tx, principal, upload.group_id, _WRITE)
    if upload.protocol is not protocol:
        raise WrongProtocol(spoken=upload.protocol, got=protocol)
    return upload


async def upload_to_end(tx: Tx, principal: Principal, upload_id: str) -> Upload:
    """The upload, if the caller began it and may still write, or manages its group.

    By whatever protocol it goes on: who manages a group ends any of its uploads.

    :raises NotFound: no such upload, or the caller is no member of its group.
    :raises Forbidden: another member.
    """
    upload = await _visible(tx, principal, upload_id)
    need = _WRITE if upload.user_id == principal.user_id else _MANAGE
    await group_access(tx, principal, upload.group_id, need)
    return upload


async def check_still_writes(
    tx: Tx, caller: Callable[[Tx], Awaitable[Principal]], group_id: str
) -> None:
    """Lets an upload complete whose client may still write to its group.

    It takes the group's row first, as whoever changes a membership does: one of them is first.
    Only then it asks for the ``caller``: a token that was revoked during the wait is none.

    :raises NotFound: the caller is no member any more.
    :raises Forbidden: a member who may not write any more.
    """
    await ledger.lock(tx, group_id)
    principal = await caller(tx)
    try:
        await group_access(tx, principal, group_id, _WRITE)
    except NotFound as err:
        raise NotFound(what="upload") from err


async def _visible(tx: Tx, principal: Principal, upload_id: str) -> Upload:
    upload = await uploads.find(tx, upload_id) if is_id("upl", upload_id) else None
    if upload is None:
        raise NotFound(what="upload")
    try:
        await group_access(tx, principal, upload.group_id, Need())
    except NotFound as err:
        raise NotFound(what="upload") from err
    return upload
