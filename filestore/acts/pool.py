"""What the site has for its groups, and that it promises them no more than its admins allow."""

from dataclasses import dataclass

from filestore.errors import Json, OverCommitted
from filestore.meta.database import Database, Tx
from filestore.meta.log import audit, emit
from filestore.meta.pool import Pool, change_pool, read_pool, sum_limits
from filestore.model import Actor


@dataclass(frozen=True, slots=True)
class Promises:
    """The pool and the limits of all groups together, which nobody else can raise meanwhile."""

    pool: Pool
    promised: int

    def check_growth(self, growth: int) -> None:
        """Lets the sum of all limits change by ``growth``; it may always get smaller.

        :raises OverCommitted: it would get larger than allowed; says how much is left.
        """
        allowed, after = self.pool.allowed, self.promised + growth
        if growth <= 0 or allowed is None or after <= allowed:
            return
        raise OverCommitted(
            after=after,
            allowed=allowed,
            promised=self.promised,
            pool=self.pool.bytes,
            overcommit_percent=self.pool.overcommit_percent,
            free=max(0, allowed - self.promised),
        )


async def hold_promises(tx: Tx) -> Promises:
    """Locks the row of the instance, before that of any group, and sums up in a new statement:
    who waited for the lock then sees what the other one promised."""
    pool = await read_pool(tx, lock=True)
    return Promises(pool, await sum_limits(tx))


async def show_pool(db: Database) -> Promises:
    """The pool, and what is promised of it."""

    async def look(tx: Tx) -> Promises:
        return Promises(await read_pool(tx), await sum_limits(tx))

    return await db.read(look)


async def alter_pool(db: Database, actor: Actor, pool: Pool) -> Promises:
    """Says what the site has. Less than is promised already is allowed: then nobody's limit can
    be raised until it fits again."""

    async def act(tx: Tx) -> Promises:
        before = await hold_promises(tx)
        if pool != before.pool:
            await change_pool(tx, pool)
            await audit(tx, actor, "site.change", before=_state(before.pool), after=_state(pool))
            await emit(tx, "site.changed", _state(pool))
        return Promises(pool, before.promised)

    return await db.transact(act)


def _state(pool: Pool) -> dict[str, Json]:
    return {"pool_bytes": pool.bytes, "overcommit_percent": pool.overcommit_percent}
