"""The file ``config/default.toml``: every setting with its meaning, range, default and reason."""

import json
import textwrap
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo

from filestore.model import format_size, parse_size
from filestore.settings.kinds import allowed_text, is_size, note
from filestore.settings.load import ALIASES, ENV_PREFIX, sections

_WIDTH: Final = 98
_HEAD: Final = """\
# All settings of filestore with their defaults. A copy with other values is read by
# `filestore serve --config FILE`; keys that are left out keep their defaults.
# Each can also be set in the environment as FILESTORE_SECTION__KEY, which wins over this file;
# flags win over both. Sizes: KiB = 1024, kB = 1000. Times end in _s and are seconds.
# This file is generated: python -m filestore.settings > config/default.toml
"""


def default_toml() -> str:
    """The whole file; loading it gives the defaults."""
    parts = [_HEAD]
    for name, section in sections().items():
        parts.append(f"\n# {(section.__doc__ or '').strip()}\n[{name}]\n")
        parts.extend(_entry(name, key, info) for key, info in section.model_fields.items())
    return "".join(parts)


def _entry(section: str, key: str, info: FieldInfo) -> str:
    comment = [
        info.description or "",
        f"Allowed: {allowed_text(info)}.",
        f"Why this default: {note(info, 'why')}.",
    ]
    shorts = [alias for alias, target in ALIASES.items() if target == (section, key)]
    comment += [f"Environment, in short: {ENV_PREFIX}{alias.upper()}." for alias in shorts]
    lines = [f"# {line}" for text in comment for line in textwrap.wrap(text, _WIDTH)]
    return "\n".join([*lines, _assignment(key, info)]) + "\n\n"


def _assignment(key: str, info: FieldInfo) -> str:
    default = info.default
    if default is None or default == ():
        example = note(info, "example")
        return f"# {key} = {example if example.startswith('[') else json.dumps(example)}"
    if is_size(info) and parse_size(format_size(default)) == default:
        return f'{key} = "{format_size(default)}"'
    if isinstance(default, str | Path):
        return f"{key} = {json.dumps(str(default))}"
    return f"{key} = {default}"
