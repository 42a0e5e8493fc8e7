"""The table of tus, letter P: PATCH."""

from tests.protocol.rows import (
    BODY_TYPE,
    HELLO,
    NOT_NUMBERS,
    UNKNOWN,
    at,
    begin,
    delete,
    head,
    length,
    named,
    other,
    patch,
    post,
    row,
)

PATCH = [
    *(
        row(
            "P1",
            f"a PATCH of type {kind!r} is refused and changes nothing",
            post(201, length(5)),
            patch(415, 0, b"x", fields={"Content-Type": kind}, code="bad-media-type"),
            at(0),
        )
        for kind in (None, "", "application/octet-stream", "text/plain", BODY_TYPE + "x")
    ),
    *(
        row(
            "P2",
            f"the offset {offset!r} is refused",
            post(201, length(5)),
            patch(400, 0, b"x", fields={"Upload-Offset": offset}, code="bad-header"),
            at(0),
        )
        for offset in (None, "", *NOT_NUMBERS)
    ),
    row(
        "P3",
        "a wrong offset changes nothing and the answer names the right one",
        post(201, length(5)),
        patch(409, 1, b"x", code="offset-mismatch", has={"upload-offset": "0"}),
        patch(204, 0, b"he"),
        patch(409, 0, b"x", code="offset-mismatch", has={"upload-offset": "2"}),
        patch(409, 3, b"x", code="offset-mismatch", has={"upload-offset": "2"}),
        at(2),
    ),
    row(
        "P4",
        "a PATCH stores its bytes and says the new offset",
        post(201, length(11, **named("p4"))),
        patch(204, 0, HELLO, has={"upload-offset": "11"}),
        file="p4",
        content=HELLO,
    ),
    row(
        "P5",
        "an unknown upload is not found",
        post(201, length(5)),
        other("PATCH", UNKNOWN, 404, {"Upload-Offset": "0", "Content-Type": BODY_TYPE}, body=b"x"),
        delete(204),
        patch(410, 0, b"x", code="upload-gone"),
    ),
    row(
        "P7",
        "a body that is announced too long is refused unread",
        post(201, length(5)),
        patch(413, 0, b"too long", code="length-exceeded"),
        at(0),
        patch(204, 0, b"hel"),
        patch(413, 3, b"lo!", code="length-exceeded"),
        at(3),
    ),
    row(
        "P8",
        "a chunked body that is too long is refused and never stored past the length",
        post(201, length(5, **named("p8"))),
        patch(413, 0, chunks=[b"hello", b" world"], code="length-exceeded"),
        head(200, has={"upload-length": "5"}),
        file="p8",
    ),
    row(
        "P9",
        "chunked bodies are taken",
        post(201, length(11, **named("p9"))),
        patch(204, 0, chunks=[b"hel", b"lo"], has={"upload-offset": "5"}),
        patch(204, 5, chunks=[b" ", b"world"], has={"upload-offset": "11"}),
        file="p9",
        content=HELLO,
    ),
    row(
        "P10",
        "a PATCH without bytes changes nothing",
        post(201, length(5)),
        patch(204, 0, b"", has={"upload-offset": "0"}),
        patch(204, 0, None, has={"upload-offset": "0"}),
        patch(204, 0, chunks=[], has={"upload-offset": "0"}),
        at(0),
    ),
    row(
        "P11",
        "a finished upload takes an empty PATCH again and no byte more",
        post(201, length(5, **named("p11"))),
        patch(204, 0, b"hello"),
        patch(204, 5, b"", has={"upload-offset": "5", "upload-expires": None}),
        patch(413, 5, b"!", code="length-exceeded"),
        patch(413, 5, chunks=[b"!"], code="length-exceeded"),
        patch(409, 0, b"hello", has={"upload-offset": "5"}),
        at(5),
        file="p11",
        content=b"hello",
    ),
    row(
        "P15",
        "many small pieces and a large one add up",
        post(201, length(100_005, **named("p15"))),
        *(
            patch(204, index, b"%d" % index, has={"upload-offset": str(index + 1)})
            for index in range(5)
        ),
        patch(204, 5, bytes(100_000), has={"upload-offset": "100005"}),
        file="p15",
        content=b"01234" + bytes(100_000),
    ),
    row(
        "P17",
        "only who began an upload goes on with it",
        post(201, length(5)),
        patch(403, 0, b"x", by="other", code="forbidden"),
        patch(403, 0, b"x", by="manager", code="forbidden"),
        patch(403, 0, b"x", by="viewer", code="forbidden"),
        patch(404, 0, b"x", by="outsider", code="not-found"),
        patch(401, 0, b"x", by=None, code="unauthenticated"),
        at(0),
    ),
    row(
        "P18",
        "coded bodies are refused",
        post(201, length(5)),
        patch(415, 0, b"x", fields={"Content-Encoding": "gzip"}, code="coded-body"),
        at(0),
        begin(415, 5, b"x", {"Content-Encoding": "zstd"}),
    ),
]
