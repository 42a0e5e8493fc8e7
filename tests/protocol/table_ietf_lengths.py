"""The table of the draft: L1 to L12, what a server must do."""

from tests.protocol.ietf_rows import (
    DONE,
    GONE,
    HELLO,
    INCONSISTENT,
    MISMATCHING,
    OPEN,
    UPLOAD,
    Ask,
    at,
    length,
    patch,
    post,
    put,
    row,
)

MAX = 4 * 2**20
"""The largest upload of the service that is asked."""

LENGTHS = [
    *(
        row(
            "L1",
            f"offset {offset} is not where the upload is",
            post(201, "?0", b"hello"),
            patch(
                409,
                offset,
                complete,
                b"x",
                type=MISMATCHING,
                has={"upload-offset": "5", "upload-complete": "?0"},
                says={"expected-offset": 5, "provided-offset": offset},
            ),
            at(5),
            leaves=True,
        )
        for offset in (0, 4, 6, 10**14)
        for complete in ("?0", "?1")
    ),
    *(
        row(
            "L2",
            f"a creation {complete} of 11 bytes does not have {size}",
            put(400, complete, HELLO, fields=length(size), type=INCONSISTENT, tells=False),
        )
        for complete, size in (("?1", 12), ("?1", 10), ("?0", 10), ("?1", 0))
    ),
    row(
        "L2",
        "a length that was said is not another one later",
        post(201, "?0", b"hello", fields=length(11)),
        patch(400, 5, "?0", b"x", fields=length(12), type=INCONSISTENT),
        patch(400, 5, "?1", b" worl", type=INCONSISTENT, has={"upload-complete": "?0"}),
        patch(400, 5, "?1", b" world!", type=INCONSISTENT),
        patch(400, 5, "?1", b" world", fields=length(10), type=INCONSISTENT),
        patch(400, 5, "?1", b"", type=INCONSISTENT),
        at(5),
        patch(201, 5, "?1", b" world", fields=length(11), has=DONE),
        content=HELLO,
    ),
    row(
        "L2",
        "a length less than what has arrived",
        post(201, "?0", b"hello"),
        patch(400, 5, "?0", fields=length(4), type=INCONSISTENT),
        patch(204, 5, "?0", fields=length(5)),
        patch(201, 5, "?1", has=DONE),
        content=b"hello",
    ),
    row(
        "L2",
        "a rest that turns out too short is kept and can be gone on with",
        post(201, "?0", b"hello", fields=length(11)),
        patch(400, 5, "?1", chunks=[b" wor"], type=INCONSISTENT, has={"upload-complete": "?0"}),
        at(9),
        patch(201, 9, "?1", b"ld", has=DONE),
        content=HELLO,
    ),
    row(
        "L3",
        "more bytes than the length by what is announced end the upload",
        post(201, "?0", b"hello", fields=length(11)),
        patch(400, 5, "?0", b" world!", type=INCONSISTENT),
        GONE,
        patch(410, 5, "?1", b" world"),
    ),
    row(
        "L3",
        "more bytes than the length by what comes end the upload",
        post(201, "?0", b"hello", fields=length(11)),
        patch(400, 5, "?0", chunks=[b" world", b"!"], type=INCONSISTENT),
        GONE,
    ),
    row(
        "L3",
        "a rest that is longer than the length ends the upload",
        post(201, "?0", b"hello", fields=length(11)),
        patch(400, 5, "?1", chunks=[b" world!"], type=INCONSISTENT),
        GONE,
    ),
    row(
        "L3",
        "a creation with more bytes than its length",
        put(400, "?1", chunks=[HELLO, b"!"], fields=length(11), type=INCONSISTENT, tells=True),
    ),
    row(
        "L5",
        "what is too large is refused with the limit",
        post(413, "?0", fields=length(MAX + 1), type="too-large", has=OPEN, tells=False),
        put(413, "?1", bytes(MAX + 1), type="too-large", has=OPEN, tells=False),
        post(201, "?0", b"hello"),
        patch(413, 5, "?0", fields=length(MAX + 1), type="too-large", has=OPEN),
        patch(413, 5, "?1", bytes(MAX - 4), type="too-large", has=OPEN),
        at(5),
        leaves=True,
    ),
    row(
        "L6",
        "a request may be as small as it likes",
        post(201, "?0"),
        patch(204, 0, "?0", b"h"),
        patch(204, 1, "?0", b"e"),
        patch(201, 2, "?1", b"llo world"),
        content=HELLO,
    ),
    row(
        "L10",
        "coded bodies are refused, for their bytes are not those that count",
        post(201, "?0"),
        patch(415, 0, "?1", HELLO, fields={"Content-Encoding": "gzip"}, type="coded-body"),
        at(0),
        leaves=True,
    ),
    row(
        "L12",
        "only the user who began an upload goes on with it",
        post(201, "?0", b"hello"),
        *(
            Ask(method, UPLOAD, status, by=by, fields=fields, body=body)
            for by, status in (("other", 403), ("viewer", 403), ("outsider", 404))
            for method, fields, body in (
                ("HEAD", {}, None),
                ("PATCH", dict(patch(0, 5, "?1").fields), b" world"),
                ("DELETE", {}, None),
            )
        ),
        Ask("PATCH", UPLOAD, 403, by="manager", fields=dict(patch(0, 5, "?1").fields), body=b"x"),
        at(5),
        Ask("DELETE", UPLOAD, 204, by="manager"),
    ),
    row(
        "L12",
        "who may not write does not begin an upload",
        put(403, "?1", HELLO, by="viewer", type="forbidden", tells=False),
        post(404, "?0", HELLO, by="outsider", type="not-found", tells=False),
    ),
]
