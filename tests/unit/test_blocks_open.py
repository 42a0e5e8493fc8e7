"""From a URL to a store, and what a wrong URL is told."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from filestore.blocks.backend import Backend
from filestore.blocks.disk import DiskStore
from filestore.blocks.open import guard_store, make_store
from filestore.blocks.retrying import RetryingStore
from filestore.blocks.s3 import S3Store
from filestore.blocks.s3_location import S3Location, parse_s3_url
from filestore.errors import BadSetting
from tests.contract.block_store import make_key


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def _make(
    url: str, threads: ThreadPoolExecutor, *, access_key: str = "", secret_key: str = ""
) -> Backend:
    return make_store(
        url,
        process_id="prc_test",
        threads=threads,
        access_key=access_key,
        secret_key=secret_key,
    )


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://minio:9000/blocks", S3Location("minio:9000", "blocks")),
        ("s3://h:9000/b-1?secure=false", S3Location("h:9000", "b-1", secure=False)),
        ("s3://h/bucket/", S3Location("h", "bucket")),
        ("s3://h:443/bucket", S3Location("h", "bucket")),
        ("s3://h:80/bucket", S3Location("h:80", "bucket")),
        ("s3://[::1]:9000/bucket?secure=true", S3Location("[::1]:9000", "bucket")),
        (
            "s3://h:1/bucket?prefix=a/b&region=eu-1&secure=false",
            S3Location("h:1", "bucket", secure=False, prefix="a/b", region="eu-1"),
        ),
    ],
)
def test_an_s3_url_is_taken_apart(url: str, location: S3Location) -> None:
    assert parse_s3_url(url, source="--blocks") == location


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3:///bucket", "names no host"),
        ("s3:bucket", "names no host"),
        ("s3://h:9000", "cannot be the name of a bucket"),
        ("s3://h:9000/a", "cannot be the name of a bucket"),
        ("s3://h:9000/UPPER", "cannot be the name of a bucket"),
        ("s3://h:9000/bucket/more", "cannot be the name of a bucket"),
        ("s3://h:port/bucket", "host or port"),
        ("s3://h:99999/bucket", "host or port"),
        ("s3://h/bucket?secure=no", "'no' cannot be the option secure"),
        ("s3://h/bucket?prefix=../x", "cannot be the option prefix"),
        ("s3://h/bucket?prefix=/x", "cannot be the option prefix"),
        ("s3://h/bucket?region=a%20b", "cannot be the option region"),
        ("s3://h/bucket?colour=red", "no option 'colour'"),
        ("s3://AKIA:hidden@h/bucket", "FILESTORE_S3_SECRET_KEY"),
        ("http://h/bucket", "must begin with file: or s3:"),
        ("/srv/blocks", "must begin with file: or s3:"),
        ("file:", "names no folder"),
        ("file://host/dir", "not on 'host'"),
        ("", "must begin with file: or s3:"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong(
    url: str, reason: str, threads: ThreadPoolExecutor
) -> None:
    with pytest.raises(BadSetting) as caught:
        _make(url, threads, access_key="a", secret_key="s")
    sentence = str(caught.value)
    assert reason in sentence and "--blocks" in sentence
    assert "hidden" not in sentence


@pytest.mark.parametrize("missing", ["access_key", "secret_key"])
def test_an_s3_store_needs_both_keys(missing: str, threads: ThreadPoolExecutor) -> None:
    keys = {"access_key": "a", "secret_key": "s"} | {missing: ""}
    with pytest.raises(BadSetting, match=f"FILESTORE_S3_{missing.upper()}"):
        _make("s3://h/bucket", threads, **keys)


async def test_a_folder_holds_its_domains_directly(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    store = _make(f"file:{tmp_path}/new/blocks", threads)
    await store.open()
    key = make_key(b"x")
    await store.put(key, [b"x"])
    assert (tmp_path / "new/blocks" / key.path).read_bytes() == b"x"


@pytest.mark.parametrize("url", ["file:{}", "file://{}"])
def test_a_file_url_may_have_two_or_no_slashes(
    url: str, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    store = _make(url.format(tmp_path), threads)
    assert isinstance(store, DiskStore) and str(tmp_path) in repr(store)


def test_a_store_does_not_show_its_secret_key(threads: ThreadPoolExecutor) -> None:
    store = _make("s3://h/bucket", threads, access_key="known", secret_key="hidden")
    assert isinstance(store, S3Store)
    guarded = guard_store(store, max_puts=1, max_gets=1)
    assert isinstance(guarded, RetryingStore)
    assert "h/bucket" in repr(guarded) and "hidden" not in repr(guarded)
