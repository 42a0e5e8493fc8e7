"""The table of tus, letters I, C8 and C9: creations that are asked twice, and methods in place of
others."""

from tests.protocol.rows import (
    BODY_TYPE,
    COLLECTION,
    DATE,
    DEFERRED,
    HELLO,
    UPLOAD,
    Fields,
    Step,
    at,
    begin,
    final,
    head,
    length,
    named,
    other,
    partial,
    patch,
    post,
    row,
)
from tests.protocol.table_core import SPEAKS


def _key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def _as(method: str, status: int, fields: Fields | None = None, **more: object) -> Step:
    """A POST that means another method."""
    override = {"X-HTTP-Method-Override": method, **(fields or {})}
    return other("POST", UPLOAD, status, override, **more)


def _patched(offset: int) -> Fields:
    return {"Upload-Offset": str(offset), "Content-Type": BODY_TYPE}


AGAIN = [
    row(
        "I1",
        "the same creation with the same key is the same upload",
        post(201, {**length(11), **_key("i1"), **named("i1")}, save="a"),
        post(
            201,
            {**length(11), **_key("i1"), **named("i1")},
            has={"location": "{url:a}", "upload-offset": "0", "upload-expires": DATE},
        ),
        patch(204, 0, b"hello"),
        post(
            201,
            {**length(11), **_key("i1"), **named("i1")},
            has={"location": "{url:a}", "upload-offset": "5"},
        ),
        patch(204, 5, b" world"),
        post(
            201,
            {**length(11), **_key("i1"), **named("i1")},
            has={"location": "{url:a}", "upload-offset": "11", "upload-expires": None},
        ),
        at(11),
        file="i1",
        content=HELLO,
    ),
    row(
        "I2",
        "a creation with upload that is asked again takes no byte twice",
        begin(201, 11, HELLO[:5], {**_key("i2"), **named("i2")}),
        begin(201, 11, HELLO[:5], {**_key("i2"), **named("i2")}),
        at(5),
        begin(201, 11, HELLO, {**_key("i2"), **named("i2")}),
        at(5),
        patch(204, 5, b" world"),
        begin(201, 11, HELLO, {**_key("i2"), **named("i2")}),
        at(11),
        file="i2",
        content=HELLO,
    ),
    row(
        "I3",
        "an empty upload with a key is made once",
        post(201, {**length(0), **_key("i3"), **named("i3")}, save="a"),
        post(201, {**length(0), **_key("i3"), **named("i3")}, has={"location": "{url:a}"}),
        begin(201, 0, b"", {**_key("i3"), **named("i3")}),
        file="i3",
        content=b"",
    ),
    row(
        "I4",
        "a key that began another upload is refused",
        post(201, {**length(11), **_key("i4"), **named("i4")}),
        post(422, {**length(12), **_key("i4"), **named("i4")}, code="idempotency-mismatch"),
        post(422, {**length(11), **_key("i4"), **named("i5")}, code="idempotency-mismatch"),
        post(422, {**length(11), **_key("i4")}, code="idempotency-mismatch"),
        post(
            422,
            {**length(11), **_key("i4"), **named("i4"), "Upload-Concat": "partial"},
            code="idempotency-mismatch",
        ),
        at(0),
    ),
    row(
        "I5",
        "the key of another user is another key",
        post(201, {**length(11), **_key("i5")}, save="a"),
        post(201, {**length(12), **_key("i5")}, by="other"),
        post(201, {**length(11), **_key("i5")}, has={"location": "{url:a}"}),
    ),
    row(
        "I6",
        "the key of an upload that was ended is free",
        post(201, {**length(11), **_key("i6")}, save="a"),
        other("DELETE", "{a}", 204),
        post(201, {**length(12), **_key("i6")}),
        head(410, "{a}"),
    ),
    row(
        "I7",
        "a length that was said later does not make the creation another one",
        post(201, {**DEFERRED, **_key("i7")}, save="a"),
        patch(204, 0, b"hello", fields=length(11)),
        post(201, {**DEFERRED, **_key("i7")}, has={"location": "{url:a}", "upload-offset": "5"}),
        patch(204, 5, b" world"),
        post(201, {**DEFERRED, **_key("i7")}, has={"location": "{url:a}", "upload-offset": "11"}),
    ),
    row(
        "I7",
        "a creation that left its length open is asked again before it is known",
        post(201, {**DEFERRED, **_key("i7-2"), **named("i7")}, save="a"),
        patch(204, 0, b"hello"),
        post(
            201,
            {**DEFERRED, **_key("i7-2"), **named("i7")},
            has={"location": "{url:a}", "upload-offset": "5"},
        ),
        post(
            201,
            {**DEFERRED, **_key("i7-2"), **named("i7"), "Content-Type": BODY_TYPE},
            body=HELLO,
            has={"location": "{url:a}", "upload-offset": "5"},
        ),
        at(5),
        post(422, {**length(11), **_key("i7-2"), **named("i7")}, code="idempotency-mismatch"),
        patch(204, 5, b" world", fields=length(11)),
        file="i7",
        content=HELLO,
    ),
    row(
        "I7",
        "a length that is said or left open is part of what a key stands for",
        post(201, {**DEFERRED, **_key("i7-3")}),
        patch(204, 0, b"hello", fields=length(11)),
        post(422, {**length(11), **_key("i7-3")}, code="idempotency-mismatch"),
        post(422, {**length(12), **_key("i7-3")}, code="idempotency-mismatch"),
        at(5),
        post(201, {**length(11), **_key("i7-4")}),
        post(422, {**DEFERRED, **_key("i7-4")}, code="idempotency-mismatch"),
        at(0),
    ),
    *(
        row("I8", f"the key {key[:12]!r} is refused", post(400, {**length(1), **_key(key)}))
        for key in ("", "k" * 201, "clé", "a\tb")
    ),
    row(
        "I9",
        "a final upload may have a key and a new one makes it again",
        *partial("a", b"hello"),
        final(201, "{a}", {**_key("i9"), **named("i9")}, save="f"),
        final(201, "{a}", {**_key("i9"), **named("i9")}, has={"location": "{url:f}"}),
        final(422, "{a} {a}", {**_key("i9"), **named("i9")}, code="idempotency-mismatch"),
        final(201, "{a}", {**_key("i9-2"), **named("i9")}, save="g"),
        final(201, "{a}", {**_key("i9"), **named("i9")}, has={"location": "{url:f}"}),
        file="i9",
        content=b"hello",
    ),
]

