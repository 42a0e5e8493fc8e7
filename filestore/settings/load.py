"""Reads the four layers and says, for every wrong value, where it stands.

Each layer becomes a nested mapping for pydantic-settings, together with where each value
came from, so an error can name the variable, the flag, or the key of the file.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from filestore.errors import BadSetting, BadSettings, Json
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

NOT_SETTINGS: Final = frozenset(
    {
        *("URL", "TOKEN", "TOKEN_FILE", "STATE_DIR"),
        *("MUST_RUN", "E2E_SIZE", "CRASH_ROUNDS", "CRASH_SEED", "FAILPOINT"),
    }
)
"""Variables that belong to clients and tests."""


@dataclass(slots=True)
class _Layer:
    wrong: list[BadSetting]
    """Collects what is wrong, of all layers: an operator who mends a file wants to see it all."""
    values: dict[str, dict[str, object]] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def add(self, key: Key, value: object, origin: str) -> None:
        if key in self.origins:
            reason = f"it is also given by {self.origins[key]}; give it once"
            self.wrong.append(BadSetting(setting=".".join(key), source=origin, reason=reason))
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

    :raises BadSetting: permanent; names the setting, where it stands, and what is allowed. For
        all that are wrong at once.
    """
    wrong: list[BadSetting] = []
    layers = [
        _read_flags(flags or {}, wrong),
        _read_environ(environ or {}, wrong),
        _read_file(config, wrong),
    ]
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
        wrong += _bad_values(err, origins)  # not as a cause: its text may hold a secret
    if not wrong:
        settings = Settings(**{name: getattr(layered, name) for name in Settings.model_fields})
        wrong += _misfits(settings, origins)
    if wrong:
        raise _all_of(wrong)
    return settings


def _all_of(wrong: Sequence[BadSetting]) -> BadSetting:
    if len(wrong) == 1:
        return wrong[0]
    texts = [
        f"({number}) {error.members['setting']} ({error.members['source']}):"
        f" {error.members['reason']}"
        for number, error in enumerate(wrong, 1)
    ]
    errors: list[Json] = [error.members for error in wrong]
    return BadSettings(count=len(wrong), all="; ".join(texts), errors=errors)


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


def _read_flags(flags: Mapping[str, object], wrong: list[BadSetting]) -> _Layer:
    layer = _Layer(wrong)
    known = {f"{section}.{key}": (section, key) for section, key in known_keys()} | ALIASES
    for name, value in flags.items():
        if value is None:
            continue
        origin = f"flag --{name.replace('_', '-')}"
        if name in known:
            layer.add(known[name], value, origin)
        else:
            wrong.append(_unknown(name, origin, known))
    return layer


def _read_environ(environ: Mapping[str, str], wrong: list[BadSetting]) -> _Layer:
    layer = _Layer(wrong)
    known = {f"{section}__{key}".upper(): (section, key) for section, key in known_keys()}
    known |= {alias.upper(): key for alias, key in ALIASES.items()}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in NOT_SETTINGS or not value:
            continue
        if name in known:
            layer.add(known[name], value, f"environment {variable}")
        else:
            names = [ENV_PREFIX + other for other in [*known, *NOT_SETTINGS]]
            wrong.append(_unknown(variable, f"environment {variable}", names))
    return layer


def _read_file(path: Path | None, wrong: list[BadSetting]) -> _Layer:
    layer = _Layer(wrong)
    if path is None:
        return layer
    source, models = f"file {path}", sections()
    for section, table in _tables(path, source, wrong).items():
        if section not in models:
            wrong.append(_unknown(f"[{section}]", source, [f"[{name}]" for name in models]))
        elif not isinstance(table, dict):
            reason = f"it must be a table that begins with the line [{section}]"
            wrong.append(BadSetting(setting=section, source=source, reason=reason))
        else:
            for key, value in table.items():
                origin = f"{source}, [{section}] {key}"
                if key in models[section].model_fields:
                    layer.add((section, key), value, origin)
                else:
                    wrong.append(_unknown(key, origin, models[section].model_fields))
    return layer


def _tables(path: Path, source: str, wrong: list[BadSetting]) -> dict[str, Any]:
    """The tables of a TOML file; none, and why, if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        reason = f"it cannot be read: {err.strerror}"
    except UnicodeDecodeError:
        reason = "it is not TOML: it is not UTF-8"
    except tomllib.TOMLDecodeError as err:
        reason = f"it is not TOML: {err}"
    wrong.append(BadSetting(setting="--config", source=source, reason=reason))
    return {}


def _unknown(name: str, source: str, known: Iterable[str]) -> BadSetting:
    bare = {other.removeprefix(ENV_PREFIX): other for other in known}  # it is near everything
    near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), bare, n=1, cutoff=0.5)
    hint = f"; maybe {bare[near[0]]} is meant" if near else ""
    return BadSetting(setting=name, source=source, reason=f"there is no such setting{hint}")


def _bad_values(err: ValidationError, origins: Mapping[Key, str]) -> Iterator[BadSetting]:
    """One error for each wrong setting, also if several things are wrong with it."""
    seen: set[Key] = set()
    for item in err.errors(include_url=False):
        section, name = str(item["loc"][0]), str(item["loc"][1])
        if (section, name) in seen:
            continue
        seen.add((section, name))
        declared = sections()[section].model_fields[name]
        what = "the value" if note(declared, "secret") else repr(_plain(item["input"]))
        why = f": {item['ctx']['error']}" if item["type"] == "value_error" else ""
        yield BadSetting(
            setting=f"{section}.{name}",
            source=origins.get((section, name), "default"),
            reason=f"{what} is not possible{why}; allowed: {allowed_text(declared)}",
        )


def _plain(value: object) -> object:
    """A wrong value as a message may show it: keys inside a URL are left out."""
    if isinstance(value, str | Path):
        return re.sub(r"//[^/@]*@", "//…@", str(value))
    return value


def _misfits(settings: Settings, origins: Mapping[Key, str]) -> Iterator[BadSetting]:
    """What no single value shows: settings that do not fit each other."""

    def misfit(key: Key, reason: str) -> BadSetting:
        source = origins.get(key, "default")
        return BadSetting(setting=".".join(key), source=source, reason=reason)

    transfer, uploads = settings.transfer, settings.uploads
    if settings.server.workers > 1 and settings.database_url.startswith("sqlite"):
        reason = "SQLite takes one process; allowed: 1, or PostgreSQL as database.url"
        yield misfit(("server", "workers"), reason)
    if transfer.buffer_min_bytes > transfer.buffer_max_bytes:
        reason = f"it is more than transfer.buffer_max_bytes, {transfer.buffer_max_bytes}"
        yield misfit(("transfer", "buffer_min_bytes"), reason)
    if 2 * transfer.buffer_max_bytes > transfer.memory_budget_bytes:
        reason = "two buffers do not fit into transfer.memory_budget_bytes"
        yield misfit(("transfer", "buffer_max_bytes"), reason)
    if uploads.expire_after_s > uploads.expire_cap_s:
        reason = f"it is more than uploads.expire_cap_s, {uploads.expire_cap_s}"
        yield misfit(("uploads", "expire_after_s"), reason)
    if settings.blocks_url.startswith("s3:"):
        for key in ("access_key", "secret_key"):
            given: SecretStr | None = getattr(settings.s3, key)
            if given is None or not given.get_secret_value():
                variable = f"{ENV_PREFIX}S3_{key.upper()}"
                yield misfit(("s3", key), f"an s3:// block store needs it; set {variable}")
