"""The table of tus 1.0.0: every check by its letter.

C core, H HEAD, P PATCH, N creation, D deferred length, W creation with upload, E expiration,
K checksum, T termination. What needs two connections at once, time that passes, or a broken
connection is in ``test_tus_connections.py``; concatenation and the method override are no
part of the service.
"""

import re

from filestore.http.tus_headers import EXTENSIONS
from tests.protocol.rows import (
    BODY_TYPE,
    COLLECTION,
    DATE,
    UNKNOWN,
    UPLOAD,
    Row,
    at,
    b64,
    begin,
    checksum,
    delete,
    head,
    length,
    named,
    options,
    other,
    patch,
    post,
    row,
)

HELLO = b"hello world"
ADDRESS = re.compile(r"/api/v1/uploads/upl_[0-9a-z]{26}")
DEFERRED = {"Upload-Defer-Length": "1"}
NOT_NUMBERS = (
    *("-1", "+5", "5.0", "1_000", "0x10", "five", "1e3", "9223372036854775808", "5, 5", "5;"),
    *("٣".encode(), b"\xff"),
)
"""What some reader of numbers takes and tus does not."""

BAD_METADATA = (
    *("foo ***", "foo Zm9v bar YmFy", ",", "a YQ==, Zm9v", "a YQ==,a Yg==", "k YQ", "k Y Q=="),
    *("a YQ==,", ",a YQ==", "k YQ===", "k YQ==YQ==", "filename /w=="),
    *("clé YQ==".encode(), "k " + b64(b"x" * 20_000)),
)
GOOD_METADATA = (
    *("is_confidential", "k1 YQ==,k2", "k1 ,k2 YQ==", "binary /wD+", "nonlatin c8WCb8WEY2U="),
    "relativePath bnVsbA==,type dGV4dC9wbGFpbg==",
)
BAD_CHECKSUMS = (
    *("sha1", "sha1 ", "foobar", "sha1 ***", "sha1 Zm9v", "sha256 " + b64(b"x" * 20)),
    *("md5 " + b64(b"x" * 16), "crc32 AAAAAA==", "SHA1 " + b64(b"x" * 20)),
    *("sha1  " + b64(b"x" * 20), "sha1 " + b64(b"x" * 21), "sha1 " + b64(b"x" * 20) + ",md5 eA=="),
)

SPEAKS = {
    "tus-version": "1.0.0",
    "tus-extension": ",".join(EXTENSIONS),
    "tus-max-size": "4194304",
    "tus-checksum-algorithm": "sha1,sha256",
    "tus-resumable": None,
}

CORE = [
    row(
        "C1",
        "every error says which version the server speaks",
        post(401, length(1), by=None, code="unauthenticated"),
        other("GET", UNKNOWN + "/more", 404, code="not-found"),
        other("GET", UNKNOWN, 405, code="method-not-allowed"),
        post(400, length(1, **{"X-Bad": b"a\x00b"})),  # type: ignore[arg-type]
        post(413, length(5_000_000), code="too-large"),
        post(201, length(5)),
        patch(409, 1, b"x", code="offset-mismatch"),
        patch(415, 0, b"x", fields={"Content-Type": "text/plain"}, code="bad-media-type"),
        head(404, UNKNOWN),
    ),
    *(
        row(
            "C2",
            f"the version {version!r} is refused and nothing is processed",
            post(412, length(5), version=version, code="tus-version", has={"tus-version": "1.0.0"}),
            post(201, length(5)),
            patch(412, 0, b"x", version=version, has={"tus-version": "1.0.0"}),
            head(412, version=version, has={"tus-version": "1.0.0", "upload-offset": None}),
            delete(412, version=version, has={"tus-version": "1.0.0"}),
            at(0),
        )
        for version in ("0.2.2", "2.0.0", "", "1.0.0, 0.2.2", "1.0", "1.0.00")
    ),
    row(
        "C3",
        "without a version nothing changes anything",
        post(412, length(5), version=None, code="tus-version", has={"tus-version": "1.0.0"}),
        post(201, length(5)),
        patch(412, 0, b"x", version=None, code="tus-version", has={"tus-version": "1.0.0"}),
        delete(412, version=None, code="tus-version", has={"tus-version": "1.0.0"}),
        at(0),
    ),
    row(
        "C4",
        "without a version HEAD is refused too",
        post(201, length(5)),
        head(412, version=None, has={"tus-version": "1.0.0", "upload-offset": None}),
    ),
    row("C5", "OPTIONS names the version", options(has={"tus-version": "1.0.0"})),
    row(
        "C6",
        "OPTIONS on every address of uploads says what the server speaks",
        options(has=SPEAKS),
        options(COLLECTION + "/", has=SPEAKS),
        post(201, length(1)),
        options(UPLOAD, has=SPEAKS),
        options(UPLOAD + "/", has=SPEAKS),
        options(UNKNOWN, has=SPEAKS),
        options("/api/v1/groups/nobody/uploads", has=SPEAKS),
    ),
    row("C7", "OPTIONS takes any version", options(version="9.9.9", has=SPEAKS)),
    row(
        "C10",
        "an unknown method is refused with those that are possible",
        other("PUT", COLLECTION, 405, has={"allow": "GET, OPTIONS, POST"}),
        other("LOCK", UNKNOWN, 405, has={"allow": "DELETE, HEAD, OPTIONS, PATCH"}),
    ),
    row(
        "G2",
        "names of headers are read in any case and values without their blanks",
        other("POST", COLLECTION, 201, {"upload-length": "  5\t"}),
        at(0),
        head(200, has={"upload-length": "5"}),
    ),
    row(
        "G3",
        "the media type is compared without its parameters and in any case",
        post(201, length(5)),
        patch(204, 0, b"he", fields={"Content-Type": "Application/Offset+Octet-Stream; a=b"}),
        at(2),
    ),
    row(
        "G5",
        "a header that must be single and comes twice is refused",
        post(400, {"Upload-Length": "5", "upload-length": "6"}, code="bad-header"),
        post(201, length(5)),
        patch(400, 0, b"x", fields={"upload-offset": "0"}, code="bad-header"),
        at(0),
    ),
]

