"""The table of the draft: V which version speaks, F1 to F6 the flows."""

from tests.protocol.ietf_rows import (
    COLLECTION,
    DONE,
    GONE,
    HELLO,
    INCONSISTENT,
    LIMIT,
    MISMATCHING,
    OPEN,
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
