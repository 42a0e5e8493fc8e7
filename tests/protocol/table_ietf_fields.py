"""The table of the draft: M malformed fields, N names, D digests."""

import re

from tests.protocol.ietf_rows import (
    DONE,
    FILE,
    GONE,
    HELLO,
    OPEN,
    at,
    digest,
    head,
    length,
    patch,
    post,
    put,
    row,
)

MALFORMED = [
    *(
        row(
            "M1",
            f"Upload-Offset {value!r} is as if it were not there",
            post(201, "?0"),
            patch(400, 0, "?0", b"x", fields={"Upload-Offset": value}, type="bad-header"),
            at(0),
            leaves=True,
        )
        for value in (
            None,
            "",
            "+0",
            "-1",
            "0.0",
            "0x0",
            "1_0",
            "0, 0",
            "0" * 16,
            "?0",
            "٠".encode(),
        )
    ),
    *(
        row(
            "M2",
            f"Upload-Complete {value!r} does not say whether an append is the last",
            post(201, "?0"),
            patch(400, 0, value, b"x", type="bad-header"),
            at(0),
            leaves=True,
        )
        for value in (None, "1", "yes", "?1?0")
    ),
    *(
        row(
            "M3",
            f"Upload-Length {value!r} is as if it were not there",
            post(201, "?0", fields=length(value), has=OPEN),
            head(204, upload_length=None),
            leaves=True,
        )
        for value in ("+5", "5.0", "-5", "9" * 16, "5,", "five", ":NQ==:")
    ),
    *(
        row(
            "M4",
            f"an append of type {kind!r} is refused",
            post(201, "?0"),
            patch(415, 0, "?0", b"x", fields={"Content-Type": kind}, type="bad-media-type"),
            at(0),
            leaves=True,
        )
        for kind in (None, "", "application/offset+octet-stream", "text/plain")
    ),
    row(
        "M5",
        "a field that comes twice is refused",
        post(400, "?0", fields={"upload-complete": "?1"}, type="bad-header"),
    ),
    row(
        "M6",
        "a part of a file is not taken for all of it",
        put(400, "?1", HELLO, fields={"Content-Range": "bytes 0-10/22"}, type="bad-header"),
    ),
    row(
        "M7",
        "parameters are read and ignored",
        post(201, '?0;a;b="x;y";c=:AA==:;d=1.5;e=tok/en', fields=length("11; f=@5"), has=OPEN),
        head(204, upload_length="11"),
        leaves=True,
    ),
]

NAMES = [
    *(
        row(
            "N1",
            f"the name of {value}",
            post(201, "?1", HELLO, fields={"Content-Disposition": value}),
            content=HELLO,
        )
        for value in (
            f"attachment; filename={FILE}",
            f'form-data; name="x"; filename="{FILE}"',
            f"inline; filename*=UTF-8''{FILE}",
            f"inline; filename=\"other\"; filename*=utf-8'en'{FILE}",
            f'inline ;FileName = "{FILE}" ; x=y',
        )
    ),
    *(
        row(
            "N2",
            f"the name of {value} is refused",
            post(400, "?1", HELLO, fields={"Content-Disposition": value}, type="bad-name"),
        )
        for value in (
            'inline; filename="../etc/passwd"',
            'inline; filename="a/b"',
            'inline; filename=".."',
            'inline; filename=""',
            "inline; filename*=UTF-8''..%2Fup",
            "inline; filename*=UTF-8''a%00b",
        )
    ),
    *(
        row(
            "N3",
            f"Content-Disposition {value!r} is malformed",
            post(400, "?1", HELLO, fields={"Content-Disposition": value}, type="bad-header"),
        )
        for value in (
            "",
            "filename=x",
            "inline; filename",
            'inline; filename="x',
            "inline; filename=x; filename=y",
            "inline; filename*=latin1''x",
            "inline; filename*=UTF-8''%ff",
            "inline; filename*=x",
        )
    ),
    row(
        "N4",
        "without a name the id is the name",
        post(201, "?1", HELLO, fields={"Content-Disposition": None}, has=DONE),
    ),
]

