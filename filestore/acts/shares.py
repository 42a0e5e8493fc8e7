"""The act on what a member may take of a group."""

from filestore.acts.access import GroupAccess
from filestore.errors import NotFound
from filestore.meta.accounts import set_share
from filestore.meta.database import Database, Tx
from filestore.meta.log import audit, emit
from filestore.meta.members import Member, find_member
from filestore.model import Actor
from filestore.quota import ledger


async def set_member_share(
    db: Database, actor: Actor, access: GroupAccess, ref: str, share: int | None
) -> Member:
    """The member with the new share, in bytes; None: all that the group has.

    :raises NotFound: no such member.
    """

    async def act(tx: Tx) -> Member:
        await ledger.lock(tx, access.id)
        before = await find_member(tx, access.id, ref)
        if before is None:
            raise NotFound(what="member")
        await set_share(tx, access.id, before.user_id, share)
        if share != before.share:
            await audit(
                tx, actor, "member.share", group_id=access.id, target=before.user_id,
                before=before.share, after=share,
            )  # fmt: skip
            await emit(
                tx,
                "member.share",
                {"user": before.user_id, "name": before.user_name, "share_bytes": share},
                group_id=access.id,
            )
        after = await find_member(tx, access.id, before.user_id)
        assert after is not None, "the group's row is locked"
        return after

    return await db.transact(act)
