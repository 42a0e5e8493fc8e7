"""An incremental FastCDC cutter: where it cuts depends on the bytes, never on how they came.

A cut is *final* when no later byte could move it: it ends before the end of what was
scanned, or the block has the largest size. The scanner keeps no state between calls, so
bytes behind the last final cut are held and scanned again when there are more of them.
They are scanned only when they have doubled, which bounds the work to a small multiple of
the bytes fed, however small the pieces are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from filestore_chunker.params import Params

_GROWTH: Final = 2
"""Held bytes are scanned again at this multiple: at most twice the bytes in all."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One block: where it begins in the stream, and its bytes.

    ``data`` is a view into the buffer that was fed, or into one of the cutter's own when
    the block spans two feeds. A fed buffer must not change while its cuts are in use.
    """

    offset: int
    data: memoryview

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class Cutter:
    """Cuts a stream that arrives in pieces of any size. Used by one thread at a time.

    ``offset`` is where the stream begins: 0, or the end of a block that was cut before.
    Cutting releases the GIL. Holds less than ``params.max_size`` bytes between calls.
    """

    def __init__(self, params: Params, *, offset: int = 0) -> None:
        self.params: Final = params
        self._scanner = params.scanner()
        self._offset = offset  # where the held bytes begin
        self._held = bytearray()
        self._scanned = 0  # this many of the held bytes are known to have no final cut

    def __repr__(self) -> str:
        return f"<Cutter at {self._offset}, {len(self._held)} bytes pending>"

    @property
    def pending_offset(self) -> int:
        """Where the bytes begin that are not part of a final cut yet; never moves back."""
        return self._offset

    @property
    def pending_size(self) -> int:
        """How many bytes are held back."""
        return len(self._held)

    @property
    def pending(self) -> bytes:
        """A copy of the bytes held back."""
        return bytes(self._held)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Cut]:
        """The cuts that became final, in order. Takes all of ``data``.

        Blocks inside ``data`` are not copied. What is left behind the last of them is, so
        that a remainder does not keep the whole buffer alive.
        """
        view = memoryview(data).cast("B")
        cuts: list[Cut] = []
        taken = 0
        while self._held and taken < len(view):
            taken = self._join(view, taken, cuts)
        if taken < len(view):
            rest = self._cut(view[taken:], cuts)
            self._hold(rest, scanned=len(rest))
        return cuts

    def take_pending(self) -> tuple[list[Cut], bytes]:
        """Scans all that is held now: cuts that are final, and a copy of the rest.

        The rest stays pending, at :attr:`pending_offset`: the cutter goes on as if nothing
        had been asked.
        """
        cuts: list[Cut] = []
        if self._scanned < len(self._held):
            self._scan_held(cuts)
        return cuts, self.pending

    def finish(self) -> list[Cut]:
        """Everything left, as the stream ends here: none, one or several cuts."""
        cuts = [Cut(offset, data) for offset, data, _ in self._scan(memoryview(self._held))]
        self._offset += len(self._held)
        self._hold(memoryview(b""), scanned=0)
        return cuts

    def _join(self, view: memoryview, taken: int, cuts: list[Cut]) -> int:
        """Moves bytes of ``view`` behind the held ones up to the next scan, and scans.

        Gives how much of ``view`` is taken. That is less than before when the cut found
        leaves only bytes of ``view``: they are given back, to be cut in place.
        """
        params = self.params
        target = min(max(self._scanned * _GROWTH, params.min_size), params.max_size)
        more = view[taken : taken + max(target - len(self._held), 0)]
        self._held += more
        taken += len(more)
        if len(self._held) >= target:
            self._scan_held(cuts)
            if len(self._held) <= taken and self._scanned < target:
                taken -= len(self._held)
                self._hold(memoryview(b""), scanned=0)
        return taken

    def _scan_held(self, cuts: list[Cut]) -> None:
        """Adds the final cuts of the held bytes to ``cuts`` and holds only what follows."""
        before = len(cuts)
        rest = self._cut(memoryview(self._held), cuts)
        if len(cuts) == before:
            self._scanned = len(self._held)
        else:
            self._hold(rest, scanned=len(rest))

    def _hold(self, rest: memoryview, *, scanned: int) -> None:
        self._held = bytearray(rest)
        self._scanned = scanned

    def _cut(self, view: memoryview, cuts: list[Cut]) -> memoryview:
        """Adds the final cuts of ``view`` to ``cuts``; gives what follows the last of them."""
        start = self._offset
        for offset, data, is_final in self._scan(view):
            if not is_final:
                break
            cuts.append(Cut(offset, data))
            self._offset = offset + len(data)
        return view[self._offset - start :]

    def _scan(self, view: memoryview) -> Iterator[tuple[int, memoryview, bool]]:
        start, total = self._offset, len(view)
        if not total:
            return
        for chunk in self._scanner.cut_buf(view):
            end = chunk.offset + chunk.length
            is_final = end < total or chunk.length == self.params.max_size
            yield start + chunk.offset, chunk.data, is_final
