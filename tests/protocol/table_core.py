"""The table of tus, letters C, G, H: the core protocol, how its headers are read, and HEAD."""

from filestore.http.tus_headers import EXTENSIONS
from filestore.transfer.checksums import ALGORITHMS
from tests.protocol.rows import (
    COLLECTION,
    DATE,
    DEFERRED,
    GOOD_METADATA,
    NOT_NUMBERS,
    UNKNOWN,
    UPLOAD,
    at,
    delete,
    final,
    head,
    length,
    options,
    other,
    partial,
    patch,
    post,
    row,
)

SPEAKS = {
    "tus-version": "1.0.0",
    "tus-extension": ",".join(EXTENSIONS),
    "tus-max-size": "4194304",
    "tus-checksum-algorithm": ",".join(ALGORITHMS),
    "tus-resumable": None,
}

GRAMMAR = [
    *(
        row(
            "G1",
            f"the number {given!r} is none, wherever it stands",
            post(400, {"Upload-Length": given}, code="bad-header"),
            post(201, DEFERRED),
            patch(400, 0, b"x", fields={"Upload-Offset": given}, code="bad-header"),
            patch(400, 0, b"x", fields={"Upload-Length": given}, code="bad-header"),
            at(0),
        )
        for given in NOT_NUMBERS
    ),
    *(
        row(
            "G4",
            f"the version {given!r} is not 1.0.0",
            post(412, length(5), version=given, code="tus-version"),
        )
        for given in ("v1.0.0", "1.0.0;q=1", "01.0.0", "1.0.0.0", "*")
    ),
]

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
        "H6",
        "HEAD says what the upload is to a concatenation and nothing for any other",
        post(201, length(5)),
        head(200, has={"upload-concat": None}),
        *partial("a", b"hello"),
        head(200, "{a}", has={"upload-concat": "partial"}),
        final(201, " {url:a}   {a}"),
        head(200, has={"upload-concat": "final; {url:a}   {a}"}),
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
