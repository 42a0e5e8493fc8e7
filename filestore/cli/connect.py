"""From the environment to a client: where the server is, and who asks."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from filestore.cli.failure import language_of
from filestore.client import Client
from filestore.client.transport import Document
from filestore.errors import BadSetting

T = TypeVar("T")


def run(act: Callable[[Client], Awaitable[T]]) -> T:
    """What ``act`` gives with a client of ``FILESTORE_URL`` and ``FILESTORE_TOKEN``.

    The token may instead lie in a file that ``FILESTORE_TOKEN_FILE`` names. It is never a flag:
    other users of a machine see those.
    """
    url, token = credentials(os.environ)
    return asyncio.run(_with_client(url, token, act))


def collect(listing: Callable[[Client], AsyncIterator[Document]]) -> list[Document]:
    """All items of a listing."""

    async def act(client: Client) -> list[Document]:
        return [item async for item in listing(client)]

    return run(act)


def credentials(environment: Mapping[str, str]) -> tuple[str, str]:
    """Server address and token.

    :raises BadSetting: one is missing, or the token's file cannot be read.
    """
    url = environment.get("FILESTORE_URL", "").strip()
    if not url:
        raise _missing("FILESTORE_URL", "it is not set; for example http://127.0.0.1:8080")
    token = environment.get("FILESTORE_TOKEN", "").strip()
    file = environment.get("FILESTORE_TOKEN_FILE", "").strip()
    if not token and file:
        try:
            token = Path(file).read_text("ascii").strip()
        except (OSError, ValueError) as err:
            reason = getattr(err, "strerror", None) or "it holds no token"
            raise _missing("FILESTORE_TOKEN_FILE", f"{file}: {reason}") from err
    if not token:
        raise _missing("FILESTORE_TOKEN", "it is not set, nor is FILESTORE_TOKEN_FILE")
    return url, token


async def _with_client(url: str, token: str, act: Callable[[Client], Awaitable[T]]) -> T:
    async with Client(url, token, language=language_of(os.environ)) as client:
        return await act(client)


def _missing(setting: str, reason: str) -> BadSetting:
    return BadSetting(setting=setting, source="environment", reason=reason)