_WRONG = {"Content-Digest": digest("Content-Digest", b"other")["Content-Digest"]}
_BOTH = re.compile(r"sha-256=:.{44}:, blake3=:.{44}:")

DIGESTS = [
    row(
        "D1",
        "content that has its digest is appended",
        post(201, "?0", b"hello", fields=digest("Content-Digest", b"hello")),
        patch(201, 5, "?1", b" world", fields=digest("Content-Digest", b" world"), has=DONE),
        content=HELLO,
    ),
    row(
        "D2",
        "content that has not its digest is not",
        post(201, "?0", b"hello", fields=length(11)),
        patch(
            400,
            5,
            "?0",
            b" wor",
            fields=_WRONG,
            type="content-mismatch",
            has={"upload-complete": "?0"},
        ),
        patch(400, 5, "?1", b" world", fields=_WRONG, type="content-mismatch"),
        patch(400, 5, "?0", b"", fields=_WRONG, type="content-mismatch"),
        at(5),
        patch(201, 5, "?1", b" world", fields=digest("Content-Digest", b" world")),
        content=HELLO,
    ),
    row(
        "D2",
        "a creation without a body has the digest of nothing",
        post(400, "?0", fields=_WRONG, type="content-mismatch"),
        post(400, "?1", fields=_WRONG, type="content-mismatch"),
        post(201, "?1", fields=digest("Content-Digest", b"")),
        content=b"",
    ),
    *(
        row(
            "D3",
            f"{name} {value!r} cannot be checked",
            post(400, "?1", HELLO, fields={name: value}, type="bad-header"),
        )
        for name in ("Content-Digest", "Repr-Digest")
        for value in ("", "sha-256=x", "sha-256=:AA==:", "md5=:AAAAAAAAAAAAAAAAAAAAAA==:")
    ),
    row(
        "D4",
        "a file that has its digest is made",
        post(201, "?0", b"hello", fields=digest("Repr-Digest", HELLO)),
        patch(
            201,
            5,
            "?1",
            b" world",
            fields={"Want-Repr-Digest": "sha-256=1"},
            has={**DONE, "repr-digest": _BOTH},
        ),
        content=HELLO,
    ),
    row(
        "D4",
        "the digest may come with the last bytes",
        post(201, "?0", b"hello"),
        patch(201, 5, "?1", b" world", fields=digest("Repr-Digest", HELLO), has=DONE),
        content=HELLO,
    ),
    row(
        "D5",
        "a file that has not its digest is not made and its upload is over",
        post(201, "?0", b"hello", fields=digest("Repr-Digest", b"other")),
        patch(422, 5, "?1", b" world", type="digest-mismatch", has={"upload-complete": "?1"}),
        GONE,
    ),
    row(
        "D5",
        "a wrong digest with the last bytes",
        post(201, "?0", b"hello"),
        patch(422, 5, "?1", b" world", fields=digest("Repr-Digest", b"x"), type="digest-mismatch"),
        GONE,
    ),
    row(
        "D5",
        "a creation that has not its digest",
        put(422, "?1", HELLO, fields=digest("Repr-Digest", b"x"), has={"upload-complete": "?1"}),
        put(422, "?1", b"", fields=digest("Repr-Digest", b"x"), has={"upload-complete": "?1"}),
    ),
    row(
        "D6",
        "two digests of one file contradict each other",
        post(201, "?0", b"hello", fields=digest("Repr-Digest", HELLO)),
        patch(400, 5, "?1", b" world", fields=digest("Repr-Digest", b"x"), type="bad-request"),
        patch(201, 5, "?1", b" world", fields=digest("Repr-Digest", HELLO)),
        content=HELLO,
    ),
]
