"""Rows against rows: references, sizes, offsets, counters, and blocks that nobody collects.

One table after the other, span by span. What a span seems to hold is looked at again under
the locks of its rows, in batches, before it is a finding.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from filestore.blocks.verified import VerifiedReader
from filestore.meta import fsck, fsck_sums
from filestore.meta.affected import Affected, affected_by_block, find_affected
from filestore.meta.audit_sums import NAMES
from filestore.meta.database import Database
from filestore.meta.fsck import Dead, Look
from filestore.meta.fsck_sums import Unwanted, WrongCounters, WrongReference, WrongSize
from filestore.meta.healing import KnownBlock
from filestore.model import BlockState, ContentState
from filestore_gc.fsck_report import Finding, Findings, Kind
from filestore_gc.heal import HealStore, find_fault, key_of

PAGE: Final = 10_000
"""Rows that one statement looks at: some 10 to 50 ms."""
GROUPS: Final = 100
"""Groups whose versions are summed up by one statement."""
BATCH: Final = 100
"""Rows looked at again together, under their locks: some milliseconds."""

LOOKS: Final = 8
"""Kinds of things that are looked for, one after the other."""

NOT_COMPLETE: Final = "is not complete"

T = TypeVar("T")
Tell = Callable[[T], Awaitable[Finding]]

_WORDS: Final = {
    Kind.CONTENT: ("content", "it has {said} bytes, its blocks come to {found}"),
    Kind.VERSION: ("version", "it has {said} bytes, its content {found}"),
    Kind.OFFSET: ("upload", "its offset is {said}, what is recorded before ends at {found}"),
}


class RowCheck:
    """Looks through all tables. ``page``: rows of one statement; ``on_page``: called behind
    each. ``looks``: how many of its :data:`LOOKS` are done."""

    def __init__(
        self,
        db: Database,
        store: HealStore,
        findings: Findings,
        *,
        page: int = PAGE,
    ) -> None:
        self._db = db
        self._reader = VerifiedReader(store)
        self._findings = findings
        self._page = page
        self.on_page: Callable[[], None] = lambda: None
        self.looks = 0

    def __repr__(self) -> str:
        return f"<RowCheck, {self.looks} of {LOOKS} looks, {self._findings!r}>"

    async def run(self) -> None:
        """:raises DatabaseUnavailable: what was found until then is found."""
        await self._through(fsck.DEAD, self._tell_dead)
        await self._through(fsck.NOT_LISTED, _tell_unlisted)
        await self._through(fsck_sums.REFERENCES, self._tell_reference)
        await self._through(fsck_sums.CONTENTS, partial(self._tell_size, Kind.CONTENT))
        await self._through(fsck_sums.UNWANTED, _tell_unwanted)
        await self._through(fsck_sums.VERSIONS, partial(self._tell_size, Kind.VERSION))
        await self._through(fsck_sums.UPLOADS, partial(self._tell_size, Kind.OFFSET))
        await self._through(fsck_sums.COUNTERS, _tell_counters, rows=GROUPS)

    async def _through(self, look: Look[T], tell: Tell[T], *, rows: int = PAGE) -> None:
        after = look.first
        while after is not None:
            page = partial(look.page, after=after, rows=min(rows, self._page))
            after, seen = await self._db.read(page)
            for at in range(0, len(seen), BATCH):
                names = [look.name(item) for item in seen[at : at + BATCH]]
                for item in await self._db.transact(partial(look.again, names=names)):
                    self._findings.add(await tell(item))
            self.on_page()
        self.looks += 1

    async def _tell_dead(self, dead: Dead) -> Finding:
        """Whose files refer to it, whether it still reads, and so what can be done."""
        block = dead.block
        affected = await self._db.read(partial(affected_by_block, block_id=block.block_id))
        finding = partial(
            Finding, subject=key_of(block).path, size=block.size, block=block, affected=affected
        )
        if dead.twin_id is not None:
            said = f"it is {block.state}, and a live block has the same bytes"
            return finding(Kind.HEALABLE, said=said)
        if block.state is BlockState.LOST:
            return finding(Kind.DEAD, said="it is lost; whoever sends its bytes again heals it")
        fault = await find_fault(self._reader, block)
        said = f"it is {block.state}; {fault or 'it still reads well'}"
        return finding(Kind.DEAD, said=said, reads_well=fault is None)

    async def _tell_reference(self, wrong: WrongReference) -> Finding:
        gap = wrong.offset - wrong.expected
        said = f"bytes {wrong.expected} to {wrong.offset} are missing"
        if gap < 0:
            said = f"bytes {wrong.offset} to {wrong.expected} are there twice"
        elif gap == 0:
            said = f"the reference at byte {wrong.offset} does not fit its block"
        affected = await self._affected(wrong.content_id)
        subject = f"content {wrong.content_id}"
        return Finding(Kind.REFERENCE, subject, said, size=abs(gap), affected=affected)

    async def _tell_size(self, kind: Kind, wrong: WrongSize) -> Finding:
        noun, sentence = _WORDS[kind]
        found = NOT_COMPLETE if wrong.found < 0 else wrong.found
        said = sentence.format(said=wrong.said, found=found)
        affected = await self._affected(wrong.content_id)
        return Finding(kind, f"{noun} {wrong.id}", said, size=wrong.said, affected=affected)

    async def _affected(self, content_id: int | None) -> Affected:
        if content_id is None:
            return Affected()
        return await self._db.read(partial(find_affected, content_ids=[content_id]))


async def _tell_unlisted(block: KnownBlock) -> Finding:
    said = f"it is {block.state}, nothing refers to it, and it is not queued"
    size = block.stored_size or block.size
    return Finding(Kind.UNLISTED, key_of(block).path, said, size=size, block=block)


async def _tell_unwanted(unwanted: Unwanted) -> Finding:
    said = f"it is {unwanted.state}, and no version and no upload has it"
    subject = f"content {unwanted.content_id}"
    is_whole = unwanted.state is ContentState.COMPLETE
    return Finding(
        Kind.UNWANTED,
        subject,
        said,
        size=unwanted.size,
        content_id=unwanted.content_id,
        reads_well=is_whole,
    )


async def _tell_counters(wrong: WrongCounters) -> Finding:
    account = wrong.account
    parts = [
        f"{name} is {counter}, its rows come to {true}"
        for name, counter, true in zip(NAMES, account.counters, account.truth, strict=True)
        if counter != true
    ]
    if wrong.members:
        parts.append(f"of {wrong.members} members the accounts are not what they take")
    off = account.counters.less(account.truth)
    size = abs(off.used) + abs(off.reserved)
    return Finding(Kind.COUNTERS, f"group {account.name}", "; ".join(parts), size=size)
