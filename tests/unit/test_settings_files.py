"""The files in config/ hold to the model."""

import re
import tomllib
from pathlib import Path

import pytest

from filestore.settings import Settings, default_toml, load
from filestore.settings.load import known_keys

CONFIG = Path(__file__).parents[2] / "config"
S3_KEYS = {"FILESTORE_S3_ACCESS_KEY": "k", "FILESTORE_S3_SECRET_KEY": "s"}


def test_default_toml_is_what_the_model_generates() -> None:
    text = (CONFIG / "default.toml").read_text(encoding="utf-8")
    assert text == default_toml(), "python -m filestore.settings > config/default.toml"


def test_loading_default_toml_gives_the_defaults() -> None:
    assert load(config=CONFIG / "default.toml") == Settings()


@pytest.mark.parametrize("key", list(known_keys()), ids=".".join)
def test_every_setting_is_in_default_toml_with_meaning_range_and_reason(
    key: tuple[str, str],
) -> None:
    section = default_toml().partition(f"\n[{key[0]}]\n")[2].partition("\n[")[0]
    entry = re.search(rf"((?:^# .*\n)+)^(?:# )?{key[1]} = ", section, re.MULTILINE)
    assert entry is not None
    assert re.search(r"\A# [A-Z].*\.", entry[1])
    assert "# Allowed: " in entry[1]
    assert "# Why this default: " in entry[1]


@pytest.mark.parametrize("key", list(known_keys()), ids=".".join)
def test_a_commented_example_is_a_value_that_loads(key: tuple[str, str], tmp_path: Path) -> None:
    section = default_toml().partition(f"\n[{key[0]}]\n")[2].partition("\n[")[0]
    found = re.search(rf"^(?:# )?({key[1]} = .*)$", section, re.MULTILINE)
    assert found is not None
    config = tmp_path / "one.toml"
    config.write_text(f"[{key[0]}]\n{found[1]}\n", encoding="utf-8")
    environ = S3_KEYS if key[0] != "s3" else {}
    settings = load(config=config, environ=environ)
    assert getattr(getattr(settings, key[0]), key[1]) is not None


def test_production_toml_loads_and_keeps_garbage_for_a_week() -> None:
    settings = load(config=CONFIG / "production.toml", environ=S3_KEYS)
    assert settings.gc.grace_s == 7 * 86_400
    assert settings.database_url.startswith("postgresql+asyncpg://")
    assert settings.blocks_url.startswith("s3://")
    assert settings.log.format == "json"


def test_production_toml_holds_no_secret() -> None:
    tables = tomllib.loads((CONFIG / "production.toml").read_text(encoding="utf-8"))
    assert not {"access_key", "secret_key"} & set(tables.get("s3", {}))
    assert not re.search(r"://[^/@]*:[^/@]*@", tables["database"]["url"])
