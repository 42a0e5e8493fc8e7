"""What follows from an answer: done, again later, or given up. Pure: the dice are passed in."""

from typing import Final

from filestore.hooks.sending import Answer
from filestore.meta.deliveries import Outcome
from filestore.model import DeliveryState

FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 8 * 3600.0
ATTEMPTS: Final = 9
"""The pauses are 10 s, 40 s, 160 s, 11 min, 43 min, 2.8 h, 8 h, 8 h: 20 hours, and with the
jitter up to a day. Standard Webhooks 1.0.0, "Deliverability": exponential, with jitter."""
JITTER: Final = 0.2
"""A pause is longer by up to this part, so that what failed together is not repeated together."""
LONGEST_WISH_S: Final = 86_400.0
"""A receiver may ask for a longer pause, up to this."""

_WISHES: Final = frozenset({429, 503})


def pause_s(attempt: int, dice: float) -> float:
    """Seconds between the attempt of this number, from 1, and the next; ``dice`` in [0, 1)."""
    plain = min(FIRST_PAUSE_S * 4.0 ** min(attempt - 1, 16), LONGEST_PAUSE_S)
    return plain * (1 + JITTER * dice)


def judge(answer: Answer, attempt: int, dice: float) -> Outcome:
    """What an attempt came to. Only 2xx is success; 410 ends everything."""
    status, ms = answer.status, answer.ms
    if status is not None and 200 <= status < 300:
        return Outcome(DeliveryState.DONE, status, None, ms)
    error = answer.error or _told(status)
    if status == 410:
        return Outcome(DeliveryState.FAILED, status, error, ms, is_gone=True)
    if attempt >= ATTEMPTS:
        return Outcome(DeliveryState.FAILED, status, error, ms)
    pause = pause_s(attempt, dice)
    if status in _WISHES and answer.retry_after_s is not None:
        pause = max(pause, min(answer.retry_after_s, LONGEST_WISH_S))
    return Outcome(DeliveryState.WAITING, status, error, ms, pause_us=round(pause * 1e6))


def _told(status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return f"it answered {status}; redirects are not followed"
    return f"it answered {status}"
