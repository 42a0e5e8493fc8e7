"""Answers that no application makes: to what the parser refused, and to connections too many.

Nothing else puts on them what all answers have, so it is put on here; what pages of other origins
are told comes from the same :class:`~filestore.http.cors.Cors` as everywhere.
"""

from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from filestore.errors import FilestoreError
from filestore.http.cors import Cors
from filestore.http.middleware import TUS_RESUMABLE
from filestore.http.problems import problem_response
from filestore.ids import new_id

END_OF_HEAD: Final = b"\r\n\r\n"


class Head:
    """What can be read of the beginning of a request, also when it is broken or cut."""

    def __init__(self, raw: bytes = b"") -> None:
        first, *lines = raw.partition(END_OF_HEAD)[0].lstrip(b"\r\n").split(b"\r\n")
        self.method = first.partition(b" ")[0].decode("latin-1")
        self.headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.decode("latin-1").partition(":")
            self.headers.add(name, value.strip(" \t"))

    @classmethod
    def of(cls, request: web.BaseRequest) -> "Head":
        head = cls()
        head.method = request.method
        head.headers.extend(request.headers)
        return head


def early_problem(
    error: FilestoreError, head: Head, cors: Cors | None, *, request_id: str | None = None
) -> web.Response:
    """The answer to a request of which only ``head`` is known, with the headers of all answers."""
    request_id = request_id or new_id("req")
    response = problem_response(error, request_id=request_id, method=head.method)
    response.headers["Tus-Resumable"] = TUS_RESUMABLE
    return _stamped(response, head, cors, request_id)


def turned_away(error: FilestoreError, head: Head, cors: Cors | None) -> bytes:
    """The whole answer to a client for which there is no room, and who is to close.

    A browser shows a page no refusal of its preflight, only that something went wrong; so that
    is answered as ever, and the request behind it learns that it may be repeated.
    """
    if cors is not None and cors.is_preflight(head.method, head.headers):
        response = _stamped(web.Response(status=204), head, cors, new_id("req"))
    else:
        response = early_problem(error, head, cors)
        size = len(response.body) if isinstance(response.body, bytes) else 0
        response.headers["Content-Length"] = str(size)
    response.headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    body = response.body if isinstance(response.body, bytes) else b""
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _stamped(
    response: web.Response, head: Head, cors: Cors | None, request_id: str
) -> web.Response:
    response.headers["X-Request-ID"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "filestore"
    if cors is not None:
        cors.put(head.method, head.headers, response.headers)
    return response
