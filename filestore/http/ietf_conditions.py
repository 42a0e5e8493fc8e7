"""The conditions of a ``PUT`` that may take many requests: kept with the upload, as they came.

They hold at the beginning, so that nothing is sent in vain, and again in the transaction in which
the file appears, whichever request that is of. Source: RFC 9110, section 13.
"""

import json
from collections.abc import Mapping
from typing import Final

from filestore.http.conditions import Conditions

_FIELDS: Final = ("If-Match", "If-None-Match", "If-Unmodified-Since")


def format_conditions(headers: Mapping[str, str]) -> str | None:
    """What is kept of a request's headers; None when it has no conditions.

    :raises BadHeader: a list of tags is not well-formed.
    """
    found = {name: headers[name] for name in _FIELDS if name in headers}
    return json.dumps(found) if found and Conditions.of(found) else None


def parse_conditions(kept: str | None) -> Conditions:
    """The conditions that :func:`format_conditions` kept."""
    return Conditions.of({} if kept is None else json.loads(kept))
