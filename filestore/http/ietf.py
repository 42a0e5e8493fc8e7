"""Resumable uploads for HTTP, an IETF draft, over the uploads that tus has, too.

An adapter: it reads fields, asks one session (:class:`~filestore.transfer.service.Transfers`)
and writes fields. The upload of an ordinary ``PUT`` becomes one that can go on; the final answer
is the one that the ordinary request would have had, in whichever request the last byte came.

An upload is complete when a request says so, not when its length is reached. Who completes it is
asked for the same rights and conditions again, in the transaction that makes the file. Quota needs
no second look there: what is charged was reserved, and only that much.

Source: draft-ietf-httpbis-resumable-upload, -05 (interop version 6) and -11 (8).
"""

import contextlib
from functools import partial

from aiohttp import web

from filestore.acts.tree import Path
from filestore.acts.upload_access import upload_to_continue, upload_to_end
from filestore.acts.uploads import Guard, Request
from filestore.errors import (
    BadHeader,
    BadMediaType,
    BadRequest,
    FilestoreError,
    InconsistentUploadLength,
    LengthExceeded,
    PreconditionFailed,
    TooLarge,
    UploadGone,
)
from filestore.http import disposition, files
from filestore.http.body import RequestBody
from filestore.http.call import FIELDS, Call, no_content
from filestore.http.completing import RIGHTS, rights_again
from filestore.http.digests import CONTENT, HEADER, parse_content, parse_expected
from filestore.http.ietf_conditions import format_conditions, parse_conditions
from filestore.http.ietf_fields import (
    PARTIAL,
    Interop,
    format_boolean,
    format_limit,
    parse_boolean,
    parse_size,
)
from filestore.http.ietf_interim import Interim
from filestore.http.media_types import essence
from filestore.http.tus import UPLOADS
from filestore.meta.uploads import Upload
from filestore.model import ExpectedDigest, Protocol, UploadState
from filestore.names import parse_name, parse_path
from filestore.transfer.checksums import Checksum
from filestore.transfer.claiming import Piece
from filestore.transfer.ingest import Completion


async def create_by_put(call: Call, interop: Interop) -> web.Response:
    """The upload of a file to its path."""
    path = files.file_path(call)
    files.refuse_parts(call)
    kept = format_conditions(call.request.headers)
    guard = files.guard(call.group.id, path, parse_conditions(kept), write=False)
    request = _request(call, path[:-1], path[-1].given, kept=kept, guard=guard)
    return await _create(call, interop, request)


async def create_by_post(call: Call, interop: Interop) -> web.Response:
    """An upload into the group's folder, named by Content-Disposition, else by its id."""
    name = disposition.parse_filename(_joined(call, disposition.HEADER))
    return await _create(call, interop, _request(call, (), name))


async def show(call: Call, interop: Interop) -> web.Response:
    """Where the upload stands; a request that is appending saves what it has and ends first."""
    found = await _find(call)
    upload = await call.services.transfers.status(found.id)
    response = no_content()
    response.headers.update(_progress(call, interop, upload))
    if upload.length is not None:
        response.headers["Upload-Length"] = str(upload.length)
    return response


async def append(call: Call, interop: Interop) -> web.Response:
    """Goes on with the upload; if it says that this is the rest, the answer is the file's."""
    upload = await _find(call)
    headers = call.request.headers
    given = headers.get("Content-Type", "")
    if essence(given) != PARTIAL:
        raise BadMediaType(expected=PARTIAL, got=given or "nothing")
    offset = parse_size(headers.get("Upload-Offset"))
    if offset is None:
        raise BadHeader(header="Upload-Offset", reason="it is missing or no whole number")
    interim = Interim(call.request, interop)
    piece = _piece(call, upload, offset, interim)
    return await _answer(call, interop, await _take(call, upload, piece))


