"""The table of the draft: flows, and the checklist of what a server must do.

V which version speaks, F1 to F6 the flows, L1 to L12 the checklist, M malformed fields, N names,
D digests, C conditions, X crossing protocols. What needs a broken connection, two connections or
time that passes is in ``test_ietf_*.py``.
Source: draft-ietf-httpbis-resumable-upload, -05 (interop version 6) and -11 (8).
"""

import re

from tests.protocol.ietf_rows import (
    COLLECTION,
    DONE,
    FILE,
    GONE,
    HELLO,
    INCONSISTENT,
    LIMIT,
    MISMATCHING,
    OPEN,
    PATH,
    UPLOAD,
    Ask,
    Row,
    at,
    digest,
    head,
    length,
    patch,
    post,
    put,
    row,
)

TUS = {"Tus-Resumable": "1.0.0"}
MAX = 4 * 2**20
"""The largest upload of the service that is asked."""

_NOTHING_SAID = {"upload-complete": None, "upload-offset": None, "location": None}

VERSIONS = [
    *(
        row(
            "V1",
            f"fields of version {version!r} are ignored",
            put(201, "?0", HELLO, speaks=version, has=_NOTHING_SAID, tells=False),
            content=HELLO,
        )
        for version in (None, "3", "5", "7", "9", "6.0", "six", "?1", "6, 6", "-6", "")
    ),
    row(
        "V2",
        "a creation of another version in the collection is one of tus without its version",
        post(412, "?1", HELLO, speaks="5", type="tus-version", tells=False),
    ),
    row(
        "V3",
        "a version with parameters is that version",
        put(201, "?1;x", HELLO, speaks="{version};a=1;b", has=DONE, tells=True),
        content=HELLO,
    ),
    row(
        "V4",
        "what does not say whether it is all is an ordinary request",
        put(201, None, HELLO, has=_NOTHING_SAID, tells=False),
        content=HELLO,
    ),
    *(
        row(
            "V4",
            f"Upload-Complete {value!r} is malformed and ignored",
            put(201, value, HELLO, has=_NOTHING_SAID, tells=False),
            content=HELLO,
        )
        for value in ("1", "true", "?2", "?1, ?1", "? 1", "?1;", "?1;A=1", "")
    ),
]

