"""tus 1.0.0 over ``/api/v1/groups/{g}/uploads`` and ``/api/v1/uploads/{id}``.

An adapter: it reads headers, asks one session (:class:`~filestore.transfer.service.Transfers`)
and writes headers. Everything that can be refused is refused before the body is asked for.

Source: tus 1.0.0, core protocol and the extensions in ``tus_headers.EXTENSIONS``.
"""

import contextlib
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial

from aiohttp import web

from filestore.acts.repeated import final_key
from filestore.acts.upload_access import upload_to_continue, upload_to_end
from filestore.acts.uploads import Request
from filestore.errors import (
    BadHeader,
    BadMediaType,
    ChecksumMismatch,
    FilestoreError,
    FinalUpload,
    LengthExceeded,
    TooLarge,
    UploadGone,
)
from filestore.http.body import RequestBody
from filestore.http.call import Call, no_content
from filestore.http.completing import RIGHTS, rights_again
from filestore.http.described import WRITING
from filestore.http.groups import ONE
from filestore.http.media_guess import guess_media_type
from filestore.http.media_types import essence, parse_media_type
from filestore.http.routing import Access, Route
from filestore.http.tus_concat import Concat, parse_concat
from filestore.http.tus_headers import (
    BODY_TYPE,
    EXTENSIONS,
    VERSION,
    check_version,
    metadata_digest,
    metadata_text,
    parse_checksum,
    parse_key,
    parse_length,
    parse_metadata,
    parse_number,
)
from filestore.meta.uploads import Upload
from filestore.model import ExpectedDigest, Protocol, UploadPart
from filestore.names import parse_name, parse_path
from filestore.transfer.checksums import ALGORITHMS, Checksum
from filestore.transfer.claiming import Piece

COLLECTION = ONE + "/uploads"
UPLOADS = "/api/v1/uploads"


@dataclass(frozen=True, slots=True)
class _Begun:
    """What the body of a creation brings; None when the request is a plain creation."""

    body: RequestBody
    checksum: Checksum | None


