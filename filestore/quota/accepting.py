"""Taking a restored database for what it is: heads outside of rows that it does not have go.

They say that the journal was longer once, or another. Who restored a backup knows why; the audit
log keeps what they were.
"""

from collections.abc import Sequence
from functools import partial

from filestore.blocks.port import StoreMarks
from filestore.errors import Json
from filestore.meta.database import Database, Tx
from filestore.meta.journal import last_seal
from filestore.meta.log import audit
from filestore.model import Actor
from filestore.quota.findings import JournalReport, Kind
from filestore.quota.sealing import KIND, Mark, marks_of


async def accept_heads(db: Database, store: StoreMarks, actor: Actor, report: JournalReport) -> int:
    """Removes the heads that ``report`` found unknown, and nothing else; how many.

    Each is in the audit log before it goes. Safe to repeat.

    :raises DatabaseUnavailable, StoreUnavailable: some may be gone; all that are were written down.
    """
    unknown: dict[str, set[tuple[int, Json]]] = {}
    for finding in report.findings:
        if finding.kind is Kind.MARK_UNKNOWN:
            unknown.setdefault(finding.group_id, set()).add((finding.seq, finding.expected))
    done = 0
    for group_id, heads in unknown.items():
        marks = await marks_of(store, group_id)
        gone = [mark for mark in marks if (mark.seq, mark.head.hex()) in heads]
        if gone:
            await _write_down(db, actor, group_id, gone)
            newest = await db.read(partial(last_seal, group_id=group_id))
            if newest is not None:  # its own mark went when those came that are unknown now
                await store.write_mark(KIND, Mark.of(newest).name)
            await store.remove_marks(KIND, [mark.name for mark in gone])
        done += len(gone)
    return done


async def _write_down(db: Database, actor: Actor, group_id: str, marks: Sequence[Mark]) -> None:
    heads: list[Json] = [
        {"seq": mark.seq, "day": mark.day.isoformat(), "head": mark.head.hex()} for mark in marks
    ]

    async def act(tx: Tx) -> None:
        await audit(
            tx, actor, "journal.accept", group_id=group_id, target=group_id,
            before={"heads": heads}, after={"heads": []},
        )  # fmt: skip

    await db.transact(act)
