"""The table of tus, letter N: creation, and what metadata may be."""

import re

from tests.protocol.rows import (
    GOOD_METADATA,
    NOT_NUMBERS,
    UNKNOWN,
    at,
    b64,
    head,
    length,
    named,
    other,
    post,
    row,
)

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/api/v1/uploads/upl_[0-9a-z]{26}")

BAD_METADATA = (
    *("foo ***", "foo Zm9v bar YmFy", ",", "a YQ==, Zm9v", "a YQ==,a Yg==", "k YQ", "k Y Q=="),
    *("a YQ==,", ",a YQ==", "k YQ===", "k YQ==YQ==", "filename /w=="),
    *("clé YQ==".encode(), "k " + b64(b"x" * 20_000)),
)

CREATION = [
    row(
        "N1",
        "a creation gives an address",
        post(201, length(5), has={"location": ADDRESS, "upload-offset": None}),
        at(0),
    ),
    row("N2", "a creation without any length is refused", post(400, code="bad-header")),
    *(
        row("N3", f"the length {given!r} is refused", post(400, {"Upload-Length": given}))
        for given in ("", *NOT_NUMBERS)
    ),
    row(
        "N4",
        "a length beyond the largest is refused and creates nothing",
        post(413, length(4194305), code="too-large"),
        post(413, length(2**63 - 1), code="too-large"),
    ),
    row(
        "N5",
        "an empty upload is complete at once",
        post(201, length(0, **named("n5")), has={"upload-expires": None}),
        head(200, has={"upload-offset": "0", "upload-length": "0", "upload-expires": None}),
        file="n5",
        content=b"",
    ),
    *(
        row(
            "N6a",
            f"the metadata {given[:20]!r} is refused",
            post(400, {"Upload-Length": "5", "Upload-Metadata": given}, code="bad-header"),
        )
        for given in BAD_METADATA
    ),
    *(
        row(
            "N6b",
            f"the metadata {given!r} is taken",
            post(201, length(5, **{"Upload-Metadata": given})),
        )
        for given in GOOD_METADATA
    ),
    row(
        "N6c",
        "an empty header of metadata is none",
        post(201, length(5, **{"Upload-Metadata": ""})),
        head(200, has={"upload-metadata": None}),
    ),
    *(
        row(
            "N6d",
            f"the name {name[:12]!r} is refused",
            post(400, length(5, **named(name)), code="bad-name"),
        )
        for name in ("../x", "a/b", "..", "a\x00b", "a\nb", "a\u202eb", "x" * 300, " a", "\\")
    ),
    row(
        "N6d",
        "a folder that climbs and a type that is none are refused",
        post(400, length(5, **named("x", path=b"a/../b")), code="bad-name"),
        post(400, length(5, **named("x", filetype=b"text")), code="bad-header"),
        post(400, length(5, **named("x", blake3=b"abc")), code="bad-header"),
        post(400, length(5, **named("x", sha256=b"0" * 63)), code="bad-header"),
    ),
    row(
        "N7",
        "a body of another type is no upload",
        post(201, length(5, **{"Content-Type": "text/plain"}), body=b"hello"),
        at(0),
    ),
    row(
        "N9",
        "a creation elsewhere is none",
        other("POST", UNKNOWN, 405, length(5)),
        other("POST", "/api/v1/uploads", 404, length(5)),
        other("POST", "/api/v1/groups/nobody/uploads", 404, length(5), code="not-found"),
    ),
    *(
        row("N10", f"{name!r} is no upload", head(404, f"/api/v1/uploads/{name}"))
        for name in ("x", "..%2fx", "%2e%2e", "upl_%00", "upl_" + "0" * 27, "%ff", "a%5cb")
    ),
    row(
        "N11",
        "who may not write to the group begins nothing",
        post(403, length(5), by="viewer", code="forbidden"),
        post(404, length(5), by="outsider", code="not-found"),
        post(401, length(5), by=None, code="unauthenticated"),
    ),
]