FLOWS = [
    *(
        row(
            "F1",
            f"limits are told at {where}",
            Ask("OPTIONS", where, 204, has={"upload-limit": LIMIT}),
        )
        for where in (COLLECTION, PATH, "/api/v1/uploads/upl_" + "0" * 26)
    ),
    row(
        "F1",
        "limits are told to those who name no version",
        Ask("OPTIONS", PATH, 204, has={"upload-limit": LIMIT}, speaks=None),
    ),
    row(
        "F2",
        "a whole file in one request is answered as without the draft",
        put(201, "?1", HELLO, has={**DONE, "upload-offset": "11"}, tells=True),
        put(200, "?1", b"second", has=DONE, tells=True),
        content=b"second",
    ),
    row(
        "F2",
        "a whole file of unknown length",
        put(201, "?1", chunks=[b"hello", b" ", b"world"], has=DONE, tells=True),
        content=HELLO,
    ),
    row(
        "F2",
        "a whole file in the collection",
        post(201, "?1", HELLO, has=DONE, tells=True),
        content=HELLO,
    ),
    *(
        row(
            "F2",
            f"a careful creation by {begin.__name__} and appending",
            begin(201, "?0", b"", has={**OPEN, "upload-offset": "0"}, tells=False),
            at(0),
            patch(204, 0, "?0", b"hello", has={**OPEN, "upload-offset": "5"}),
            at(5),
            patch(201, 5, "?1", b" world", has={**DONE, "upload-offset": "11"}),
            content=HELLO,
        )
        for begin in (put, post)
    ),
    row(
        "F2",
        "a careful creation with the length",
        post(201, "?0", fields=length(11), has=OPEN),
        head(204, upload_length="11", upload_offset="0", upload_complete="?0"),
        patch(204, 0, "?0", b"hello"),
        patch(201, 5, "?1", b" world", has=DONE),
        content=HELLO,
    ),
    *(
        row(
            "F2",
            f"a creation with all bytes that are not said to be all {list(fields)}",
            put(201, "?0", HELLO, fields=fields, has={**OPEN, "upload-offset": "11"}, tells=True),
            at(11),
            patch(204, 11, "?0", has=OPEN),
            Ask("GET", PATH, 404, speaks=None),
            patch(201, 11, "?1", has={**DONE, "upload-offset": "11"}),
            content=HELLO,
        )
        for fields in ({}, length(11))
    ),
    row(
        "F2",
        "an empty file",
        put(201, "?1", b"", has={**DONE, "upload-offset": "0"}, tells=False),
        content=b"",
    ),
    row(
        "F2",
        "an empty file of which it is said later that it is all",
        post(201, "?0", fields=length(0), has={**OPEN, "upload-offset": "0"}),
        at(0),
        Ask("GET", PATH, 404, speaks=None),
        patch(201, 0, "?1", has=DONE),
        content=b"",
    ),
    row(
        "F2",
        "a new version by a resumed upload",
        put(201, "?1", b"first"),
        put(201, "?0", b"", has=OPEN),
        patch(200, 0, "?1", HELLO, has=DONE),
        content=HELLO,
    ),
    row(
        "F3",
        "HEAD says where the upload is and is not cached",
        post(201, "?0", b"hello", fields=length(11)),
        head(
            204,
            upload_offset="5",
            upload_complete="?0",
            upload_length="11",
            upload_limit=LIMIT,
            cache_control="no-store",
        ),
        leaves=True,
    ),
    row(
        "F3",
        "HEAD knows no length that was not said",
        post(201, "?0", b"hello"),
        head(204, upload_offset="5", upload_length=None),
        leaves=True,
    ),
    row(
        "F4",
        "appending in chunks without a length",
        post(201, "?0"),
        patch(204, 0, "?0", chunks=[b"he", b"llo"], has={**OPEN, "upload-offset": "5"}),
        patch(201, 5, "?1", chunks=[b" wor", b"ld"], has={**DONE, "upload-offset": "11"}),
        content=HELLO,
    ),
    row(
        "F4",
        "nothing may be appended at any time",
        post(201, "?0", b"hello", fields=length(11)),
        patch(204, 5, "?0", has={"upload-offset": "5"}),
        patch(201, 5, "?1", b" world"),
        content=HELLO,
    ),
    row(
        "F4",
        "the length may be said on the way",
        post(201, "?0", b"hello"),
        patch(204, 5, "?0", b" ", fields=length(11)),
        head(204, upload_length="11", upload_offset="6"),
        patch(201, 6, "?1", b"world"),
        content=HELLO,
    ),
    row(
        "F5",
        "an upload is cancelled",
        post(201, "?0", b"hello"),
        Ask("DELETE", UPLOAD, 204),
        GONE,
        patch(410, 5, "?1", b" world"),
        Ask("DELETE", UPLOAD, 410),
    ),
    row(
        "F6",
        "the final answer can be asked again",
        post(201, "?1", HELLO, has=DONE),
        patch(201, 11, "?1", has={**DONE, "upload-offset": "11"}),
        patch(201, 11, "?1", has=DONE),
        head(204, upload_offset="11", upload_complete="?1", upload_length="11"),
        patch(400, 11, "?1", b"more", type=INCONSISTENT),
        patch(409, 0, "?1", HELLO, type=MISMATCHING, has={"upload-offset": "11"}),
        patch(201, 11, "?1", has=DONE),
        content=HELLO,
    ),
    row(
        "F6",
        "a finished upload can be forgotten and the file stays",
        put(201, "?1", HELLO),
        Ask("DELETE", UPLOAD, 204),
        GONE,
        content=HELLO,
    ),
]

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

TABLE: list[Row] = [
    *(*VERSIONS, *FLOWS, *LENGTHS, *MALFORMED),
    *(*NAMES, *DIGESTS, *CONDITIONS, *CROSSING),
]
