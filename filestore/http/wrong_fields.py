"""What is wrong with the fields of a request, in our words instead of the library's."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from filestore.errors import Json

_WORDS: Final[Mapping[str, str]] = {
    "bool": "it must be true or false",
    "date": "it must be a day such as 2026-01-31",
    "datetime": "it must be a time such as 2026-01-31T12:00:00Z",
    "dict": "it must be a JSON object",
    "enum": "it must be {expected}",
    "extra_forbidden": "there is no such field",
    "float": "it must be a number",
    "finite_number": "it must be a number",
    "greater_than": "it must be more than {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "int": "it must be a whole number",
    "json": "it is not JSON",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be at most {le}",
    "list": "it must be a list",
    "literal_error": "it must be {expected}",
    "missing": "it is missing",
    "model": "it must be a JSON object",
    "string": "it must be text",
    "string_pattern_mismatch": "it does not have the form that is asked for",
    "string_too_long": "it has more than {max_length} characters",
    "string_too_short": "it has fewer than {min_length} characters",
    "timezone": "it must name its time zone, such as Z",
    "too_long": "it has more than {max_length} items",
    "too_short": "it has fewer than {min_length} items",
    "value_error": "{error}",
}
"""By the type of the library's error, or by the beginning of it up to an underscore.
Source: pydantic, "Validation Errors"."""

_OTHER: Final = "it has a value that is not possible"


def wrong_fields(err: ValidationError) -> list[Json]:
    """Each wrong field with the reason, in the order of the model; never the value itself."""
    found: list[Json] = []
    for item in err.errors(include_url=False, include_input=False):
        field = ".".join(map(str, item["loc"])) or "body"
        found.append({"field": field, "reason": _reason(item["type"], item.get("ctx", {}))})
    return found


def _reason(kind: str, context: Mapping[str, Any]) -> str:
    template = _WORDS.get(kind) or _WORDS.get(kind.partition("_")[0], _OTHER)
    return template.format_map(context)