HEAD = [
    row(
        "H1",
        "HEAD always says the offset",
        post(201, length(5)),
        at(0),
        patch(204, 0, b"he"),
        at(2),
        patch(204, 2, b"llo"),
        at(5),
    ),
    row(
        "H2",
        "HEAD says the length as soon as it is known",
        post(201, DEFERRED),
        head(200, has={"upload-length": None, "upload-defer-length": "1"}),
        post(201, length(5)),
        head(200, has={"upload-length": "5", "upload-defer-length": None}),
    ),
    row(
        "H3",
        "the answer to HEAD is not kept by caches",
        post(201, length(5)),
        head(200, has={"cache-control": "no-store"}),
    ),
    row(
        "H4",
        "HEAD on what is not there or not one's own tells nothing",
        head(404, UNKNOWN, has={"upload-offset": None}),
        post(201, length(5)),
        head(403, by="other", has={"upload-offset": None}),
        head(403, by="manager", has={"upload-offset": None}),
        head(403, by="viewer", has={"upload-offset": None}),
        head(404, by="outsider", has={"upload-offset": None}),
        head(401, by=None, has={"upload-offset": None}),
        delete(204),
        head(410, has={"upload-offset": None}),
    ),
    *(
        row(
            "H5",
            f"the metadata {given!r} comes back as it was sent",
            post(201, length(5, **{"Upload-Metadata": given})),
            head(200, has={"upload-metadata": given}),
        )
        for given in (*GOOD_METADATA, "z YQ==,a,m Yg==")
    ),
    row(
        "H5",
        "without metadata none comes back",
        post(201, length(5)),
        head(200, has={"upload-metadata": None, "upload-concat": None}),
    ),
    row(
        "H7",
        "HEAD says when an unfinished upload expires",
        post(201, length(2)),
        head(200, has={"upload-expires": DATE}),
        patch(204, 0, b"hi"),
        head(200, has={"upload-expires": None}),
    ),
]

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
    row(
        "N12",
        "concatenation is refused where it is not spoken",
        post(400, length(5, **{"Upload-Concat": "partial"}), code="bad-header"),
    ),
]

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

EXPIRATION = [
    row(
        "E1",
        "an unfinished upload says when it expires and a finished one does not",
        post(201, length(5), has={"upload-expires": DATE}),
        patch(204, 0, b"he", has={"upload-expires": DATE}),
        patch(204, 2, b"llo", has={"upload-expires": None}),
        begin(201, 5, b"hello"),
        head(200, has={"upload-expires": None}),
    ),
]