async def cancel(call: Call, _: Interop) -> web.Response:
    """Ends the upload; a request that is appending ends, too."""
    look = partial(upload_to_end, principal=call.principal, upload_id=call.parameters["upload"])
    upload = await call.services.db.read(look)
    await call.services.transfers.terminate(call.actor, upload.id)
    return no_content()


def limits(call: Call, interop: Interop | None, upload: Upload | None = None) -> str:
    """The value of Upload-Limit for an upload, or for one that is yet to begin.

    Within one upload no limit becomes tighter: its time only ever moves on, and the largest
    size is the service's.
    """
    settings = call.services.settings.uploads
    left_s = min(settings.expire_after_s, settings.expire_cap_s)
    if upload is not None:
        left_s = (upload.expires_at - upload.now) // 1_000_000
    return format_limit(interop, settings.max_size_bytes, left_s)


def _request(
    call: Call,
    folder: Path,
    name: str | None,
    *,
    kept: str | None = None,
    guard: Guard | None = None,
) -> Request:
    """The upload that a creation asks for.

    :raises TooLarge: the body alone is larger than any upload may be.
    :raises InconsistentUploadLength: two statements on the length differ.
    :raises BadName: the name is not allowed.
    """
    body = RequestBody(call)
    is_last = _is_last(call)
    limit = call.services.settings.uploads.max_size_bytes
    if body.announced is not None and body.announced > limit:
        raise TooLarge(what="the upload", got=body.announced, limit=limit)
    given = call.request.headers.get("Content-Type", "")
    return Request(
        group_id=call.group.id,
        domain_id=call.group.domain_id,
        user_id=call.principal.user_id,
        protocol=Protocol.IETF,
        length=_length(call, 0, body.announced),
        folder=folder,
        name=None if name is None else parse_name(name),
        mime=files.media_type("" if essence(given) == PARTIAL else given, name or ""),
        raw_metadata=kept,
        expected=_expected(call),
        guard=guard,
        waits=not is_last,
    )


async def _create(call: Call, interop: Interop, request: Request) -> web.Response:
    body = RequestBody(call)
    checksum = _checksum(call)
    if checksum is not None and body.announced == 0:
        checksum.check_nothing()
    upload = await call.services.transfers.begin(call.actor, request)
    location = call.locate(f"{UPLOADS}/{upload.id}")
    call.request[FIELDS] = {"Location": location}
    if upload.is_open and body.announced != 0:
        interim = Interim(call.request, interop)
        interim.announce(location, limits(call, interop, upload))
        upload = await _take_first(call, upload, _piece(call, upload, 0, interim))
    response = await _answer(call, interop, upload)
    if upload.is_open:
        response.set_status(201)
    return response


async def _take_first(call: Call, upload: Upload, piece: Piece) -> Upload:
    """Takes the body of a creation. The upload stays if the client can go on with it."""
    try:
        return await _take(call, upload, piece)
    except FilestoreError as err:
        if not (err.spec.retryable or isinstance(err, RIGHTS)):
            with contextlib.suppress(UploadGone):
                await call.services.transfers.terminate(call.actor, upload.id)
        raise


async def _take(call: Call, upload: Upload, piece: Piece) -> Upload:
    """Takes a body.

    :raises InconsistentUploadLength: it is longer than the upload, which has failed now; or it
        was to be the rest and is shorter; or the lengths that were said differ.
    :raises PreconditionFailed: the path is no longer as the client wanted; the upload has failed.
    :raises UploadGone: it was ended, before or meanwhile.
    """
    transfers = call.services.transfers
    try:
        found = await transfers.append(call.actor, upload.id, piece)
    except LengthExceeded as err:
        raise await _exceeded(call, upload.id, err) from err
    except BadRequest as err:
        if err.members["field"] != "Upload-Length":
            raise
        found = await transfers.find(upload.id)
        known = found.offset if found.length is None else found.length
        raise InconsistentUploadLength(expected=known, got=piece.length) from err
    except PreconditionFailed:
        await transfers.deactivate(call.actor, upload.id, "precondition-failed")
        raise
    if not found.is_open and found.state is not UploadState.DONE:
        raise UploadGone(state=found.state)  # somebody ended it behind the last byte
    if found.is_open and piece.completion is Completion.WITH_BODY:
        raise InconsistentUploadLength(expected=found.length, got=found.offset)
    return found