OVERRIDE = [
    row(
        "C8",
        "a POST may mean PATCH, HEAD and DELETE",
        post(201, length(11, **named("c8"))),
        _as("PATCH", 204, _patched(0), body=b"hello", has={"upload-offset": "5"}),
        _as(
            "HEAD",
            200,
            has={"upload-offset": "5", "upload-length": "11", "content-length": "0"},
        ),
        _as("PATCH", 409, _patched(3), body=b"x", code="offset-mismatch"),
        _as("PATCH", 415, {"Upload-Offset": "5"}, body=b"x", code="bad-media-type"),
        _as("PATCH", 204, _patched(5), chunks=[b" world"], has={"upload-offset": "11"}),
        _as("HEAD", 200, has={"upload-offset": "11"}),
        _as("DELETE", 204),
        _as("HEAD", 410, has={"content-length": "0", "upload-offset": None}),
        file="c8",
        content=HELLO,
    ),
    row(
        "C8",
        "what a method is to stand for counts in everything",
        post(201, length(11)),
        _as("PATCH", 412, _patched(0), body=b"x", version=None, code="tus-version"),
        _as("HEAD", 412, version="0.2.2"),
        _as("DELETE", 412, version=None),
        _as("PATCH", 401, _patched(0), body=b"x", by=None, code="unauthenticated"),
        _as("PATCH", 403, _patched(0), body=b"x", by="manager", code="forbidden"),
        _as("DELETE", 403, by="other", code="forbidden"),
        _as("HEAD", 404, by="outsider"),
        other("POST", COLLECTION, 405, {"X-HTTP-Method-Override": "PATCH"}),
        at(0),
    ),
    row(
        "C9",
        "no method but POST stands for another one and for none but these",
        post(201, length(11)),
        *(
            other(method, UPLOAD, 400, {"X-HTTP-Method-Override": meant})
            for method in ("GET", "OPTIONS", "PATCH", "DELETE", "PUT")
            for meant in ("PATCH", "DELETE", "HEAD")
        ),
        *(
            other("POST", UPLOAD, 400, {"X-HTTP-Method-Override": meant}, code="bad-header")
            for meant in ("GET", "OPTIONS", "POST", "PUT", "", "patch", "PATCH, DELETE", "TRACE")
        ),
        other(
            "POST",
            "/api/v1/groups",
            400,
            {"X-HTTP-Method-Override": "DELETE"},
            has={"tus-resumable": None},
        ),
        other(
            "GET",
            "/healthz",
            400,
            {"X-HTTP-Method-Override": "OPTIONS"},
            has={"tus-resumable": None},
        ),
        other(
            "POST",
            UPLOAD,
            400,
            {"X-HTTP-Method-Override": "DELETE", "x-http-method-override": "HEAD"},
        ),
        other("OPTIONS", UPLOAD, 204, {}, by=None, version=None, has=SPEAKS),
        at(0),
    ),
]
