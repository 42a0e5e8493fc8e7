"""Makes the C library give freed buffers back to the system.

glibc keeps an arena for each few threads and raises, as large blocks are freed, the size from
which blocks are mapped on their own. With buffers of megabytes that pass from thread to thread
the process then holds tens of MiB that nobody uses. Source: mallopt(3).
"""

import contextlib
import ctypes
from typing import Final

from filestore.model import MIB

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
_TRIM: Final = 4 * MIB
"""Free bytes at the end of the heap that are kept: else each piece from a socket, which is freed
at once, is given back to the system and faulted in again."""


def bound_allocator() -> None:
    """Blocks from 1 MiB are mapped on their own, and threads share two arenas.

    To be called before threads start. Does nothing where the C library is another one.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, MIB)
        mallopt(_M_TRIM_THRESHOLD, _TRIM)
