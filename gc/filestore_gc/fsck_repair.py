"""Carrying out a plan of repair, step by step; each step looks again before it changes anything.

Whatever breaks off may be repeated: a new check finds what is left.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

from sqlalchemy.exc import IntegrityError

from filestore.blocks.backend import BlockFetcher
from filestore.blocks.port import BlockKey, BlockQuarantine, StoredObject, StoreIdentity
from filestore.blocks.verified import VerifiedReader
from filestore.errors import BlockDamaged, BlockMissing, Json, StoreError
from filestore.failpoints import reached
from filestore.meta import contents, fsck, fsck_sums, healing, instance
from filestore.meta.blocks import enqueue
from filestore.meta.database import Database, Tx
from filestore.meta.log import audit, emit
from filestore.meta.turns import in_background
from filestore.model import SYSTEM, Actor, ContentState
from filestore_gc.fsck_objects import read_shape
from filestore_gc.fsck_plan import Act, Action, Left, Plan, batches
from filestore_gc.fsck_report import LISTED
from filestore_gc.heal import confirm_store, find_fault, heal_hashes, lose
from filestore_gc.progress import Progress, quiet
from filestore_gc.report import Problem

_BATCH: Final = 100
_PAGE: Final = 1000


class RepairStore(BlockFetcher, BlockQuarantine, StoreIdentity, Protocol):
    """What of a store a repair is handed: it removes only what was set aside."""


@dataclass(slots=True)
class Repaired:
    """What a repair has done. ``skipped``: was no longer as it was found, or could not be done."""

    done: Counter[Act] = field(default_factory=Counter)
    skipped: list[Left] = field(default_factory=list)
    healed: int = 0
    problem: Problem | None = None

    @property
    def moved(self) -> int:
        """How many steps changed something."""
        return sum(self.done.values())

    def add(self, other: "Repaired") -> None:
        self.done += other.done
        self.skipped = other.skipped
        self.healed += other.healed
        self.problem = other.problem

    def to_json(self) -> dict[str, Json]:
        return {
            "done": {act.value: count for act, count in self.done.items()},
            "skipped": [left.to_json() for left in self.skipped[:LISTED]],
            "healed_references": self.healed,
            "problem": None
            if self.problem is None
            else {"code": self.problem.code, "reason": self.problem.reason},
        }


class Repair:
    """Carries out one plan. Made for one run."""

    def __init__(self, db: Database, store: RepairStore, *, progress: Progress = quiet) -> None:
        self._progress = progress
        self._db = db
        self._store = store
        self._reader = VerifiedReader(store)
        self._day = ""
        self._keep_s = 0
        self.result = Repaired()

    @in_background
    async def apply(self, plan: Plan, actor: Actor = SYSTEM) -> Repaired:
        """Takes the plan's steps in their order; stops where the store stops answering.

        May be cancelled: what is done is done, and is in the audit log.

        :raises DatabaseUnavailable: what is done is done. Safe to check and repair again.
        """
        self._day, self._keep_s = plan.day, plan.keep_s
        try:
            await self._take(plan)
        except StoreError as err:
            self.result.problem = Problem(err.code, str(err))
        finally:
            if self.result.moved:
                reached("repair.done")
                await self._db.transact(partial(self._record, actor=actor))
        return self.result

    async def _take(self, plan: Plan) -> None:
        for action in plan.actions:
            if action.act not in (Act.RELEASE, Act.QUEUE, Act.SET_ASIDE, Act.EMPTY, Act.JOIN):
                await self._block(action)
        for action in plan.of(Act.RELEASE):
            await self._release(action)
        await self._queue(plan.of(Act.QUEUE))
        await self._set_aside(plan.of(Act.SET_ASIDE))
        for action in plan.of(Act.EMPTY):
            await self._empty(action)
        for action in plan.of(Act.JOIN):
            await self._join(action)

    async def _record(self, tx: Tx, actor: Actor) -> None:
        said: dict[str, Json] = {act.value: count for act, count in self.result.done.items()}
        await audit(tx, actor, "fsck.repair", after=said)
        await emit(tx, "fsck.repaired", said)

    def _note(self, action: Action, happened: bool, otherwise: str = "it changed") -> None:
        if happened:
            self.result.done[action.act] += 1
        else:
            self.result.skipped.append(Left(action.subject, otherwise))
        self._progress({"repaired": self.result.moved, "skipped": len(self.result.skipped)})

    async def _block(self, action: Action) -> None:
        if action.act is Act.ADOPT:
            return await self._adopt(action)
        block = action.block
        if block is None:
            return self._note(action, False)
        if action.act is Act.LOSE:
            fault = await find_fault(self._reader, block)
            lost = fault is not None and await lose(self._db, self._store, block, fault) is not None
            self._note(action, lost, "it reads well again")
        elif action.act is Act.CORRECT:
            self._note(action, await self._correct(block))
        elif action.act is Act.REVIVE:
            is_well = await find_fault(self._reader, block) is None
            self._note(action, is_well and await healing.revive(self._db, block))
        elif action.act is Act.HEAL:
            healed = await healing.heal(self._db, block.block_id)
            self.result.healed += healed
            self._note(action, healed > 0)

    async def _correct(self, block: healing.KnownBlock) -> bool:
        key = BlockKey(block.domain, block.hash, block.generation)
        try:
            shape = await read_shape(self._store, key)
        except (BlockDamaged, BlockMissing):
            return False
        if shape.size != block.size:
            return False
        act = partial(fsck.correct_shape, block=block, shape=shape)
        is_right = await self._db.transact(act)
        reached("repair.corrected")
        return is_right

    async def _adopt(self, action: Action) -> None:
        """A row for an object that the database has forgotten, then what that heals."""
        key = action.key
        if key is None:
            return self._note(action, False)
        try:
            shape = await read_shape(self._store, key)
            act = partial(
                fsck.adopt,
                domain_id=key.domain,
                name=(key.hash, key.generation),
                shape=shape,
                keep_us=self._keep_s * 1_000_000,
            )
            await self._db.transact(act)
        except (BlockDamaged, BlockMissing, IntegrityError):
            # another block has its hash, or no group its domain: superfluous either way
            return await self._set_aside([replace(action, act=Act.SET_ASIDE)])
        reached("repair.adopted")
        self._note(action, True)
        self.result.healed += await heal_hashes(self._db, key.domain, [key.hash])

    async def _release(self, action: Action) -> None:
        """Lets go of a content; the reaper takes its references and queues their blocks."""
        content_id = action.content_id
        if content_id is None:
            return self._note(action, False)
        act = partial(_release_unwanted, content_id=content_id)
        is_released = await self._db.transact(act)
        reached("repair.released")
        self._note(action, is_released)

    async def _queue(self, actions: Sequence[Action]) -> None:
        for some in batches(actions, _BATCH):
            ids = [action.block.block_id for action in some if action.block is not None]
            queued = await self._db.transact(partial(_queue_unlisted, ids=ids))
            reached("repair.queued")
            for action in some:
                self._note(action, action.block is not None and action.block.block_id in queued)

    async def _set_aside(self, actions: Sequence[Action]) -> None:
        """Asked of the database again: what has a row is not touched."""
        for some in batches(actions, _BATCH):
            await confirm_store(self._db, self._store)
            keys = {action.key: action for action in some if action.key is not None}
            for domain in sorted({key.domain for key in keys}):
                mine = [key for key in keys if key.domain == domain]
                names = [(key.hash, key.generation) for key in mine]
                look = partial(fsck.have_rows, domain_id=domain, names=names)
                known = await self._db.read(look)
                gone = [key for key in mine if (key.hash, key.generation) not in known]
                await self._store.set_aside(gone, self._day)
                reached("repair.set-aside")
                for key in mine:
                    self._note(keys[key], key in gone, "it has a row")

    async def _empty(self, action: Action) -> None:
        """Removes for good what was set aside on that day."""
        day, found = action.subject, True
        while found:
            walk = self._store.walk_aside(after=f"{day}/")
            page = [item.path async for item in _first(walk, _PAGE)]
            paths = [path for path in page if path.startswith(f"{day}/")]
            await self._store.remove_aside(paths)
            reached("repair.emptied")
            found = bool(paths)
        self._note(action, True)

    async def _join(self, action: Action) -> None:
        """Raises both epochs above what either was, the database's first."""
        await confirm_store(self._db, self._store)
        mark = await self._store.read_identity()
        seen = await self._db.read(instance.find_instance)
        if mark is None or seen is None:
            return self._note(action, False)
        epoch = max(mark[1], seen.epoch) + 1
        joined = await self._db.transact(partial(fsck.join_epochs, seen=seen, epoch=epoch))
        if joined:
            reached("repair.joined")
            await self._store.write_identity(seen.store_id, epoch)
            reached("repair.marked")
        self._note(action, joined)


async def _queue_unlisted(tx: Tx, ids: Sequence[int]) -> set[int]:
    """Queues those of the blocks that still nothing refers to and nobody queued."""
    found = {block.block_id for block in await fsck.NOT_LISTED.again(tx, ids)}
    await enqueue(tx, found, fsck.UNLISTED)
    return found


async def _release_unwanted(tx: Tx, content_id: int) -> bool:
    """Lets go of a content that never was complete and that still nobody has."""
    for found in await fsck_sums.UNWANTED.again(tx, [content_id]):
        if found.state is ContentState.BUILDING:
            await contents.abandon(tx, content_id)
            said: dict[str, Json] = {"bytes": found.size}
            await audit(tx, SYSTEM, "content.abandon", target=str(content_id), after=said)
            return True
    return False


async def _first(walk: AsyncIterator[StoredObject], count: int) -> AsyncIterator[StoredObject]:
    """The first so many of a walk."""
    async for item in walk:
        if count == 0:
            return
        count -= 1
        yield item
