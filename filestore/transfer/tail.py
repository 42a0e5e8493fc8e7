"""The tail of an upload: the bytes behind its last cut, stored so that they are not lost.

A tail is up to 24 *provisional* rows. A flush adds only the new bytes; when there are so many,
the last few of them become one with it. The next request reads the tail back and goes on cutting
as if its bytes had just come, so cuts do not depend on how a file was split into requests.

While memory is short a request lets go of its tail, and what comes then is added to the rows
without a look at them, until they have doubled. So a tail may have cuts in it, which are found
when it is read back; it never has more bytes than the largest block.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from filestore.transfer.recording import Row
from filestore_chunker import block_hash

MAX_ROWS: Final = 24
"""Rows of a tail. Each is an object in the store, and who goes on with an upload whose tail is no
longer in memory reads them one after the other. More rows are rewritten less often."""


def merged_from(sizes: Sequence[int], added: int) -> int:
    """Which of the rows of these sizes is the first to become one with ``added`` new bytes, when
    there is no room for one more.

    The sizes of the rows fall, like those of the files of a log-structured store: rewriting is
    cheap where what is rewritten is small beside the row before it. Of all the ends of the tail
    the one with the best such ratio goes. A client that sends 1 KiB a request then writes each
    byte some 3 times before a cut comes at 1 MiB, and 6 times if it comes at 4 MiB; making one row
    of all each time, 20 and 80 times.
    """
    best, best_ratio, total = 0, math.inf, added
    for index in range(len(sizes) - 1, 0, -1):
        total += sizes[index]
        ratio = total / sizes[index - 1]
        if ratio < best_ratio:
            best, best_ratio = index, ratio
    return best if best_ratio <= 1 else 0


@dataclass(slots=True)
class Tail:
    """What of the tail is recorded or on its way there: (offset, size) in order, no gaps.

    Rows before ``floor`` are never rewritten: they are acknowledged, and what follows is
    only staged.
    """

    rows: list[tuple[int, int]]
    floor: int = 0

    @property
    def start(self) -> int | None:
        return self.rows[0][0] if self.rows else None

    def cut_at(self, offset: int) -> None:
        """Blocks up to ``offset`` are final now: rows before it are superseded."""
        self.rows = [row for row in self.rows if row[0] >= offset]

    def extend(self, pending_offset: int, pending: bytes) -> list[Row]:
        """The rows that a flush of the ``pending`` bytes writes; none if all are there."""
        end = pending_offset + len(pending)
        begin = self.make_room(pending_offset, end)
        return (
            [] if begin == end else self.add(begin, memoryview(pending)[begin - pending_offset :])
        )

    def make_room(self, pending_offset: int, end: int) -> int:
        """Where the row of a flush up to ``end`` begins; rows from there on are to be a part of
        it and are forgotten. ``end`` if all is there."""
        begin = self.end_or(pending_offset)
        loose = [row for row in self.rows if row[0] >= self.floor]
        if begin == end or len(loose) < MAX_ROWS:
            return begin
        begin = loose[merged_from([size for _, size in loose], end - begin)][0]
        self.rows = [row for row in self.rows if row[0] < begin]
        return begin

    def add(self, begin: int, data: memoryview) -> list[Row]:
        """The row of these bytes, which follows the others."""
        self.rows.append((begin, len(data)))
        return [Row(begin, block_hash(data), data, provisional=True)]

    def end_or(self, offset: int) -> int:
        """Where the rows end; ``offset`` if there are none."""
        return self.rows[-1][0] + self.rows[-1][1] if self.rows else offset


class TailCache:
    """Tails of uploads that ended a request lately, so the next one need not read them back.

    Acknowledged bytes never change, so a tail is right for its upload and range for ever.
    """

    def __init__(self, size: int) -> None:
        self._room = size
        self._held: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<TailCache of {len(self._held)} tails, {self._room} bytes of room>"

    def keep(self, upload_id: str, offset: int, data: bytes) -> None:
        self.drop(upload_id)
        self._held[upload_id] = (offset, data)
        self._room -= len(data)
        while self._room < 0:
            _, (_, oldest) = self._held.popitem(last=False)
            self._room += len(oldest)

    def take(self, upload_id: str, rows: Sequence[tuple[int, int]]) -> bytes | None:
        """The bytes of exactly these rows, or None."""
        held = self.drop(upload_id)
        if held is None or not rows or held[0] != rows[0][0]:
            return None
        size = sum(row[1] for row in rows)
        return held[1] if len(held[1]) == size else None

    def drop(self, upload_id: str) -> tuple[int, bytes] | None:
        held = self._held.pop(upload_id, None)
        if held is not None:
            self._room += len(held[1])
        return held
