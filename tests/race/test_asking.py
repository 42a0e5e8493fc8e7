"""A holder in another process is asked to let go, and loses nothing that it had read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from filestore.errors import FilestoreError, OffsetMismatch, UploadGone, UploadTakenOver
from filestore.meta.database import Tx
from filestore.meta.tables import processes, uploads
from filestore.meta.uploads import Upload, ask, lock
from filestore.model import KIB
from tests.contract.faulty import Fault, Kind
from tests.race.barriers import Paused
from tests.services.hot_path import ACTOR, SMALL, Held, Process, Site, cut, random_bytes, used_by

pytestmark = pytest.mark.usefixtures("no_lost_errors")

DATA = random_bytes(300 * KIB, "asking")
READ = 200_000
BOUND_S = 20.0
"""Of who is asked, on a busy machine too: tests that need the bound to pass set a short one."""


@pytest.fixture
async def pair(postgres_site: Site) -> AsyncIterator[list[Process]]:
    """Two processes that hear each other."""
    made = [
        await postgres_site.start(params=SMALL, transfer__lock_wait_s=BOUND_S) for _ in range(2)
    ]
    for process in made:
        await process.hot.transfers.neighbours.listener.is_listening.wait()
    yield made


async def _holding(at: Process) -> tuple[Upload, Held, asyncio.Task[Upload]]:
    """A request that has read ``READ`` bytes of an upload of ``DATA`` and waits for more."""
    upload = await at.begin(len(DATA))
    body = Held(DATA[:READ], DATA[READ:], step=10_000)
    running = asyncio.create_task(at.append(upload, 0, body))
    await body.waiting.wait()
    return upload, body, running


async def _check_whole(at: Process, upload: Upload) -> None:
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(DATA, SMALL)
    assert await at.read(upload.content_id, 0, len(DATA)) == DATA
    await at.check_books()
    await at.check_references()
    await at.check_rest()


async def test_who_looks_elsewhere_gets_all_that_the_holder_had_read(pair: list[Process]) -> None:
    first, second = pair
    upload, _, running = await _holding(first)
    found = await second.hot.transfers.status(upload.id)
    assert (found.offset, found.holder_id) == (READ, None)
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(second, await second.append(upload, READ, DATA[READ:]))
    await first.check_rest()


async def test_who_appends_elsewhere_is_told_how_far_the_holder_came(pair: list[Process]) -> None:
    first, second = pair
    upload, _, running = await _holding(first)
    with pytest.raises(OffsetMismatch) as refused:
        await second.append(upload, 0, DATA)
    assert refused.value.members == {"expected": READ, "got": 0}
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(first, await first.append(upload, READ, DATA[READ:]))


async def test_who_terminates_elsewhere_frees_the_reservation(pair: list[Process]) -> None:
    first, second = pair
    upload, _, running = await _holding(first)
    await second.hot.transfers.terminate(ACTOR, upload.id)
    with pytest.raises(FilestoreError):
        await running
    assert await used_by(second) == (0, 0)
    with pytest.raises(UploadGone):
        await first.append(upload, READ, DATA[READ:])
    await first.check_rest()


@pytest.mark.parametrize("deaf", [0, 1], ids=["holder", "newcomer"])
async def test_without_notices_both_sides_find_out_by_looking(
    pair: list[Process], deaf: int
) -> None:
    """As behind a pooler: the connection stands, and nothing ever comes."""
    for process in pair if deaf else pair[:1]:
        connection = process.hot.transfers.neighbours.listener.connection
        await connection.execute("UNLISTEN *")
    first, second = pair
    upload, _, running = await _holding(first)
    assert (await second.hot.transfers.status(upload.id)).offset == READ
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(second, await second.append(upload, READ, DATA[READ:]))


async def test_a_listener_that_lost_its_connection_listens_again(pair: list[Process]) -> None:
    first, second = pair
    listener = first.hot.transfers.neighbours.listener
    before = listener.connection
    upload = await first.begin(len(DATA), "beside")
    ended = sa.text(f"SELECT pg_terminate_backend({before.get_server_pid()})")
    await second.one(ended)
    async with asyncio.timeout(BOUND_S):
        while listener.connection in (None, before):
            await second.look(upload)
    upload, _, running = await _holding(first)
    assert (await second.hot.transfers.status(upload.id)).offset == READ
    with pytest.raises(UploadTakenOver):
        await running
    assert isinstance(listener.connection, asyncpg.Connection)


async def test_a_listener_that_broke_by_a_defect_listens_again_and_its_process_still_looks(
    pair: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    listener = first.hot.transfers.neighbours.listener
    before, listen, broke = listener.connection, listener._listen, asyncio.Event()

    async def broken(engine: AsyncEngine) -> None:
        monkeypatch.setattr(listener, "_listen", listen)
        broke.set()
        raise EOFError("no error that anybody expects here")

    monkeypatch.setattr(listener, "_listen", broken)
    upload, _, running = await _holding(first)
    await second.one(sa.text(f"SELECT pg_terminate_backend({before.get_server_pid()})"))
    async with asyncio.timeout(BOUND_S):
        await broke.wait()
        while listener.connection in (None, before):
            await second.look(upload)
    assert (await second.hot.transfers.status(upload.id)).offset == READ
    with pytest.raises(UploadTakenOver):
        await running


async def test_a_holder_that_does_not_answer_is_robbed_and_can_record_and_reserve_nothing(
    postgres_site: Site,
) -> None:
    first = await postgres_site.start(params=SMALL)
    second = await postgres_site.start(params=SMALL, transfer__lock_wait_s=0.3)
    upload = await first.begin(None)
    fault = Fault("put", 0, Kind.HOLD)
    first.store.plan = [fault]
    stuck = asyncio.create_task(first.append(upload, 0, random_bytes(READ, "stuck")))
    await fault.reached.wait()

    found = await second.hot.transfers.status(upload.id)
    assert (found.offset, found.epoch) == (0, (await first.look(upload)).epoch)
    half = await second.append(upload, 0, DATA[:READ])
    reserved = (await second.look(upload)).reserved
    first.store.plan = []
    fault.gate.set()
    with pytest.raises(UploadTakenOver):
        await stuck
    after = await second.look(upload)
    assert (after.offset, after.reserved) == (half.offset, reserved) == (READ, reserved)
    await second.append(upload, READ, DATA[READ:], length=len(DATA))
    await _check_whole(second, await second.look(upload))
    await first.check_rest()


async def test_a_holder_whose_process_is_dead_is_not_waited_for(pair: list[Process]) -> None:
    first, second = pair
    upload = await first.append(await first.begin(len(DATA)), 0, DATA[:READ])
    dead = sa.update(uploads).where(uploads.c.id == upload.id).values(holder_id=first.id)
    await second.change(dead)
    gone = sa.update(processes).where(processes.c.id == first.id).values(ended_at=1)
    await second.change(gone)
    async with asyncio.timeout(BOUND_S / 2):
        assert (await second.hot.transfers.status(upload.id)).offset == READ


async def test_a_newcomer_that_is_cancelled_while_it_waits_takes_nothing(
    pair: list[Process],
) -> None:
    first, second = pair
    fault = Fault("put", 1, Kind.HOLD)
    first.store.plan = [fault]
    upload, body, running = await _holding(first)
    await fault.reached.wait()
    epoch = (await first.look(upload)).epoch
    newcomer = asyncio.create_task(second.append(upload, 0, DATA))
    async with asyncio.timeout(BOUND_S):
        while (await first.look(upload)).wanted_epoch is None:
            continue
    newcomer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await newcomer
    found = await first.look(upload)
    assert (found.epoch, found.holder_id) == (epoch, first.id)
    await second.check_rest()
    fault.gate.set()
    body.gate.set()
    with suppress(UploadTakenOver):  # the asking stood already
        await running
    found = await second.hot.transfers.status(upload.id)
    if found.is_open:
        found = await second.append(upload, found.offset, DATA[found.offset :])
    await _check_whole(second, found)


async def test_the_last_of_many_newcomers_gets_its_turn(pair: list[Process]) -> None:
    first, second = pair
    upload, _, running = await _holding(first)
    crowd = [asyncio.create_task(at.hot.transfers.status(upload.id)) for at in (first, second) * 3]
    async with asyncio.timeout(BOUND_S):
        assert {(await one).offset for one in crowd} == {READ}
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(second, await second.append(upload, READ, DATA[READ:]))


async def test_who_asks_while_the_holder_lets_go_is_not_forgotten(pair: list[Process]) -> None:
    """The question is being committed while the holder frees the row: it goes on at once."""
    first, second = pair
    upload, body, running = await _holding(first)

    async def asked(tx: Tx) -> None:
        await ask(tx, await lock(tx, upload.id))

    async with Paused(second, asked) as asking:
        body.gate.set()
        taking = asyncio.create_task(second.hot.transfers.status(upload.id))
        await asking.go_on()
    with suppress(UploadTakenOver):
        await running
    found = await taking
    if found.is_open:
        found = await second.append(upload, found.offset, DATA[found.offset :])
    await _check_whole(second, found)


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
async def test_a_store_that_fails_once_while_the_holder_lets_go_loses_nothing_acknowledged(
    pair: list[Process], kind: Kind
) -> None:
    first, second = pair
    for nth in (1, 2, 3, 4):
        upload = await first.begin(len(DATA), f"{kind.name}-{nth}")
        told = (await first.append(upload, 0, DATA[:50_000])).offset
        body = Held(DATA[told:READ], DATA[READ:], step=10_000)
        first.store.calls.clear()
        first.store.plan = [Fault("put", nth, kind)]
        running = asyncio.create_task(first.append(upload, told, body))
        waiting = asyncio.create_task(body.waiting.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        found = await second.hot.transfers.status(upload.id)
        assert told <= found.offset <= READ
        waiting.cancel()
        with suppress(FilestoreError):
            await running
        first.store.plan = []
        assert (await first.look(upload)).offset == found.offset
        done = await second.append(upload, found.offset, DATA[found.offset :])
        await _check_whole(second, done)


async def test_a_cancellation_that_comes_with_what_is_waited_for_is_not_lost(
    postgres_site: Site,
) -> None:
    process = await postgres_site.start()
    neighbours = process.hot.transfers.neighbours
    for _ in range(20):
        looking = asyncio.create_task(neighbours._keep_looking())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        neighbours._look_now.set()
        looking.cancel()
        async with asyncio.timeout(5):
            with suppress(asyncio.CancelledError):
                await looking
        assert looking.cancelled()
