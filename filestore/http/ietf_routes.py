"""Which protocol a request speaks, on the routes that plain HTTP, tus and the IETF draft share.

A request speaks the draft when it names a version that is known here and says, where it begins
something, whether its body is all. Anything else is what it would be without those fields:
Apple's URLSession adds them to ordinary uploads by itself.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from aiohttp import web

from filestore.errors import (
    ChecksumMismatch,
    ContentMismatch,
    FilestoreError,
    MismatchingUploadOffset,
    OffsetMismatch,
)
from filestore.http import files, ietf, tus
from filestore.http.call import FIELDS, Call, no_content
from filestore.http.ietf_fields import (
    VERSION_FIELD,
    Interop,
    format_boolean,
    parse_boolean,
    spoken,
)
from filestore.http.routing import Access, Handler, Route

_Spoken = Callable[[Call, Interop], Awaitable[web.StreamResponse]]

_OF_THE_TARGET: Final = frozenset({"digest-mismatch", "precondition-failed"})
"""Refusals of the file itself: no request can go on to make it out of this upload."""

_NOT_THERE: Final = frozenset({401, 403, 404, 410})


def _either(route: Route, handler: _Spoken, *, begins: bool) -> Handler:
    async def either(call: Call) -> web.StreamResponse:
        headers = call.request.headers
        interop = spoken(headers)
        if interop is None or (begins and parse_boolean(headers.get("Upload-Complete")) is None):
            return await route.handler(call)
        try:
            return await handler(call, interop)
        except FilestoreError as err:
            error = _in_its_words(err)
            call.request[FIELDS] = call.request.get(FIELDS, {}) | _fields(call, interop, error)
            if error is err:
                raise
            raise error from err

    return either


def _in_its_words(error: FilestoreError) -> FilestoreError:
    if isinstance(error, OffsetMismatch):
        expected, got = error.members["expected"], error.members["got"]
        found = MismatchingUploadOffset(expected=expected, got=got)
        found.members |= {"expected-offset": expected, "provided-offset": got}
        return found
    if isinstance(error, ChecksumMismatch):
        return ContentMismatch(algorithm=error.members["algorithm"])
    return error


def _fields(call: Call, interop: Interop, error: FilestoreError) -> dict[str, str]:
    """What a refusal says of the upload: whether it can go on, where, and within which limits."""
    if error.spec.status in _NOT_THERE:
        return {}
    fields = {"Upload-Complete": format_boolean(error.code in _OF_THE_TARGET)}
    if isinstance(error, MismatchingUploadOffset):
        fields["Upload-Offset"] = str(error.members["expected"])
    if error.spec.status == 413:
        fields["Upload-Limit"] = ietf.limits(call, interop)
    return fields


def _with_limits(handler: Handler) -> Handler:
    async def options(call: Call) -> web.StreamResponse:
        response = await handler(call)
        response.headers["Upload-Limit"] = ietf.limits(call, spoken(call.request.headers))
        return response

    return options


async def _options(_: Call) -> web.Response:
    return no_content()


_CREATION: Final = (
    *(VERSION_FIELD, "Upload-Complete", "Upload-Length", "Content-Digest"),
    "Want-Repr-Digest",
)
_ANSWERED: Final = ("Upload-Complete", "Upload-Offset", "Upload-Limit")

_SPEAKERS: Final[dict[tuple[str, str], tuple[_Spoken, tuple[str, ...]]]] = {
    ("PUT", files.FILES): (ietf.create_by_put, _CREATION),
    ("POST", tus.COLLECTION): (
        ietf.create_by_post,
        (*_CREATION, "Repr-Digest", "Content-Disposition"),
    ),
    ("HEAD", f"{tus.UPLOADS}/{{upload}}"): (ietf.show, (VERSION_FIELD,)),
    ("PATCH", f"{tus.UPLOADS}/{{upload}}"): (ietf.append, (*_CREATION, "Repr-Digest")),
    ("DELETE", f"{tus.UPLOADS}/{{upload}}"): (ietf.cancel, (VERSION_FIELD,)),
}


def _shared(route: Route) -> Route:
    """The route, open to those who speak the draft, too."""
    if route.method == "OPTIONS":
        return replace(
            route,
            handler=_with_limits(route.handler),
            answer_headers=(*route.answer_headers, "Upload-Limit"),
        )
    found = _SPEAKERS.get((route.method, route.path))
    if found is None:
        return route
    handler, headers = found
    optional = (*route.headers, *route.required_headers, *headers)
    return replace(
        route,
        handler=_either(route, handler, begins=route.method in ("PUT", "POST")),
        required_headers=(),
        headers=tuple(dict.fromkeys(optional)),
        answer_headers=tuple(dict.fromkeys((*route.answer_headers, *_ANSWERED))),
        refuses=tuple(dict.fromkeys((*route.refuses, 409))),
    )


ROUTES = (
    *(_shared(route) for route in (*tus.ROUTES, *files.ROUTES)),
    Route(
        method="OPTIONS",
        path=files.FILES,
        handler=_with_limits(_options),
        access=Access.PUBLIC,
        summary="Within which limits a file may be uploaded in several requests",
        responses={204: None},
        answer_headers=("Upload-Limit",),
    ),
)
"""Those of tus and of files, in place of them."""
