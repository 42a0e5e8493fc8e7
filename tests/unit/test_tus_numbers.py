"""Numbers in headers of tus: read strictly, and refused in words that fit."""

import pytest

from filestore.errors import BadHeader
from filestore.http.tus_headers import parse_number
from filestore.model import MAX_INT


def test_digits_are_a_number() -> None:
    assert parse_number("Upload-Offset", "0") == 0
    assert parse_number("Upload-Offset", str(MAX_INT)) == MAX_INT


def test_a_header_that_is_missing_is_said_to_be_missing() -> None:
    with pytest.raises(BadHeader, match="Header Upload-Offset: it is missing or empty"):
        parse_number("Upload-Offset", "")


@pytest.mark.parametrize("value", ["-1", "+1", "1_0", "0x1", " 1", "1.0", "٣", str(MAX_INT + 1)])
def test_anything_else_is_no_number(value: str) -> None:
    with pytest.raises(BadHeader, match="not a whole number"):
        parse_number("Upload-Offset", value)
