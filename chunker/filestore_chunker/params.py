"""How a content is cut: the parameters of FastCDC, and the scanner that runs them.

Parameters belong to a content and are stored with it. Two contents share blocks only when
they were cut with equal parameters.
"""

from dataclasses import dataclass
from typing import Final, cast

import pyfastcdc

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

MIN_SIZE_RANGE: Final = (64, _MIB)
AVG_SIZE_RANGE: Final = (256, 4 * _MIB)
MAX_SIZE_RANGE: Final = (1024, 16 * _MIB)
"""What pyfastcdc 0.3 accepts. Source: its FastCDC constructor."""

LEVELS: Final = range(4)


@dataclass(frozen=True, slots=True)
class Params:
    """FastCDC parameters: sizes in bytes, ``level`` is the normalization level (0 to 3).

    Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication
    Based Storage Systems", IEEE TPDS 31(9), 2020, sections 3.4 and 3.5. The cutting is that
    of fastcdc-rs (``v2020``).

    :raises ValueError: a size is odd, out of range, or not min <= avg <= max. Sizes are even
        because the scanner takes bytes in pairs: an odd minimum would let a block be one
        byte shorter than it says.
    """

    min_size: int = 512 * _KIB
    avg_size: int = 1 * _MIB
    max_size: int = 4 * _MIB
    level: int = 2

    def __post_init__(self) -> None:
        _check("min_size", self.min_size, MIN_SIZE_RANGE)
        _check("avg_size", self.avg_size, AVG_SIZE_RANGE)
        _check("max_size", self.max_size, MAX_SIZE_RANGE)
        if not self.min_size <= self.avg_size <= self.max_size:
            raise ValueError(
                f"min_size {self.min_size} <= avg_size {self.avg_size}"
                f" <= max_size {self.max_size} does not hold"
            )
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level} is not one of 0, 1, 2, 3")

    def scanner(self) -> pyfastcdc.FastCDC:
        """A scanner with these parameters; used by one thread at a time."""
        return pyfastcdc.FastCDC(
            self.avg_size,
            min_size=self.min_size,
            max_size=self.max_size,
            normalized_chunking=cast(pyfastcdc.NormalizedChunking, self.level),
        )


def _check(name: str, size: int, allowed: tuple[int, int]) -> None:
    low, high = allowed
    if not low <= size <= high:
        raise ValueError(f"{name} {size} is not within {low} to {high}")
    if size % 2:
        raise ValueError(f"{name} {size} is odd; sizes are even")


def require_native() -> None:
    """Returns only if cutting runs as compiled code; a start-up check.

    pyfastcdc falls back to pure Python when its extension cannot be loaded: equal cuts, a
    hundred times slower, holding the GIL.

    :raises RuntimeError: the fallback is in use. Permanent until pyfastcdc is reinstalled.
    """
    module = pyfastcdc.FastCDC.__module__
    if not module.startswith("pyfastcdc.cy"):
        raise RuntimeError(
            f"pyfastcdc runs as pure Python ({module}): its compiled extension is missing;"
            " install a wheel of pyfastcdc for this platform, or a C compiler and build it"
        )
