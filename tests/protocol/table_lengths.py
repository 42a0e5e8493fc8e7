"""The table of tus, letters D, W: lengths that come later, and creations that bring bytes along."""

from tests.protocol.rows import (
    BODY_TYPE,
    DEFERRED,
    HELLO,
    at,
    begin,
    delete,
    head,
    length,
    named,
    patch,
    post,
    row,
)

DEFER = [
    row("D1", "a length may come later", post(201, DEFERRED), at(0)),
    *(
        row(
            "D1",
            f"Upload-Defer-Length {given!r} is refused",
            post(400, {"Upload-Defer-Length": given}),
        )
        for given in ("0", "2", "", "true", "01")
    ),
    row("D2", "a length now and later is refused", post(400, {**length(5), **DEFERRED})),
    row(
        "D3",
        "HEAD tells when the length is known",
        post(201, DEFERRED),
        patch(204, 0, b"he"),
        head(200, has={"upload-defer-length": "1", "upload-length": None}),
        patch(204, 2, b"l", fields=length(5)),
        head(200, has={"upload-defer-length": None, "upload-length": "5", "upload-offset": "3"}),
    ),
    row(
        "D4",
        "the length comes with the first piece",
        post(201, {**DEFERRED, **named("d4a")}),
        patch(204, 0, b"hello", fields=length(5), has={"upload-expires": None}),
        file="d4a",
        content=b"hello",
    ),
    row(
        "D4",
        "the length comes with the last piece",
        post(201, {**DEFERRED, **named("d4b")}),
        patch(204, 0, b"hel"),
        patch(204, 3, b"lo", fields=length(5)),
        file="d4b",
        content=b"hello",
    ),
    row(
        "D5",
        "a length that was said stays, and may be said again",
        post(201, {**DEFERRED, **named("d5")}),
        patch(204, 0, b"he", fields=length(5)),
        patch(400, 2, b"l", fields=length(6), code="bad-request"),
        at(2),
        patch(204, 2, b"llo", fields=length(5)),
        patch(204, 5, b"", fields=length(5)),
        patch(400, 5, b"", fields=length(6), code="bad-request"),
        file="d5",
        content=b"hello",
    ),
    row(
        "D6",
        "a length below what has arrived is refused",
        post(201, DEFERRED),
        patch(204, 0, b"hello"),
        patch(400, 5, b"", fields=length(4), code="bad-request"),
        patch(400, 5, b"", fields={"Upload-Length": "+6"}, code="bad-header"),
        head(200, has={"upload-offset": "5", "upload-defer-length": "1"}),
    ),
    row(
        "D7",
        "a length beyond the largest is refused",
        post(201, DEFERRED),
        patch(413, 0, b"", fields=length(4194305), code="too-large"),
        head(200, has={"upload-offset": "0", "upload-defer-length": "1"}),
    ),
    row(
        "D8",
        "a body beyond the length that comes with it is refused",
        post(201, DEFERRED),
        patch(413, 0, b"hello", fields=length(4), code="length-exceeded"),
        at(0),
    ),
    row(
        "D9",
        "without a length the largest size holds",
        post(201, DEFERRED),
        patch(413, 0, bytes(4194305), code="too-large"),
        at(0),
        patch(413, 0, chunks=[bytes(4194304), b"x"], code="length-exceeded"),
        delete(204),
    ),
    row(
        "D10",
        "the length of what has arrived completes the upload",
        post(201, {**DEFERRED, **named("d10")}),
        patch(204, 0, b"hello"),
        patch(204, 5, b"", fields=length(5), has={"upload-offset": "5", "upload-expires": None}),
        file="d10",
        content=b"hello",
    ),
    row(
        "D10",
        "the length zero completes an empty upload",
        post(201, {**DEFERRED, **named("d10-empty")}),
        patch(204, 0, b"", fields=length(0), has={"upload-offset": "0"}),
        file="d10-empty",
        content=b"",
    ),
]

WITH_UPLOAD = [
    row(
        "W2",
        "a creation takes bytes along",
        begin(201, 11, b"hello", None),
        at(5),
    ),
    row(
        "W3",
        "a PATCH goes on where the creation ended",
        begin(201, 11, b"hello", named("w3")),
        patch(204, 5, b" world"),
        file="w3",
        content=HELLO,
    ),
    row(
        "W4",
        "a creation with all bytes is complete",
        begin(201, 11, HELLO, named("w4")),
        head(200, has={"upload-offset": "11", "upload-expires": None}),
        file="w4",
        content=HELLO,
    ),
    row(
        "W5",
        "a body longer than the upload creates nothing",
        begin(413, 4, b"hello", named("w5")),
        post(
            413, {**length(4), "Content-Type": BODY_TYPE}, chunks=[b"hello"], code="length-exceeded"
        ),
        begin(413, 0, b"x", named("w5")),
        post(413, {**length(0), **named("w5"), "Content-Type": BODY_TYPE}, chunks=[b"x"]),
        post(413, {**DEFERRED, "Content-Type": BODY_TYPE}, body=bytes(4194305), code="too-large"),
        file="w5",
    ),
    row(
        "W7",
        "the type without a body is a creation at offset zero",
        post(201, {**length(5), "Content-Type": BODY_TYPE}, has={"upload-offset": "0"}),
        begin(201, 5, b""),
        at(0),
    ),
    row(
        "W2",
        "a creation without a length takes bytes along",
        post(
            201, {**DEFERRED, "Content-Type": BODY_TYPE}, body=b"hello", has={"upload-offset": "5"}
        ),
        head(200, has={"upload-offset": "5", "upload-defer-length": "1"}),
    ),
    row(
        "W4",
        "an empty creation with upload is complete",
        begin(201, 0, b"", named("w4-empty")),
        at(0),
        file="w4-empty",
        content=b"",
    ),
]
