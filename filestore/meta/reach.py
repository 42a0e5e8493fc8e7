"""Where a database is and why it does not answer, in words for those who start the service.

Clients never see these: they name hosts. What they never hold is a password.
"""

import os

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

_DEFAULT_PORT = 5432  # PostgreSQL documentation, libpq, port


def place_of(url: str) -> str:
    """``host:port/name`` of a server's database, or the file's path. No user, no password.

    ``url`` is one that :func:`~filestore.meta.database.open_database` takes.
    """
    parsed = make_url(url)
    if parsed.drivername.startswith("sqlite"):
        return str(parsed.database)
    host = parsed.host or _queried(parsed, "host") or "localhost"
    if host.startswith("/"):  # the folder of a Unix socket
        return f"{parsed.database} at {host}"
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{parsed.port or _queried(parsed, 'port') or _DEFAULT_PORT}/{parsed.database}"


def cause_of(error: BaseException) -> str:
    """What lies at the bottom of an error of :mod:`filestore.meta.database`, as one sentence."""
    cause = error
    while (below := _below(cause)) is not None:
        cause = below
    if isinstance(cause, TimeoutError | sa.exc.TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    said = cause.strerror if isinstance(cause, OSError) else str(cause)
    return " ".join((said or type(cause).__name__).split()).rstrip(".")


def _below(error: BaseException) -> BaseException | None:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error.__cause__


def _queried(url: URL, name: str) -> str | None:
    value = url.query.get(name)
    return value[0] if isinstance(value, tuple) else value
