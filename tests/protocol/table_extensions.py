"""The table of tus, letters E, K, R, T: expiration, checksums (also trailing), termination."""

import re

from filestore.http.tus_headers import EXTENSIONS
from filestore.transfer.checksums import ALGORITHMS
from tests.protocol.rows import (
    DATE,
    HELLO,
    UNKNOWN,
    at,
    b64,
    begin,
    checksum,
    delete,
    head,
    length,
    named,
    options,
    patch,
    post,
    row,
)

BAD_CHECKSUMS = (
    *("sha1", "sha1 ", "foobar", "sha1 ***", "sha1 Zm9v", "sha256 " + b64(b"x" * 20)),
    *("md5 " + b64(b"x" * 20), "crc32 AAAA", "blake3 " + b64(b"x" * 20)),
    *("sha1  " + b64(b"x" * 20), "sha1 " + b64(b"x" * 21), "sha1 " + b64(b"x" * 20) + ",md5 eA=="),
)

EXPIRATION = [
    row(
        "E1",
        "an unfinished upload says when it expires and a finished one does not",
        post(201, length(5), has={"upload-expires": DATE}),
        patch(204, 0, b"", has={"upload-expires": DATE}),
        patch(204, 0, b"he", has={"upload-expires": DATE}),
        patch(204, 2, b"llo", has={"upload-expires": None}),
        begin(201, 5, b"hello"),
        head(200, has={"upload-expires": None}),
    ),
    row(
        "E2",
        "the moment is a date as HTTP writes it",
        post(201, length(5), has={"upload-expires": DATE}),
        patch(204, 0, b"he", has={"upload-expires": DATE}),
        head(200, has={"upload-expires": DATE}),
    ),
    row(
        "E7",
        "what expires is advertised",
        options(has={"tus-extension": re.compile(r"(?:.+,)?expiration(?:,.+)?")}),
    ),
]

CHECKSUM = [
    row(
        "K1",
        "OPTIONS names the algorithms and sha1 is one",
        options(has={"tus-checksum-algorithm": "sha1,sha256,blake3,md5,crc32"}),
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
        for algorithm in ALGORITHMS
    ),
    *(
        row(
            "K2",
            f"a wrong {algorithm} is refused",
            post(201, length(5)),
            patch(460, 0, b"hello", fields=checksum(b"hullo", algorithm)),
            at(0),
            begin(460, 5, b"hello", checksum(b"hullo", algorithm)),
        )
        for algorithm in ALGORITHMS
    ),
    row(
        "K2",
        "crc32 is that of zlib with the most significant byte first",
        post(201, length(9)),
        patch(204, 0, b"123456789", fields={"Upload-Checksum": "crc32 y/Q5Jg=="}),  # CBF43926
    ),
    *(
        row(
            "K3",
            f"the algorithm {given.split()[0]} is refused",
            post(201, length(5)),
            patch(400, 0, b"hello", fields={"Upload-Checksum": given}, code="bad-header"),
            at(0),
        )
        for given in ("SHA1 " + b64(b"x" * 20), "sha512 " + b64(b"x" * 64), "crc32c AAAAAA==")
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
        "R1",
        "checksums behind the body are not advertised",
        options(has={"tus-extension": re.compile(r"(?!.*checksum-trailer).*")}),
    ),
    row(
        "R3",
        "a checksum before and behind the body is refused",
        post(201, length(5)),
        patch(400, 0, b"hello", fields={"Trailer": "upload-checksum", **checksum(b"hello")}),
        at(0),
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
        "T7",
        "termination is advertised and is there",
        options(has={"tus-extension": ",".join(EXTENSIONS)}),
        post(201, length(5)),
        delete(204),
    ),
    row(
        "T6",
        "a finished upload may be ended too",
        post(201, length(0)),
        delete(204),
        head(410),
    ),
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
