"""A membership that ends while an upload completes: one is first, also between processes."""

import asyncio
from functools import partial

import pytest
import sqlalchemy as sa

from filestore.acts.upload_access import check_still_writes
from filestore.errors import Forbidden, NotFound, Unauthenticated
from filestore.ids import new_token, token_hash
from filestore.meta.database import Tx
from filestore.meta.members import put_member, remove_member
from filestore.meta.tables import memberships
from filestore.meta.tokens import find_bearer, insert_token, revoke_token
from filestore.model import Principal, Role, Scope
from filestore.names import check_label
from filestore.quota import ledger
from tests.race.barriers import Paused, until_waiting
from tests.services.collecting import start
from tests.services.hot_path import ACTOR, GROUP, USER, Process, Site

pytestmark = pytest.mark.usefixtures("no_lost_errors")

PRINCIPAL = Principal(USER, "tester", False, "tok_test", frozenset(Scope))


async def _caller(tx: Tx) -> Principal:
    return PRINCIPAL


RIGHTS = partial(check_still_writes, caller=_caller, group_id=GROUP)


@pytest.fixture
async def at(postgres_site: Site) -> Process:
    process = await start(postgres_site)
    await process.transact(put_member, GROUP, USER, Role.MEMBER)
    return process


async def _unseat(tx: Tx) -> None:
    """As ``acts.groups.unseat_member`` does."""
    await ledger.lock(tx, GROUP)
    await remove_member(tx, GROUP, USER)


async def _lower(tx: Tx) -> None:
    await ledger.lock(tx, GROUP)
    await put_member(tx, GROUP, USER, Role.VIEWER)


@pytest.mark.parametrize(("act", "error"), [(_unseat, NotFound), (_lower, Forbidden)])
async def test_who_completes_while_it_loses_the_right_waits_and_is_refused(
    at: Process, act: object, error: type[Exception]
) -> None:
    upload = await at.begin(10)
    await at.append(upload, 0, b"hello")
    async with Paused(at, act) as losing:  # type: ignore[arg-type]
        completing = asyncio.create_task(at.append(upload, 5, b"world", guard=RIGHTS))
        await until_waiting(at, completing)
        await losing.go_on()
        with pytest.raises(error):
            await completing
    found = await at.look(upload)
    assert (found.state, found.offset, found.reserved) == ("open", 5, 10)
    await at.check_books()
    await at.check_rest()


async def test_a_token_that_is_revoked_while_it_waits_makes_no_file(at: Process) -> None:
    secret = new_token()
    named = check_label("phone", "a token")
    scopes = [Scope.READ, Scope.WRITE]
    make = partial(
        insert_token, secret=secret, user_id=USER, name=named, scopes=scopes, groups=None,
        expires_at=None,
    )  # fmt: skip
    token = await at.db.transact(make)

    async def caller(tx: Tx) -> Principal:
        bearer = await find_bearer(tx, token_hash(secret))
        if bearer is None:
            raise Unauthenticated()
        return bearer.principal

    guard = partial(check_still_writes, caller=caller, group_id=GROUP)
    upload = await at.begin(10)
    async with Paused(at, lambda tx: ledger.lock(tx, GROUP)) as other:
        completing = asyncio.create_task(at.append(upload, 0, b"helloworld", guard=guard))
        await until_waiting(at, completing)
        assert await at.db.transact(partial(revoke_token, token_id=token.id))
        await other.go_on()
        with pytest.raises(Unauthenticated):
            await completing
    assert (await at.look(upload)).state == "open"
    await at.hot.transfers.terminate(ACTOR, upload.id)


async def test_who_completes_first_has_a_file_and_the_right_ends_behind_it(at: Process) -> None:
    upload = await at.begin(10)

    async with Paused(at, RIGHTS) as completing:
        losing = asyncio.create_task(at.db.transact(_unseat))
        await until_waiting(at, losing)
        await completing.go_on()
        await losing
    assert not await at.all(sa.select(memberships.c.role).where(memberships.c.user_id == USER))
    with pytest.raises(NotFound):
        await at.append(upload, 0, b"helloworld", guard=RIGHTS)
    await at.hot.transfers.terminate(ACTOR, upload.id)
