"""The media type of a file whose client says none."""

import base64

import pytest

from filestore.http.media_guess import guess_media_type
from filestore.http.media_types import OCTETS, may_be_inline, parse_media_type
from tests.http.conftest import Cast

GROUP = "/api/v1/groups/maths"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PDF", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.unknown", OCTETS),
        ("a", OCTETS),
        (".png", OCTETS),
        ("", OCTETS),
        ("a.", OCTETS),
    ],
)
def test_the_ending_of_a_name_tells_the_usual_type(name: str, media_type: str) -> None:
    assert guess_media_type(name) == media_type
    assert parse_media_type("x", media_type) == media_type


def test_what_browsers_run_is_guessed_and_never_shown() -> None:
    for name in ("a.html", "a.svg", "a.xml", "a.js", "a.pdf"):
        assert not may_be_inline(guess_media_type(name))


async def test_a_type_is_guessed_only_where_none_is_given(cast: Cast) -> None:
    for name, given, expected in (
        ("a.png", None, "image/png"),
        ("b.png", "text/plain", "text/plain"),
    ):
        text = f"filename {_b64(name)}" + (f",filetype {_b64(given)}" if given else "")
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "0", "Upload-Metadata": text}
        made = await cast.member.post(f"{GROUP}/uploads", headers=headers)
        assert made.status == 201
        assert (await cast.viewer.get(f"{GROUP}/tree/{name}")).json["mime"] == expected
    sent = {"Content-Type": "application/octet-stream"}
    plain = await cast.member.put(f"{GROUP}/files/c.png", data=b"x", headers=sent)
    assert plain.json["mime"] == OCTETS


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
