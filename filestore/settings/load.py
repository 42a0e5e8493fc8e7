"""Reads the four layers and says, for every wrong value, where it stands.

Each layer becomes a nested mapping for pydantic-settings, together with where each value
came from, so an error can name the variable, the flag, or the key of the file.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from filestore.errors import BadSetting
from filestore.settings.kinds import allowed_text, note
from filestore.settings.model import Settings

ENV_PREFIX: Final = "FILESTORE_"

Key = tuple[str, str]
"""Section and key of one setting."""

ALIASES: Final[dict[str, Key]] = {
    "data": ("server", "data"),
    "listen": ("server", "listen"),
    "workers": ("server", "workers"),
    "database": ("database", "url"),
    "blocks": ("blocks", "url"),
    "s3_access_key": ("s3", "access_key"),
    "s3_secret_key": ("s3", "secret_key"),
}
"""Short names: of flags (``--data``) and, upper case, of variables (``FILESTORE_DATA``)."""

NOT_SETTINGS: Final = frozenset({"URL", "TOKEN", "TOKEN_FILE", "MUST_RUN", "STATE_DIR"})
"""Variables that belong to clients and tests."""


@dataclass(slots=True)
class _Layer:
    values: dict[str, dict[str, object]] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def add(self, key: Key, value: object, origin: str) -> None:
        if key in self.origins:
            reason = f"it is also given by {self.origins[key]}; give it once"
            raise BadSetting(setting=".".join(key), source=origin, reason=reason)
        self.values.setdefault(key[0], {})[key[1]] = value
        self.origins[key] = origin


def load(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of a process: defaults < ``config`` < ``environ`` < ``flags``.

    Flags are named as in :data:`ALIASES` or ``section.key``; one that is None, and a variable
    that is empty, count as not given. Reads one file and nothing else.

    :raises BadSetting: permanent; names the setting, where it stands, and what is allowed.
    """
    layers = [_read_flags(flags or {}), _read_environ(environ or {}), _read_file(config)]
    origins = {key: origin for layer in reversed(layers) for key, origin in layer.origins.items()}

    class _Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(_Source(settings_cls, layer) for layer in layers)

    try:
        layered = _Layered()
    except ValidationError as err:
        raise _bad_value(err, origins) from None  # its text may hold a secret
    settings = Settings(**{name: getattr(layered, name) for name in Settings.model_fields})
    _check_together(settings, origins)
    return settings


def known_keys() -> Iterable[Key]:
    """Every setting there is, in the order of the model."""
    for name, section in sections().items():
        for key in section.model_fields:
            yield name, key


def sections() -> dict[str, type[BaseModel]]:
    """The model of each section."""
    found: dict[str, type[BaseModel]] = {}
    for name, info in Settings.model_fields.items():
        assert isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        found[name] = info.annotation
    return found


class _Source(PydanticBaseSettingsSource):
    """One layer as pydantic-settings wants it; earlier sources win key by key."""

    def __init__(self, settings_cls: type[BaseSettings], layer: _Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return {name: dict(values) for name, values in self._layer.values.items()}


def _read_flags(flags: Mapping[str, object]) -> _Layer:
    layer = _Layer()
    known = {f"{section}.{key}": (section, key) for section, key in known_keys()} | ALIASES
    for name, value in flags.items():
        if value is None:
            continue
        origin = f"flag --{name.replace('_', '-')}"
        if name not in known:
            raise _unknown(name, origin, known)
        layer.add(known[name], value, origin)
    return layer


def _read_environ(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer()
    known = {f"{section}__{key}".upper(): (section, key) for section, key in known_keys()}
    known |= {alias.upper(): key for alias, key in ALIASES.items()}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in NOT_SETTINGS or not value:
            continue
        if name not in known:
            names = [ENV_PREFIX + other for other in [*known, *NOT_SETTINGS]]
            raise _unknown(variable, f"environment {variable}", names)
        layer.add(known[name], value, f"environment {variable}")
    return layer


def _read_file(path: Path | None) -> _Layer:
    layer = _Layer()
    if path is None:
        return layer
    source = f"file {path}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        reason = f"it cannot be read: {err.strerror}"
        raise BadSetting(setting="--config", source=source, reason=reason) from err
    except ValueError as err:  # not TOML, or not UTF-8
        raise BadSetting(
            setting="--config", source=source, reason=f"it is not TOML: {err}"
        ) from err
    models = sections()
    for section, table in tables.items():
        if section not in models:
            raise _unknown(f"[{section}]", source, [f"[{name}]" for name in models])
        if not isinstance(table, dict):
            reason = f"it must be a table that begins with the line [{section}]"
            raise BadSetting(setting=section, source=source, reason=reason)
        for key, value in table.items():
            origin = f"{source}, [{section}] {key}"
            if key not in models[section].model_fields:
                raise _unknown(key, origin, models[section].model_fields)
            layer.add((section, key), value, origin)
    return layer


def _unknown(name: str, source: str, known: Iterable[str]) -> BadSetting:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return BadSetting(setting=name, source=source, reason=f"there is no such setting{hint}")


def _bad_value(err: ValidationError, origins: Mapping[Key, str]) -> BadSetting:
    first = err.errors(include_url=False)[0]
    section, key = str(first["loc"][0]), str(first["loc"][1])
    declared = sections()[section].model_fields[key]
    what = "the value" if note(declared, "secret") else repr(_plain(first["input"]))
    why = f": {first['ctx']['error']}" if first["type"] == "value_error" else ""
    return BadSetting(
        setting=f"{section}.{key}",
        source=origins.get((section, key), "default"),
        reason=f"{what} is not possible{why}; allowed: {allowed_text(declared)}",
    )


def _plain(value: object) -> object:
    """A wrong value as a message may show it: keys inside a URL are left out."""
    if isinstance(value, str | Path):
        return re.sub(r"//[^/@]*@", "//…@", str(value))
    return value


def _check_together(settings: Settings, origins: Mapping[Key, str]) -> None:
    """What no single value shows: settings that do not fit each other."""

    def refuse(key: Key, reason: str) -> BadSetting:
        source = origins.get(key, "default")
        return BadSetting(setting=".".join(key), source=source, reason=reason)

    transfer, uploads = settings.transfer, settings.uploads
    if settings.server.workers > 1 and settings.database_url.startswith("sqlite"):
        reason = "SQLite takes one process; allowed: 1, or PostgreSQL as database.url"
        raise refuse(("server", "workers"), reason)
    if transfer.buffer_min_bytes > transfer.buffer_max_bytes:
        reason = f"it is more than transfer.buffer_max_bytes, {transfer.buffer_max_bytes}"
        raise refuse(("transfer", "buffer_min_bytes"), reason)
    if 2 * transfer.buffer_max_bytes > transfer.memory_budget_bytes:
        reason = "two buffers do not fit into transfer.memory_budget_bytes"
        raise refuse(("transfer", "buffer_max_bytes"), reason)
    if uploads.expire_after_s > uploads.expire_cap_s:
        reason = f"it is more than uploads.expire_cap_s, {uploads.expire_cap_s}"
        raise refuse(("uploads", "expire_after_s"), reason)
    if settings.blocks_url.startswith("s3:"):
        for key in ("access_key", "secret_key"):
            given: SecretStr | None = getattr(settings.s3, key)
            if given is None or not given.get_secret_value():
                variable = f"{ENV_PREFIX}S3_{key.upper()}"
                raise refuse(("s3", key), f"an s3:// block store needs it; set {variable}")
