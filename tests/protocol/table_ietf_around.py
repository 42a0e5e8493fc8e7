"""The table of the draft: C conditions, X crossing protocols."""

from tests.protocol.ietf_rows import (
    COLLECTION,
    DONE,
    GONE,
    HELLO,
    PATH,
    UPLOAD,
    Ask,
    at,
    head,
    length,
    patch,
    post,
    put,
    row,
)

TUS = {"Tus-Resumable": "1.0.0"}

_NEW = {"If-None-Match": "*"}

CONDITIONS = [
    row(
        "C1",
        "a condition that does not hold refuses the creation",
        put(201, "?1", b"first"),
        put(412, "?1", HELLO, fields=_NEW, has={"upload-complete": "?1"}, tells=False),
        put(412, "?0", b"", fields=_NEW, tells=False),
        put(412, "?0", b"", fields={"If-Match": '"other"'}, tells=False),
        content=b"first",
    ),
    row(
        "C2",
        "a condition holds where the upload is resumed",
        put(201, "?0", b"hello", fields=_NEW),
        patch(201, 5, "?1", b" world", has=DONE),
        content=HELLO,
    ),
    row(
        "C3",
        "a condition that no longer holds at the end ends the upload",
        put(201, "?0", b"hello", fields=_NEW),
        Ask("PUT", PATH, 201, body=b"somebody else", speaks=None),
        patch(412, 5, "?1", b" world", has={"upload-complete": "?1"}, type="precondition-failed"),
        GONE,
        content=b"somebody else",
    ),
    row(
        "C4",
        "a malformed condition is refused",
        put(400, "?0", b"", fields={"If-Match": "x"}, type="bad-header", tells=False),
    ),
]

CROSSING = [
    row(
        "X1",
        "tus does not go on with an upload of the draft",
        post(201, "?0", b"hello"),
        Ask("HEAD", UPLOAD, 409, fields=TUS, speaks=None),
        Ask("HEAD", UPLOAD, 409, fields=TUS),
        Ask(
            "PATCH",
            UPLOAD,
            409,
            fields={**TUS, "Upload-Offset": "5", "Content-Type": "application/offset+octet-stream"},
            body=b" world",
            type="wrong-protocol",
            says={"spoken": "ietf", "got": "tus"},
            speaks=None,
        ),
        at(5),
        Ask("DELETE", UPLOAD, 204, fields=TUS, speaks=None, has={"tus-resumable": "1.0.0"}),
        GONE,
    ),
    row(
        "X2",
        "the draft does not go on with an upload of tus",
        Ask("POST", COLLECTION, 201, fields={**TUS, **length(11)}, speaks=None),
        head(409),
        patch(409, 0, "?1", HELLO, type="wrong-protocol", says={"spoken": "tus", "got": "ietf"}),
        Ask("HEAD", UPLOAD, 200, fields=TUS, speaks=None, has={"upload-offset": "0"}),
        Ask("DELETE", UPLOAD, 204),
    ),
    row(
        "X3",
        "a request that says it is tus is",
        post(201, "?1", None, fields={**TUS, **length(5)}, has={"tus-resumable": "1.0.0"}),
        Ask("HEAD", UPLOAD, 200, fields=TUS, has={"upload-offset": "0", "upload-complete": None}),
        leaves=True,
    ),
    row(
        "X4",
        "an append in no version that is known is one of tus without its version",
        post(201, "?0"),
        patch(412, 0, "?1", HELLO, speaks="7", type="tus-version"),
        Ask("HEAD", UPLOAD, 412, speaks=None),
        at(0),
        leaves=True,
    ),
    row(
        "X5",
        "an upload of nobody",
        Ask("HEAD", "/api/v1/uploads/upl_" + "0" * 26, 404, has={"upload-offset": None}),
    ),
]