async def _exceeded(call: Call, upload_id: str, err: LengthExceeded) -> FilestoreError:
    """What becomes of an upload that has a length and got more bytes; the error that says so."""
    transfers = call.services.transfers
    upload = await transfers.find(upload_id)
    if upload.length is None:
        limit = call.services.settings.uploads.max_size_bytes
        return TooLarge(what="the upload", got=err.members["got"], limit=limit)
    await transfers.deactivate(call.actor, upload_id, "length-exceeded")
    return InconsistentUploadLength(expected=upload.length, got=err.members["got"])


def _piece(call: Call, upload: Upload, offset: int, interim: Interim) -> Piece:
    """:raises BadHeader: it is not said whether this is the rest."""
    body = RequestBody(call)
    return Piece(
        offset,
        body,
        announced=body.announced,
        length=_length(call, offset, body.announced),
        checksum=_checksum(call),
        completion=Completion.WITH_BODY if _is_last(call) else Completion.LATER,
        expected=_expected(call),
        guard=_guard(call, upload),
        on_recorded=interim.progress,
    )


def _guard(call: Call, upload: Upload) -> Guard:
    """Asks again, when the upload completes, whether its client may make the file."""
    path = (*parse_path(upload.folder), parse_name(upload.name))
    conditions = parse_conditions(upload.raw_metadata)
    as_wanted = files.guard(upload.group_id, path, conditions, write=False)
    return rights_again(call, upload.group_id, as_wanted)


async def _find(call: Call) -> Upload:
    look = partial(
        upload_to_continue,
        principal=call.principal,
        upload_id=call.parameters["upload"],
        protocol=Protocol.IETF,
    )
    return await call.services.db.read(look)


async def _answer(call: Call, interop: Interop, upload: Upload) -> web.Response:
    """The answer for the file, once it is there; until then, how far the upload is."""
    is_done = upload.state is UploadState.DONE
    response = await files.answer_written(call, upload) if is_done else no_content()
    response.headers.update(_progress(call, interop, upload))
    return response


def _progress(call: Call, interop: Interop, upload: Upload) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(upload.offset),
        "Upload-Complete": format_boolean(not upload.is_open),
        "Cache-Control": "no-store",
    }
    if upload.is_open:
        headers["Upload-Limit"] = limits(call, interop, upload)
    return headers


def _is_last(call: Call) -> bool:
    found = parse_boolean(call.request.headers.get("Upload-Complete"))
    if found is None:
        raise BadHeader(header="Upload-Complete", reason="it is missing or neither ?1 nor ?0")
    return found


def _length(call: Call, offset: int, announced: int | None) -> int | None:
    """The upload's length as far as this request tells: by a field, or as the end of the rest.

    :raises InconsistentUploadLength: by both, and they differ; or the body goes beyond it.
    """
    said = parse_size(call.request.headers.get("Upload-Length"))
    if announced is None:
        return said
    end = offset + announced
    is_last = _is_last(call)
    if said is not None and (end > said or (is_last and end != said)):
        raise InconsistentUploadLength(expected=said, got=end)
    return end if is_last else said


def _checksum(call: Call) -> Checksum | None:
    return parse_content(_joined(call, CONTENT))


def _expected(call: Call) -> ExpectedDigest:
    return parse_expected(_joined(call, HEADER))


def _joined(call: Call, name: str) -> str | None:
    """A field that may come in several lines, as one. Source: RFC 9110, section 5.3."""
    lines = call.request.headers.getall(name, [])
    return ", ".join(lines) if lines else None
