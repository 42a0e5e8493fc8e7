"""The instant after which a block may no longer be sent.

The rows of a block say until when its object may still come; the reaper relies on it. So
whoever writes such rows sets :data:`put_deadline` around the puts, and every store and
every retry looks at it right before it sends.
"""

import time
from contextvars import ContextVar
from typing import Final

from filestore.errors import StoreUnavailable

put_deadline: Final[ContextVar[float | None]] = ContextVar("put_deadline", default=None)
"""By ``time.monotonic()``; None: no deadline. Inherited by tasks, not by worker threads."""


def refuse_if_late(deadline: float | None, now: float | None = None) -> None:
    """Goes on while ``deadline`` has not passed. ``now`` is for clocks other than the real one.

    :raises StoreUnavailable: it has passed. Nothing was sent; another generation is needed.
    """
    if deadline is None:
        return
    if (time.monotonic() if now is None else now) >= deadline:
        raise StoreUnavailable(reason="the time in which the block could be sent has passed")
