"""Messages and their signatures.

Source: Standard Webhooks 1.0.0, "Signature scheme" and "Webhook headers".
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from filestore.model import format_instant

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (a prefix, no secret)
SECRET_BYTES: Final = 32
"""The specification asks for 24 to 64; an HMAC-SHA256 is no stronger than 32."""


def new_secret() -> str:
    """A fresh signing secret: ``whsec_`` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def make_body(kind: str, at: int, group_id: str | None, payload: str) -> bytes:
    """The body of a message; ``payload`` is JSON, ``at`` microseconds. Equal at each attempt."""
    head = {"type": kind, "timestamp": format_instant(at), "group": group_id}
    text = json.dumps({**head, "data": json.loads(payload)}, ensure_ascii=False)
    return text.encode()


def sign(keys: Sequence[str], message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """The three headers of a message; one signature for each of ``keys``.

    ``timestamp``: seconds, of this attempt.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, content) for key in keys),
    }


def _signature(key: str, content: bytes) -> str:
    raw = base64.b64decode(key.removeprefix(SECRET_PREFIX))
    digest = hmac.new(raw, content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode('ascii')}"
