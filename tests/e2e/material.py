"""Random bytes of any size that are computed, not kept: what is uploaded, and compared with.

BLAKE3's output can be read at any place, so a file of a terabyte is a seed and a size.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
PIECE: Final = 256 * KIB


@dataclass(frozen=True, slots=True)
class _Part:
    """``size`` bytes of the stream of ``seed``, from ``start`` on."""

    seed: str
    start: int
    size: int

    def cut(self, begin: int, end: int) -> "_Part":
        return _Part(self.seed, self.start + begin, end - begin)


class Material:
    """The bytes of one file: equal seeds give equal bytes, of two sizes one is a prefix."""

    def __init__(self, seed: str, size: int) -> None:
        self.seed = seed
        self.size = size
        self._parts = [_Part(seed, 0, size)]

    def __repr__(self) -> str:
        return f"<Material {self.seed!r}, {self.size} bytes, {len(self._parts)} parts>"

    def read(self, begin: int, end: int) -> bytes:
        """The bytes in [begin, end), which lies inside."""
        assert 0 <= begin <= end <= self.size, (begin, end, self)
        found, at = bytearray(), 0
        for part in self._parts:
            first, last = max(begin - at, 0), min(end - at, part.size)
            if first < last:
                wanted = part.cut(first, last)
                found += blake3(wanted.seed.encode()).digest(wanted.size, seek=wanted.start)
            at += part.size
        return bytes(found)

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``begin`` to ``end`` in pieces that fit a socket."""
        end = self.size if end is None else end
        for at in range(begin, end, PIECE):
            yield self.read(at, min(at + PIECE, end))

    def write(self, path: Path, begin: int = 0, end: int | None = None) -> Path:
        """Writes the bytes to a file."""
        with path.open("wb") as file:
            file.writelines(self.pieces(begin, end))
        return path

    def edited(self, seed: str, *, in_front: int, edits: int, size: int = 100) -> "Material":
        """The same with bytes inserted in front and ``edits`` places inside overwritten."""
        made = Material(seed, self.size + in_front)
        places = sorted(random.Random(seed).sample(range(self.size // size), edits))
        parts, at = [_Part(seed, 0, in_front)], 0
        for number, place in enumerate(places):
            begin = place * size
            parts.append(_Part(self.seed, at, begin - at))
            parts.append(_Part(f"{seed} {number}", 0, size))
            at = begin + size
        parts.append(_Part(self.seed, at, self.size - at))
        made._parts = parts
        assert sum(part.size for part in parts) == made.size
        return made