CHECKSUM = [
    row(
        "K1",
        "OPTIONS names the algorithms and sha1 is one",
        options(has={"tus-checksum-algorithm": re.compile(r"(?:[a-z0-9]+,)*sha1(?:,[a-z0-9]+)*")}),
    ),
    *(
        row(
            "K2",
            f"a right {algorithm} is taken",
            post(201, length(11, **named(f"k2-{algorithm}"))),
            patch(
                204, 0, b"hello", fields=checksum(b"hello", algorithm), has={"upload-offset": "5"}
            ),
            patch(204, 5, b" world", fields=checksum(b" world", algorithm)),
            file=f"k2-{algorithm}",
            content=HELLO,
        )
        for algorithm in ("sha1", "sha256")
    ),
    *(
        row(
            "K4",
            f"the checksum {given!r} is refused",
            post(201, length(5)),
            patch(400, 0, b"hello", fields={"Upload-Checksum": given}, code="bad-header"),
            at(0),
            begin(400, 5, b"hello", {"Upload-Checksum": given}),
        )
        for given in BAD_CHECKSUMS
    ),
    row(
        "K5",
        "a wrong checksum is refused",
        post(201, length(5)),
        patch(460, 0, b"hello", fields=checksum(b"hullo"), code="checksum-mismatch"),
    ),
    row(
        "K6",
        "what had a wrong checksum is discarded and may be sent again",
        post(201, length(11, **named("k6"))),
        patch(204, 0, b"he", fields=checksum(b"he")),
        patch(460, 2, b"XX", fields=checksum(b"ll")),
        at(2),
        patch(460, 2, b"XXXXXXXXX", fields=checksum(b"llo world", "sha256")),
        at(2),
        patch(204, 2, b"llo world", fields=checksum(b"llo world", "sha256")),
        file="k6",
        content=HELLO,
    ),
    row(
        "K7",
        "a checksum is that of the body and not of the file",
        post(201, length(11)),
        patch(204, 0, b"hello", fields=checksum(b"hello")),
        patch(460, 5, b" world", fields=checksum(HELLO)),
        at(5),
    ),
    row(
        "K8",
        "a body that is too long is refused before its checksum",
        post(201, length(3)),
        patch(413, 0, b"hello", fields=checksum(b"other"), code="length-exceeded"),
        patch(413, 0, chunks=[b"hello"], fields=checksum(b"other"), code="length-exceeded"),
        at(0),
    ),
    row(
        "K10",
        "a creation with a wrong checksum creates nothing",
        begin(460, 5, b"hello", {**named("k10"), **checksum(b"hullo")}),
        begin(460, 11, b"hello", {**named("k10"), **checksum(b"hullo")}),
        begin(460, 0, b"", {**named("k10"), **checksum(b"hullo")}),
        post(460, {**length(5), **checksum(b"hello")}, code="checksum-mismatch"),
        begin(201, 5, b"hello", {**named("k10-right"), **checksum(b"hello")}),
        file="k10",
    ),
    row(
        "K12",
        "an empty body has a checksum too",
        post(201, length(5)),
        patch(204, 0, b"", fields=checksum(b"")),
        patch(460, 0, b"", fields=checksum(b"x")),
        patch(204, 0, b"hello"),
        patch(204, 5, b"", fields=checksum(b"")),
        patch(460, 5, b"", fields=checksum(b"x"), code="checksum-mismatch"),
        at(5),
    ),
    row(
        "R2",
        "a checksum behind the body is refused",
        post(201, length(5)),
        patch(400, 0, b"hello", fields={"Trailer": "X-Other, Upload-Checksum"}, code="bad-header"),
        at(0),
    ),
]

TERMINATION = [
    row(
        "T1",
        "an unfinished upload is ended",
        post(201, length(5)),
        patch(204, 0, b"he"),
        delete(204),
    ),
    row(
        "T2",
        "an ended upload is gone",
        post(201, length(5)),
        delete(204),
        head(410),
        patch(410, 0, b"x", code="upload-gone"),
        delete(410, code="upload-gone"),
    ),
    row("T3", "an unknown upload cannot be ended", delete(404, UNKNOWN, code="not-found")),
    row(
        "T4",
        "ending a finished upload forgets the upload and never the file",
        post(201, length(5, **named("t4"))),
        patch(204, 0, b"hello"),
        delete(204),
        head(410),
        file="t4",
        content=b"hello",
    ),
    row(
        "T8",
        "who began it and managers end an upload and nobody else",
        post(201, length(5)),
        delete(403, by="other", code="forbidden"),
        delete(403, by="viewer", code="forbidden"),
        delete(404, by="outsider", code="not-found"),
        delete(401, by=None, code="unauthenticated"),
        at(0),
        delete(204, by="manager"),
        head(410),
    ),
]

TABLE: list[Row] = [
    *CORE, *HEAD, *PATCH, *CREATION, *DEFER, *WITH_UPLOAD, *EXPIRATION, *CHECKSUM, *TERMINATION,
]  # fmt: skip
