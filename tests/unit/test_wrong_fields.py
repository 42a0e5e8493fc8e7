"""Wrong fields of a request are said in our words, whatever the library calls them."""

import datetime as dt
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from filestore.http.call import Body, Digits
from filestore.http.wrong_fields import wrong_fields
from filestore.model import Role


class Everything(Body):
    number: Annotated[int, Field(ge=1, le=9)] = 1
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    yes: bool = True
    text: Annotated[str, Field(min_length=2, max_length=3, pattern="^[a-z]*$")] = "ab"
    role: Role = Role.VIEWER
    word: Literal["a", "b"] = "a"
    many: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    at: AwareDatetime | None = None
    day: dt.date | None = None
    inner: dict[str, int] = {}
    digits: Digits = 1


class Needed(Body):
    name: str


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ("{", "body", "it is not JSON"),
        ("[]", "body", "it must be a JSON object"),
        ('{"other": 1}', "other", "there is no such field"),
        ('{"number": "1"}', "number", "it must be a whole number"),
        ('{"number": 1.5}', "number", "it must be a whole number"),
        ('{"number": 0}', "number", "it must be at least 1"),
        ('{"number": 10}', "number", "it must be at most 9"),
        ('{"ratio": "x"}', "ratio", "it must be a number"),
        ('{"ratio": 0}', "ratio", "it must be more than 0.0"),
        ('{"ratio": 1}', "ratio", "it must be less than 1.0"),
        ('{"yes": 1}', "yes", "it must be true or false"),
        ('{"text": 1}', "text", "it must be text"),
        ('{"text": "a"}', "text", "it has fewer than 2 characters"),
        ('{"text": "abcd"}', "text", "it has more than 3 characters"),
        ('{"text": "A1"}', "text", "it does not have the form that is asked for"),
        ('{"role": "king"}', "role", "it must be 'viewer', 'member' or 'manager'"),
        ('{"word": "c"}', "word", "it must be 'a' or 'b'"),
        ('{"many": 1}', "many", "it must be a list"),
        ('{"many": []}', "many", "it has fewer than 1 items"),
        ('{"many": [1, 2, 3]}', "many", "it has more than 2 items"),
        ('{"many": [1, "x"]}', "many.1", "it must be a whole number"),
        ('{"at": "yesterday"}', "at", "it must be a time such as 2026-01-31T12:00:00Z"),
        ('{"at": "2026-01-31T12:00:00"}', "at", "it must name its time zone, such as Z"),
        ('{"day": "x"}', "day", "it must be a day such as 2026-01-31"),
        ('{"inner": 1}', "inner", "it must be a JSON object"),
        ('{"digits": "+5"}', "digits", "it must be a whole number in decimal digits"),
    ],
)
def test_each_kind_of_mistake_has_its_words(body: str, field: str, reason: str) -> None:
    assert _wrong(Everything, body) == [{"field": field, "reason": reason}]


def test_what_is_missing_is_said_to_be_missing() -> None:
    assert _wrong(Needed, "{}") == [{"field": "name", "reason": "it is missing"}]


def test_a_kind_that_nobody_thought_of_is_not_quoted_from_the_library() -> None:
    class Odd(BaseModel):
        it: Annotated[bytes, Field(max_length=1)]

    assert _wrong(Odd, '{"it": "xx"}') == [
        {"field": "it", "reason": "it has a value that is not possible"}
    ]


def _wrong(model: type[BaseModel], body: str) -> list[Any]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(body)
    return wrong_fields(refused.value)
