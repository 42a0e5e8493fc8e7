"""What an S3 service's refusals mean here: a pure table.

Source: "Error responses", Amazon S3 API Reference; MinIO's own codes from its
``cmd/api-errors.go``.
"""

import re
from typing import Final

from filestore.errors import BlockMissing, StoreError, StoreFull, StoreUnavailable

_FULL: Final = {
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "InsufficientStorage",
}
_REFUSED: Final = {
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_INSUFFICIENT_STORAGE: Final = 507  # RFC 4918, 11.5
_FULL_RETRY_S: Final = 30
_CODE: Final = re.compile(rb"<Code>\s*([0-9A-Za-z.]{1,100})\s*</Code>")


def find_code(body: bytes) -> str:
    """The error code in the XML document ``body``; empty if there is none.

    Looked for by pattern, so that no parser meets what a hostile or broken server sends.
    """
    match = _CODE.search(body)
    return match[1].decode("ascii") if match else ""


def refusal(where: str, status: int, code: str, *, retry_after: str | None = None) -> StoreError:
    """The error that an answer with this status and code means.

    ``where`` names host and bucket. ``status`` is 0 when only the code is known. A 404
    without the code ``NoSuchKey`` says nothing of the object: it may come from a proxy, or
    the bucket is gone.
    """
    if code == "NoSuchKey":
        return BlockMissing()
    if status == _INSUFFICIENT_STORAGE or code in _FULL:
        return StoreFull(retry_after_s=_FULL_RETRY_S)
    what = " ".join(filter(None, (str(status or ""), code)))
    if status == 403 or code in _REFUSED:
        why = f"refuses the credentials, or the clocks differ ({what})"
    elif code == "NoSuchBucket":
        why = "has no such bucket (any more)"
    else:
        why = f"answered {what}"
    return StoreUnavailable(reason=f"{where} {why}", retry_after_s=_seconds(retry_after))


def _seconds(retry_after: str | None) -> int | None:
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        return min(int(retry_after[:6]), 3600)
    return None
