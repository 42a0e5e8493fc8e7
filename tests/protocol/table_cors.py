"""The table of tus, letter O: pages of other origins (section 1.12 of the facts)."""

from tests.protocol.rows import (
    BODY_TYPE,
    COLLECTION,
    UNKNOWN,
    UPLOAD,
    Step,
    length,
    other,
    patch,
    post,
    row,
)

ORIGIN = "https://app.example.org"
ALLOWED = {"Origin": ORIGIN}
SHOWN = {"access-control-allow-origin": ORIGIN, "access-control-allow-credentials": None}
HIDDEN = {"access-control-allow-origin": None, "access-control-expose-headers": None}
METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


def _asks(target: str, status: int, method: str = "PATCH", **more: object) -> Step:
    """A preflight."""
    fields = {**ALLOWED, "Access-Control-Request-Method": method}
    return other("OPTIONS", target, status, fields, **{"by": None, "version": None, **more})


CORS = [
    row(
        "O1",
        "a preflight is answered without a token and says what may be sent",
        *(
            _asks(
                target,
                204,
                has={
                    **SHOWN,
                    "access-control-allow-methods": METHODS,
                    "access-control-max-age": "86400",
                    "vary": "Origin",
                },
            )
            for target in (COLLECTION, UNKNOWN, "/api/v1/groups", "/api/v1/groups/x/files/y")
        ),
    ),
    row(
        "O2",
        "answers say who may read them and errors do too",
        post(201, length(5, **ALLOWED), has=SHOWN),
        patch(204, 0, b"he", fields=ALLOWED, has={**SHOWN, "vary": "Origin"}),
        patch(
            409,
            0,
            b"he",
            fields=ALLOWED,
            has={**SHOWN, "vary": "Accept-Language, Origin"},
        ),
        patch(401, 0, b"he", fields=ALLOWED, by=None, has=SHOWN),
        other("GET", UPLOAD, 405, ALLOWED, has=SHOWN),
        other("GET", "/api/v1/nothing", 404, ALLOWED, has={**SHOWN, "tus-resumable": None}),
        other("POST", COLLECTION, 412, ALLOWED, version=None, has=SHOWN),
    ),
    row(
        "O3",
        "other origins are told nothing and what they send counts as before",
        post(201, length(5, Origin="https://evil.example"), has={**HIDDEN, "vary": "Origin"}),
        post(201, length(5, Origin="null"), has=HIDDEN),
        post(201, length(5, Origin=ORIGIN + ".evil.example"), has=HIDDEN),
        post(201, length(5), has={**HIDDEN, "vary": "Origin"}),
        other(
            "OPTIONS",
            "/api/v1/groups",
            405,
            {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
            has={**HIDDEN, "tus-resumable": None, "access-control-allow-methods": None},
        ),
    ),
    row(
        "O4",
        "a header that is too large is refused so that the page can read it",
        other(
            "POST",
            COLLECTION,
            431,
            {**ALLOWED, "Content-Type": BODY_TYPE, "Upload-Metadata": "k" * 140_000},
            has=SHOWN,
        ),
    ),
]