async def _options(call: Call) -> web.Response:
    response = no_content()
    response.headers.update(
        {
            "Tus-Version": VERSION,
            "Tus-Extension": ",".join(EXTENSIONS),
            "Tus-Max-Size": str(call.services.settings.uploads.max_size_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        }
    )
    return response


async def _create(call: Call) -> web.Response:
    headers = call.request.headers
    check_version(headers.get("Tus-Resumable"))
    concat = parse_concat(headers, call.request.rel_url)
    if concat is not None and concat.part is UploadPart.FINAL:
        return await _concatenate(call, concat)
    length = parse_length(headers)
    request = _request(call, length, concat)
    first = await _first_piece(call, length)
    upload = await call.services.transfers.begin(call.actor, request)
    if request.idempotency_key is not None:  # it may be one that somebody is at work on
        upload = await call.services.transfers.status(upload.id)
    if first is not None:
        upload = await _take_first(call, upload, first)
    response = _created(call, upload)
    if first is None and request.idempotency_key is None:
        del response.headers["Upload-Offset"]
    return response


async def _concatenate(call: Call, concat: Concat) -> web.Response:
    """A file of partial uploads. Only then is it answered: a final upload takes no bytes."""
    headers = call.request.headers
    if essence(headers.get("Content-Type", "")) == BODY_TYPE and call.request.body_exists:
        raise FinalUpload()
    if (checksum := parse_checksum(headers)) is not None:
        checksum.check_nothing()
    if "Upload-Defer-Length" in headers:
        raise BadHeader(header="Upload-Defer-Length", reason="the parts say the length")
    request = _request(call, parse_length(headers) if "Upload-Length" in headers else None, concat)
    if request.idempotency_key is None:
        key = final_key(request.group_id, concat.raw, request.raw_metadata)
        request = replace(request, idempotency_key=key)
    request = replace(request, guard=rights_again(call, request.group_id))
    upload = await call.services.transfers.concatenate(call.actor, request)
    return _created(call, upload)


def _created(call: Call, upload: Upload) -> web.Response:
    response = web.Response(status=201, headers=_progress(upload))
    response.headers["Location"] = call.locate(f"{UPLOADS}/{upload.id}")
    return response


def _request(call: Call, length: int | None, concat: Concat | None) -> Request:
    """The upload that the headers ask for.

    :raises BadHeader: a header is wrong.
    :raises BadName: the name or the folder is not allowed.
    """
    raw = call.request.headers.get("Upload-Metadata")
    found = parse_metadata(raw or "")
    request = Request(
        group_id=call.group.id,
        domain_id=call.group.domain_id,
        user_id=call.principal.user_id,
        protocol=Protocol.TUS,
        length=length,
        raw_metadata=raw or None,
        idempotency_key=parse_key(call.request.headers),
    )
    if concat is not None:
        request = replace(request, part=concat.part, raw_concat=concat.raw, parts=concat.parts)
        if concat.part is UploadPart.PARTIAL:
            return request  # its metadata is kept, and means nothing: the file has its own
    name = metadata_text(found, "filename") or metadata_text(found, "name")
    mime = metadata_text(found, "filetype") or guess_media_type(name or "")
    return replace(
        request,
        folder=parse_path(metadata_text(found, "path") or ""),
        name=None if name is None else parse_name(name),
        mime=parse_media_type("Upload-Metadata", mime),
        expected=ExpectedDigest(
            blake3=metadata_digest(found, "blake3"), sha256=metadata_digest(found, "sha256")
        ),
    )


async def _first_piece(call: Call, length: int | None) -> _Begun | None:
    """The body of a creation-with-upload, if the request is one; refused before anything exists.

    :raises LengthExceeded, TooLarge: the body is longer than the upload, or than any may be.
    :raises ChecksumMismatch: there is no body, and its checksum is not that of nothing.
    """
    checksum = parse_checksum(call.request.headers)
    if essence(call.request.headers.get("Content-Type", "")) != BODY_TYPE:
        if checksum is not None:
            checksum.check_nothing()
        return None
    body = RequestBody(call)
    limit = call.services.settings.uploads.max_size_bytes
    if body.announced is not None and body.announced > limit:
        raise TooLarge(what="the upload", got=body.announced, limit=limit)
    if length is not None and body.announced is not None and body.announced > length:
        raise LengthExceeded(expected=length, got=body.announced)
    if length == 0:  # it will be complete before its body could be refused
        if extra := await body.read(1):
            raise LengthExceeded(expected=0, got=len(extra))
        if checksum is not None:
            checksum.check_nothing()
    return _Begun(body, checksum)


async def _take_first(call: Call, upload: Upload, first: _Begun) -> Upload:
    """Takes the body of a creation. The upload stays if the client can go on with it.

    One that has bytes already was begun by the same request before: its answer says how many.
    """
    if not upload.is_open or upload.offset > 0:
        return upload
    transfers = call.services.transfers
    piece = Piece(
        0,
        first.body,
        announced=first.body.announced,
        checksum=first.checksum,
        guard=rights_again(call, upload.group_id),
    )
    try:
        return await transfers.append(call.actor, upload.id, piece)
    except FilestoreError as err:
        if err.spec.retryable and not isinstance(err, ChecksumMismatch):
            return await transfers.find(upload.id)
        if isinstance(err, RIGHTS):
            raise
        with contextlib.suppress(UploadGone):
            await transfers.terminate(call.actor, upload.id)
        raise


async def _head(call: Call) -> web.Response:
    check_version(call.request.headers.get("Tus-Resumable"))
    look = partial(
        upload_to_continue,
        principal=call.principal,
        upload_id=call.parameters["upload"],
        protocol=Protocol.TUS,
    )
    found = await call.services.db.read(look)
    upload = found
    if not _is_being_built(found):  # whoever builds it is not to be disturbed
        upload = await call.services.transfers.status(found.id)
    response = web.Response(status=200, headers=_progress(upload))
    if upload.length is None:
        response.headers["Upload-Defer-Length"] = "1"
    else:
        response.headers["Upload-Length"] = str(upload.length)
    if upload.raw_metadata is not None:
        response.headers["Upload-Metadata"] = upload.raw_metadata
    if upload.raw_concat is not None:
        response.headers["Upload-Concat"] = upload.raw_concat
    if _is_being_built(upload):
        del response.headers["Upload-Offset"]
    return response


def _is_being_built(upload: Upload) -> bool:
    """Whether it is a final upload that is no file yet: nobody can say its offset."""
    return upload.part is UploadPart.FINAL and upload.is_open and not upload.is_due


async def _append(call: Call) -> web.Response:
    headers = call.request.headers
    check_version(headers.get("Tus-Resumable"))
    look = partial(
        upload_to_continue,
        principal=call.principal,
        upload_id=call.parameters["upload"],
        protocol=Protocol.TUS,
    )
    upload = await call.services.db.read(look)
    if upload.part is UploadPart.FINAL:
        raise FinalUpload()
    given = headers.get("Content-Type", "")
    if essence(given) != BODY_TYPE:
        raise BadMediaType(expected=BODY_TYPE, got=given or "nothing")
    body = RequestBody(call)
    length = headers.get("Upload-Length")
    piece = Piece(
        parse_number("Upload-Offset", headers.get("Upload-Offset", "")),
        body,
        announced=body.announced,
        length=None if length is None else parse_number("Upload-Length", length),
        checksum=parse_checksum(headers),
        guard=rights_again(call, upload.group_id),
    )
    upload = await call.services.transfers.append(call.actor, upload.id, piece)
    return web.Response(status=204, headers=_progress(upload))


async def _terminate(call: Call) -> web.Response:
    check_version(call.request.headers.get("Tus-Resumable"))
    look = partial(upload_to_end, principal=call.principal, upload_id=call.parameters["upload"])
    upload = await call.services.db.read(look)
    await call.services.transfers.terminate(call.actor, upload.id)
    return no_content()


def _progress(upload: Upload) -> dict[str, str]:
    """How far the upload is, and until when it can go on; a finished one does not expire, but a
    partial one does."""
    headers = {"Upload-Offset": str(upload.offset), "Cache-Control": "no-store"}
    if upload.is_open and upload.part is not UploadPart.FINAL:
        headers["Upload-Expires"] = formatdate(upload.expires_at // 1_000_000, usegmt=True)
    return headers


_PROGRESS = ("Tus-Resumable", "Upload-Offset", "Upload-Expires")
_SPOKEN = (
    *("Tus-Resumable", "Tus-Version", "Tus-Extension"),
    *("Tus-Max-Size", "Tus-Checksum-Algorithm"),
)

ROUTES = (
    Route(
        method="POST",
        path=COLLECTION,
        handler=_create,
        access=Access.MEMBER,
        summary="Begin an upload (tus: creation, with its first bytes if they come along)",
        request=BODY_TYPE,
        responses={201: None},
        tus=True,
        required_headers=("Tus-Resumable",),
        headers=(
            *("Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Checksum"),
            *("Upload-Concat", "Idempotency-Key"),
        ),
        answer_headers=("Location", *_PROGRESS),
        refuses=(*WRITING, 412, 415, 460),
    ),
    Route(
        method="OPTIONS",
        path=COLLECTION,
        handler=_options,
        access=Access.PUBLIC,
        summary="What the server speaks (tus)",
        responses={204: None},
        tus=True,
        answer_headers=_SPOKEN,
    ),
    Route(
        method="HEAD",
        path=UPLOADS + "/{upload}",
        handler=_head,
        access=Access.TOKEN,
        summary="How far an upload is; for the user who began it",
        responses={200: None},
        tus=True,
        required_headers=("Tus-Resumable",),
        answer_headers=(
            *(*_PROGRESS, "Upload-Length", "Upload-Defer-Length", "Upload-Metadata"),
            "Upload-Concat",
        ),
        refuses=(410, 412, 423),
    ),
    Route(
        method="PATCH",
        path=UPLOADS + "/{upload}",
        handler=_append,
        access=Access.TOKEN,
        summary="Go on with an upload; for the user who began it",
        request=BODY_TYPE,
        responses={204: None},
        tus=True,
        required_headers=("Tus-Resumable", "Upload-Offset"),
        headers=("Upload-Length", "Upload-Checksum"),
        answer_headers=_PROGRESS,
        refuses=(*WRITING, 410, 412, 415, 423, 460),
    ),
    Route(
        method="DELETE",
        path=UPLOADS + "/{upload}",
        handler=_terminate,
        access=Access.TOKEN,
        summary="End an upload; for the user who began it and for managers",
        responses={204: None},
        tus=True,
        required_headers=("Tus-Resumable",),
        refuses=(410, 412, 423),
    ),
    Route(
        method="OPTIONS",
        path=UPLOADS + "/{upload}",
        handler=_options,
        access=Access.PUBLIC,
        summary="What the server speaks (tus)",
        responses={204: None},
        tus=True,
        answer_headers=_SPOKEN,
    ),
)
