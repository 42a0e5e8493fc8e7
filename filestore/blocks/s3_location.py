"""Where a bucket is: the URL ``s3://HOST:PORT/BUCKET``, taken apart and checked."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from filestore.errors import BadSetting

DEFAULT_PREFIX: Final = "blocks"
DEFAULT_REGION: Final = "us-east-1"

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_OPTIONS: Final = {
    "secure": re.compile("true|false"),
    "prefix": re.compile(r"[0-9A-Za-z_-]+(/[0-9A-Za-z_-]+)*", re.ASCII),
    "region": re.compile(r"[0-9A-Za-z_-]{1,50}", re.ASCII),
}
_FORM: Final = "s3://HOST:PORT/BUCKET[?secure=false][&prefix=...][&region=...]"


@dataclass(frozen=True, slots=True)
class S3Location:
    """One prefix in one bucket of one S3 service."""

    endpoint: str
    """Host, and port where it is not the scheme's own; as in the ``Host`` header."""

    bucket: str
    secure: bool = True
    prefix: str = DEFAULT_PREFIX
    region: str = DEFAULT_REGION

    @property
    def origin(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.endpoint}"

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.bucket}"


def parse_s3_url(url: str, *, source: str) -> S3Location:
    """The location that ``url`` names. ``source`` says in errors where the URL came from.

    :raises BadSetting: what is wrong with it; never repeats a password from it.
    """
    try:
        return _parse(url)
    except _Wrong as err:
        reason = f"{err}; write {_FORM}"
        raise BadSetting(setting="blocks", source=source, reason=reason) from None


class _Wrong(Exception):
    """What is wrong with a URL."""


def _parse(url: str) -> S3Location:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _Wrong("its host or port cannot be read") from None
    if parts.username is not None:
        raise _Wrong("keys belong into FILESTORE_S3_ACCESS_KEY and FILESTORE_S3_SECRET_KEY")
    if parts.scheme != "s3" or not host:
        raise _Wrong("it names no host")
    bucket = parts.path.strip("/")
    if _BUCKET.fullmatch(bucket) is None or ".." in bucket:
        raise _Wrong(f"{bucket!r} cannot be the name of a bucket")
    options = _parse_options(parts.query)
    secure = options.get("secure", "true") == "true"
    host = f"[{host}]" if ":" in host else host
    return S3Location(
        endpoint=host if port in (None, 443 if secure else 80) else f"{host}:{port}",
        bucket=bucket,
        secure=secure,
        prefix=options.get("prefix", DEFAULT_PREFIX),
        region=options.get("region", DEFAULT_REGION),
    )


def _parse_options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        allowed = _OPTIONS.get(name)
        if allowed is None:
            raise _Wrong(f"there is no option {name!r}")
        if allowed.fullmatch(value) is None:
            raise _Wrong(f"{value!r} cannot be the option {name}")
    return options
