"""The IETF draft from the other side: requests whose interim answers are heard as they come."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from yarl import URL

from tests.e2e.material import Material
from tests.http.api import Api, RawConnection

SPEAKS: Final = {"Upload-Draft-Interop-Version": "8"}
_PARTIAL: Final = "application/partial-upload"
_PATIENCE_S: Final = 60.0

Heard = Callable[[Mapping[str, str]], None]
"""Is given the fields of each interim answer, names in lower case."""


async def begin(api: Api, path: str, size: int) -> str:
    """A careful creation at the path of a file; the upload's path."""
    headers = SPEAKS | {"Upload-Complete": "?0", "Upload-Length": str(size)}
    reply = await api.put(path, data=b"", headers=headers)
    assert reply.status == 201, (reply.status, reply.body)
    return URL(reply.headers["Location"]).path


async def put(api: Api, path: str, material: Material, heard: Heard) -> tuple[int, dict[str, str]]:
    """The whole file in one request that can be gone on with; status and fields of the answer.

    :raises ConnectionError: the server went away; what was heard before counts.
    """
    fields = {"Upload-Complete": "?1", "Content-Length": str(material.size)}
    return await _exchange(api, f"PUT {path}", fields, (material, 0, material.size), heard)


async def append(
    api: Api, upload: str, material: Material, begin: int, end: int, heard: Heard
) -> tuple[int, dict[str, str]]:
    """Sends the bytes from ``begin`` to ``end``, the rest if they are; as :func:`put`."""
    fields = {
        "Upload-Complete": "?1" if end == material.size else "?0",
        "Upload-Offset": str(begin),
        "Content-Type": _PARTIAL,
        "Content-Length": str(end - begin),
    }
    return await _exchange(api, f"PATCH {upload}", fields, (material, begin, end), heard)


async def _exchange(
    api: Api,
    request: str,
    fields: Mapping[str, str],
    body: tuple[Material, int, int],
    heard: Heard,
) -> tuple[int, dict[str, str]]:
    sent = {"Host": "test", "Authorization": f"Bearer {api.token}", **SPEAKS, **fields}
    lines = [f"{request} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    async with asyncio.timeout(_PATIENCE_S), RawConnection(api.url) as connection:
        await connection.send("\r\n".join([*lines, "", ""]).encode())
        sending = asyncio.create_task(_send(connection, *body))
        try:
            while (answer := await connection.head())[0] < 200:
                heard(answer[1])
            return answer
        except asyncio.IncompleteReadError as err:
            raise ConnectionError("the server closed the connection") from err
        finally:
            sending.cancel()
            await asyncio.wait((sending,))


async def _send(connection: RawConnection, material: Material, begin: int, end: int) -> None:
    with contextlib.suppress(ConnectionError):  # who reads the answer notices
        for piece in material.pieces(begin, end):
            await connection.send(piece)
