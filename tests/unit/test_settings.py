"""Settings: which layer wins, and what a wrong value is told."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from filestore.errors import BadSetting
from filestore.model import GIB, MIB
from filestore.settings import Server, Settings, load

ENVIRON_KEYS = {
    "FILESTORE_DATA": "/srv/files",
    "FILESTORE_LISTEN": "0.0.0.0:9000",
    "FILESTORE_DATABASE": "postgresql+asyncpg://u:hush@db/f",
    "FILESTORE_BLOCKS": "s3://minio:9000/filestore?secure=false",
    "FILESTORE_S3_ACCESS_KEY": "access-hush",
    "FILESTORE_S3_SECRET_KEY": "secret-hush",
    "FILESTORE_WORKERS": "4",
}


def _file(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _refused(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> BadSetting:
    with pytest.raises(BadSetting) as refused:
        load(config=config, environ=environ, flags=flags)
    return refused.value


def test_without_anything_the_defaults_hold() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.database_url == "sqlite+aiosqlite:///filestore-data/filestore.sqlite3"
    assert settings.blocks_url == "file:filestore-data/blocks"
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    config = _file(tmp_path, "[gc]\ngrace_s = 1\n[log]\nlevel = 'error'\n[server]\nworkers = 1\n")
    environ = {"FILESTORE_GC__GRACE_S": "2", "FILESTORE_SERVER__LISTEN": "[::1]:1"}
    settings = load(config=config, environ=environ, flags={"gc.grace_s": 3, "listen": None})
    assert settings.gc.grace_s == 3
    assert settings.server.host == "::1"
    assert settings.log.level == "error"
    assert settings.blocks == Settings().blocks
    assert load(config=config, environ=environ).gc.grace_s == 2
    assert load(config=config).gc.grace_s == 1


def test_the_fixed_variables_set_what_they_say() -> None:
    settings = load(environ=ENVIRON_KEYS)
    assert settings.server.data == Path("/srv/files")
    assert settings.server.port == 9000
    assert settings.server.workers == 4
    assert settings.database_url == ENVIRON_KEYS["FILESTORE_DATABASE"]
    assert settings.blocks.url == ENVIRON_KEYS["FILESTORE_BLOCKS"]
    assert settings.s3.secret_key is not None
    assert settings.s3.secret_key.get_secret_value() == "secret-hush"


def test_the_data_folder_moves_database_and_blocks(tmp_path: Path) -> None:
    settings = load(flags={"data": tmp_path})
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/filestore.sqlite3"
    assert settings.blocks_url == f"file:{tmp_path}/blocks"


def test_prefix_and_region_complete_the_url_and_what_it_says_wins() -> None:
    environ = {"FILESTORE_BLOCKS__PREFIX": "a/b", "FILESTORE_S3__REGION": "eu-1", **ENVIRON_KEYS}
    assert load(environ=environ).blocks_url == (
        "s3://minio:9000/filestore?prefix=a/b&region=eu-1&secure=false"
    )
    environ["FILESTORE_BLOCKS"] = "s3://minio:9000/filestore?region=x-1"
    assert load(environ=environ).blocks_url == "s3://minio:9000/filestore?prefix=a/b&region=x-1"


def test_variables_of_others_and_empty_ones_are_no_settings() -> None:
    environ = {
        "PATH": "/bin",
        "FILESTORE_URL": "http://x",
        "FILESTORE_TOKEN": "t",
        "FILESTORE_MUST_RUN": "minio",
        "FILESTORE_STATE_DIR": "/s",
        "FILESTORE_E2E_SIZE": "1",
        "FILESTORE_CRASH_ROUNDS": "1",
        "FILESTORE_CRASH_SEED": "1",
        "FILESTORE_FAILPOINT": "*:1",
        "FILESTORE_DATABASE": "",
    }
    assert load(environ=environ) == Settings()


@pytest.mark.parametrize("value", ["10GiB", "10 GiB", "10737418240"])
def test_a_size_may_have_a_unit(value: str, tmp_path: Path) -> None:
    environ = {"FILESTORE_GROUPS__DEFAULT_QUOTA_BYTES": value}
    assert load(environ=environ).groups.default_quota_bytes == 10 * GIB


def test_a_list_is_a_list_in_the_file_and_has_commas_in_the_environment(tmp_path: Path) -> None:
    config = _file(tmp_path, '[server]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n')
    expected = ("10.0.0.0/8", "::1/128")
    assert load(config=config).server.trusted_proxies == expected
    environ = {"FILESTORE_SERVER__TRUSTED_PROXIES": "10.0.0.0/8, ::1"}
    assert load(environ=environ).server.trusted_proxies == expected


def test_origins_are_a_scheme_and_a_host_or_all(tmp_path: Path) -> None:
    environ = {"FILESTORE_SERVER__CORS_ORIGINS": "https://a.example, http://[::1]:8000"}
    assert load(environ=environ).server.cors_origins == ("https://a.example", "http://[::1]:8000")
    assert load(environ={"FILESTORE_SERVER__CORS_ORIGINS": "*"}).server.cors_origins == ("*",)
    assert load().server.cors_origins == ()
    for wrong in ("a.example", "https://a.example/", "https://u@a.example", "null", "ftp://a", ""):
        with pytest.raises(BadSetting, match="cors_origins"):
            load(flags={"server.cors_origins": [wrong]})


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.gc.grace_s = 1
    with pytest.raises(ValidationError):
        settings.server = Server()
    assert settings == Settings()


def test_constructing_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER", '{"workers": 2}')
    monkeypatch.setenv("FILESTORE_WORKERS", "3")
    assert Settings().server.workers == 1


# ---- wrong values ------------------------------------------------------------------------


def test_a_wrong_value_in_the_environment_names_variable_and_range() -> None:
    refused = _refused(environ={"FILESTORE_SERVER__WORKERS": "many"})
    assert refused.members == {
        "setting": "server.workers",
        "source": "environment FILESTORE_SERVER__WORKERS",
        "reason": "'many' is not possible; allowed: a whole number from 1 to 64",
    }


def test_a_wrong_value_in_the_file_names_file_section_and_key(tmp_path: Path) -> None:
    config = _file(tmp_path, "[gc]\ngrace_s = -1\n")
    refused = _refused(config)
    assert refused.members["source"] == f"file {config}, [gc] grace_s"
    assert "a whole number of seconds from 0 to 31536000" in str(refused)


def test_a_wrong_flag_is_named_as_it_was_typed() -> None:
    refused = _refused(flags={"listen": "8080"})
    assert refused.members["source"] == "flag --listen"
    assert "HOST:PORT, such as 0.0.0.0:8080" in str(refused)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("WORKERS", "1.5"),
        ("SERVER__KEEPALIVE_S", "nan"),
        ("SERVER__KEEPALIVE_S", "inf"),
        ("SERVER__KEEPALIVE_S", "75s"),
        ("SERVER__BASE_URL", "files.example.org"),
        ("SERVER__BASE_URL", "http://h/?q"),
        ("SERVER__TRUSTED_PROXIES", "10.0.0.1/8"),
        ("SERVER__TRUSTED_PROXIES", "proxy"),
        ("SERVER__MAX_HEADER_SIZE", "2 MiB"),
        ("LISTEN", "host:65536"),
        ("LISTEN", "::1:80"),
        ("LISTEN", "a b:80"),
        ("DATABASE", "mysql://h/d"),
        ("DATABASE", "sqlite:///x"),
        ("BLOCKS", "/srv/blocks"),
        ("BLOCKS", "file:"),
        ("BLOCKS", "s3://host:9000"),
        ("BLOCKS", "s3://host:9000/a/b"),
        ("BLOCKS", "s3://key:hush@host/bucket"),
        ("BLOCKS__PREFIX", "/a"),
        ("BLOCKS__PREFIX", "a/../b"),
        ("UPLOADS__MAX_SIZE_BYTES", "5 parsecs"),
        ("UPLOADS__MAX_SIZE_BYTES", "9" * 40),
        ("LOG__LEVEL", "loud"),
        ("LOG__FORMAT", "xml"),
        ("S3__REGION", "us east"),
        ("S3__REGION", "us\n"),
    ],
)
def test_a_value_out_of_range_is_refused_and_says_what_is_allowed(
    variable: str, value: str
) -> None:
    refused = _refused(environ={f"FILESTORE_{variable}": value})
    assert refused.members["source"] == f"environment FILESTORE_{variable}"
    assert "; allowed: " in str(refused)


@pytest.mark.parametrize("value", ["true", "[1]", '"x"', "1979-05-27"])
def test_a_value_of_another_type_is_refused(value: str, tmp_path: Path) -> None:
    refused = _refused(_file(tmp_path, f"[server]\nworkers = {value}\n"))
    assert refused.members["setting"] == "server.workers"


def test_an_unknown_variable_is_refused_with_the_nearest_known_one() -> None:
    refused = _refused(environ={"FILESTORE_SERVER__WORKRES": "2"})
    assert refused.members["source"] == "environment FILESTORE_SERVER__WORKRES"
    assert "maybe FILESTORE_SERVER__WORKERS is meant" in str(refused)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[server]\nworkres = 2\n", "maybe workers is meant"),
        ("[sever]\nworkers = 2\n", "maybe [server] is meant"),
        ("listen = 'x'\n", "there is no such setting"),
    ],
)
def test_an_unknown_key_of_the_file_is_refused(text: str, hint: str, tmp_path: Path) -> None:
    assert hint in str(_refused(_file(tmp_path, text)))


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = (
        "[server]\nworkers = 'many'\nlisten = 1\nworkres = 2\n[sever]\na = 1\n[gc]\ngrace_s = -1\n"
    )
    environ = {"FILESTORE_FOO": "1", "FILESTORE_LOG__LEVEL": "loud"}
    refused = _refused(_file(tmp_path, text), environ)
    errors = refused.members["errors"]
    assert isinstance(errors, list) and refused.members["count"] == len(errors) == 7
    named = [error["setting"] for error in errors if isinstance(error, dict)]
    assert named[:3] == ["FILESTORE_FOO", "workres", "[sever]"]
    assert set(named[3:]) == {"server.workers", "server.listen", "gc.grace_s", "log.level"}
    assert "(7) " in str(refused) and "?." not in str(refused)
    assert "'loud' is not possible; allowed: debug, info, warning or error" in str(refused)


def test_a_suggestion_reads_as_a_sentence() -> None:
    refused = _refused(environ={"FILESTORE_BLOKS": "x"})
    assert str(refused).endswith("there is no such setting; maybe FILESTORE_BLOCKS is meant.")
    assert str(_refused(environ={"FILESTORE_FOO": "1"})).endswith("there is no such setting.")


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "[server]" in str(_refused(_file(tmp_path, "server = 1\n")))


def test_a_setting_given_twice_in_one_layer_is_refused() -> None:
    environ = {"FILESTORE_LISTEN": "a:1", "FILESTORE_SERVER__LISTEN": "b:2"}
    refused = _refused(environ=environ)
    assert "FILESTORE_LISTEN" in str(refused)
    assert "FILESTORE_SERVER__LISTEN" in str(refused)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "No such file" in str(_refused(tmp_path / "none.toml"))
    assert "it is not TOML" in str(_refused(_file(tmp_path, "[server\n")))
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    assert "it is not TOML" in str(_refused(tmp_path / "config.toml"))


@pytest.mark.parametrize(
    ("environ", "setting"),
    [
        ({"FILESTORE_WORKERS": "2"}, "server.workers"),
        ({"FILESTORE_BLOCKS": "s3://h:1/b", "FILESTORE_S3_SECRET_KEY": "k"}, "s3.access_key"),
        (
            {"FILESTORE_BLOCKS": "s3://h:1/b", "FILESTORE_S3_ACCESS_KEY": "k"},
            "s3.secret_key",
        ),
        (
            {"FILESTORE_TRANSFER__BUFFER_MAX_BYTES": "64MiB"}
            | {"FILESTORE_TRANSFER__MEMORY_BUDGET_BYTES": "100MiB"},
            "transfer.buffer_max_bytes",
        ),
        (
            {"FILESTORE_TRANSFER__BUFFER_MIN_BYTES": "8MiB"}
            | {"FILESTORE_TRANSFER__BUFFER_MAX_BYTES": "1MiB"},
            "transfer.buffer_min_bytes",
        ),
        ({"FILESTORE_UPLOADS__EXPIRE_CAP_S": "3600"}, "uploads.expire_after_s"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    environ: dict[str, str], setting: str
) -> None:
    assert _refused(environ=environ).members["setting"] == setting


def test_two_workers_are_fine_with_postgresql() -> None:
    environ = {"FILESTORE_WORKERS": "2", "FILESTORE_DATABASE": "postgresql+asyncpg:///f"}
    assert load(environ=environ).server.workers == 2


def test_secrets_show_in_no_repr_and_no_error() -> None:
    assert "hush" not in repr(load(environ=ENVIRON_KEYS))
    assert "hush" not in str(load(environ=ENVIRON_KEYS))
    for variable, value in [
        ("FILESTORE_DATABASE", "mysql://u:hush@db/f"),
        ("FILESTORE_BLOCKS", "s3://hush@host/bucket"),
    ]:
        refused = _refused(environ={variable: value})
        assert "hush" not in str(refused)
        assert refused.__cause__ is None


def test_the_largest_memory_budget_is_still_a_number() -> None:
    environ = {"FILESTORE_TRANSFER__MEMORY_BUDGET_BYTES": "1TiB"}
    assert load(environ=environ).transfer.memory_budget_bytes == 1024 * 1024 * MIB
