"""Short notices between the processes on one PostgreSQL: a hint, never the truth.

A notice is sent by the transaction that it is about, so it comes when that is committed, or never.
It may also get lost: while a listener reconnects, and behind a pooler that gives each transaction
another connection. Who waits for one therefore looks by itself, too, every now and then.

Source: PostgreSQL documentation, NOTIFY and LISTEN.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from filestore.meta.database import Database, Tx

CHANNEL: Final = "filestore"

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
"""Between two tries to listen again: what is missed meanwhile only comes later."""

_CHECK_S: Final = 30.0
"""How often a connection on which nothing comes is asked for a sign of life. A firewall that
forgot it would otherwise never be noticed."""

_SEND: Final = sa.text("SELECT pg_notify(:channel, :said)")
_AWAY: Final = (
    *(DBAPIError, OSError, TimeoutError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError),  # the driver is asked directly
)
_log: Final = structlog.get_logger("filestore.notices")


async def notify(tx: Tx, text: str) -> None:
    """Sends ``text`` to all listeners when this transaction is committed. On SQLite there is
    one process, so nobody."""
    if tx.dialect.name == "postgresql":
        await tx.execute(_SEND, {"channel": CHANNEL, "said": text})


class Listener:
    """Hears the notices of all processes on a connection of its own, outside of the pool.

    ``hear`` gets each text; ``missed`` is called when some may have got lost.
    """

    def __init__(
        self, db: Database, hear: Callable[[str], None], missed: Callable[[], None]
    ) -> None:
        self._db = db
        self._hear = hear
        self._missed = missed
        self.connection: Any = None
        """The driver's connection while it listens."""
        self.is_listening = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Listener, {'listening' if self.is_listening.is_set() else 'away'}>"

    async def run(self) -> None:
        """Listens until it is cancelled; a connection that breaks is made again."""
        engine = self._db.make_unpooled()
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                try:
                    await self._listen(engine)
                except _AWAY as err:
                    reason = str(err).partition("\n")[0]
                    _log.warning("notices.broken", reason=reason, again_in_s=pause_s)
                except Exception:  # a defect, which must not make this process deaf for ever
                    _log.exception("notices.crashed", again_in_s=pause_s)
                if self.is_listening.is_set():
                    self.is_listening.clear()
                    pause_s = _FIRST_PAUSE_S
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            await engine.dispose()

    async def _listen(self, engine: AsyncEngine) -> None:
        """Returns when the connection is gone.

        Raises one of ``_AWAY`` when it cannot be had, or does not answer.
        """
        broken = asyncio.Event()
        connection = await engine.connect()
        try:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            raw.add_termination_listener(lambda _: broken.set())
            await raw.add_listener(CHANNEL, lambda *said: self._hear(str(said[-1])))
            self.connection = raw
            self.is_listening.set()
            self._missed()
            while not broken.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_S):
                        await broken.wait()
                    break
                await raw.execute("SELECT 1", timeout=_CHECK_S)
        finally:
            self.connection = None
            with contextlib.suppress(*_AWAY):
                await connection.invalidate()
                await connection.close()
