"""Who looks on while a transfer runs: a terminal, a log, or nobody."""

from typing import Protocol

from filestore.errors import FilestoreError


class Watcher(Protocol):
    """Told of one transfer after the other. Calls come often and must be quick."""

    def began(self, name: str, done: int, total: int) -> None:
        """``name`` has begun, or goes on, with ``done`` of ``total`` bytes there already."""
        ...

    def begins_anew(self, name: str, upload_id: str) -> None:
        """``name`` will begin at byte 0 beside an upload of the same user to the same place,
        which cannot be shown to be of the same file."""
        ...

    def moved(self, done: int) -> None:
        """``done`` bytes are on their way or there; less than before when some were lost."""
        ...

    def waits(self, error: FilestoreError, delay_s: float) -> None:
        """After ``error`` the transfer goes on in ``delay_s`` seconds."""
        ...

    def ended(self) -> None:
        """The transfer is over, well or not."""
        ...


class Nobody:
    """A watcher that does not care."""

    def began(self, name: str, done: int, total: int) -> None: ...

    def begins_anew(self, name: str, upload_id: str) -> None: ...

    def moved(self, done: int) -> None: ...

    def waits(self, error: FilestoreError, delay_s: float) -> None: ...

    def ended(self) -> None: ...
