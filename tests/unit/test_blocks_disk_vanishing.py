"""Disks that vanish, fill up or turn read-only while the store is open."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from filestore.blocks.disk import DiskStore
from filestore.errors import StoreFull, StoreUnavailable
from filestore.model import MIB
from tests.contract.block_store import make_bytes, make_key, paths
from tests.services.needs import require


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    """A store in ``root``, which a test may replace."""
    with ThreadPoolExecutor(2) as threads:
        made = DiskStore(tmp_path / "root", process_id="prc_me", threads=threads, prefix="")
        await made.open()
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB, room for one block; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    require("tmpfs", _mount("-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)))
    yield folder
    _unmount(folder)


@pytest.fixture
async def on_disk(small_disk: Path) -> AsyncIterator[DiskStore]:
    """A store that fills the small disk, without a reserve."""
    with ThreadPoolExecutor(2) as threads:
        made = DiskStore(small_disk, process_id="prc_me", threads=threads, prefix="", reserve=0)
        await made.open()
        yield made


def _mount(*arguments: str) -> bool:
    program = shutil.which("mount")
    if program is None:
        return False
    return not subprocess.run([program, *arguments], capture_output=True, check=False).returncode


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def _files(root: Path) -> list[str]:
    return [path for path in _everything(root) if (root / path).is_file()]


def _everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


async def test_a_root_that_vanished_is_not_made_again(store: DiskStore, tmp_path: Path) -> None:
    key, root = make_key(b"x"), tmp_path / "root"
    await store.put(key, [b"x"])
    root.rename(tmp_path / "away")
    await _expect_unavailable(store)
    assert not root.exists()
    (tmp_path / "away").rename(root)
    assert await store.get(key) == b"x"
    await store.check()


async def test_another_folder_in_its_place_is_not_written_to(
    store: DiskStore, tmp_path: Path
) -> None:
    await store.write_identity("sto_mine", 1)
    root = tmp_path / "root"
    root.rename(tmp_path / "away")
    (root / ".identity").mkdir(parents=True)
    await _expect_unavailable(store)
    (root / ".identity/sto_other.1").touch()
    await _expect_unavailable(store)
    assert _everything(root) == [".identity", ".identity/sto_other.1"]


async def test_the_same_store_on_another_device_is_taken_up(
    store: DiskStore, tmp_path: Path
) -> None:
    key, root = make_key(b"x"), tmp_path / "root"
    await store.write_identity("sto_mine", 1)
    await store.put(key, [b"x"])
    root.rename(tmp_path / "away")
    shutil.copytree(tmp_path / "away", root)
    assert await store.get(key) == b"x"
    await store.put(make_key(b"y"), [b"y"])


async def _expect_unavailable(store: DiskStore) -> None:
    """Every operation is refused, and none takes a vanished disk for missing objects."""
    key = make_key(b"x")
    with pytest.raises(StoreUnavailable):
        await store.put(key, [b"x"])
    with pytest.raises(StoreUnavailable):
        await store.get(key)
    with pytest.raises(StoreUnavailable):
        await store.remove([key])
    with pytest.raises(StoreUnavailable):
        await store.read_identity()
    with pytest.raises(StoreUnavailable):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await paths(store)


async def test_a_full_disk_says_so_and_keeps_what_it_has(
    on_disk: DiskStore, small_disk: Path
) -> None:
    kept, half = make_key(b"kept"), make_bytes(MIB)
    await on_disk.put(kept, [half])
    before = _files(small_disk)
    with pytest.raises(StoreFull):
        await on_disk.put(make_key(b"too large"), [half] * 6)
    assert _files(small_disk) == before
    await on_disk.put(make_key(b"small"), [b"small"])
    assert await on_disk.get(kept) == half


async def test_a_disk_below_its_reserve_is_full(small_disk: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        store = DiskStore(small_disk, process_id="prc_me", threads=threads)
        await store.open()
        with pytest.raises(StoreFull):
            await store.check()
        with pytest.raises(StoreFull):
            await store.put(make_key(b"x"), [b"x"])
        assert _files(small_disk) == []


async def test_an_unmounted_disk_is_an_error_and_may_come_back(
    on_disk: DiskStore, small_disk: Path, tmp_path: Path
) -> None:
    key, aside = make_key(b"x"), tmp_path / "aside"
    await on_disk.put(key, [b"x"])
    aside.mkdir()
    assert _mount("--bind", str(small_disk), str(aside))
    _unmount(small_disk)
    try:
        await _expect_unavailable(on_disk)
        assert _everything(small_disk) == []
        assert _mount("--bind", str(aside), str(small_disk))
    finally:
        _unmount(aside)
    assert await on_disk.get(key) == b"x"


async def test_a_disk_that_went_read_only_fails_the_check(
    on_disk: DiskStore, small_disk: Path
) -> None:
    await on_disk.check()
    assert _mount("-o", "remount,ro", str(small_disk))
    with pytest.raises(StoreUnavailable, match="read-only"):
        await on_disk.check()
    with pytest.raises(StoreUnavailable):
        await on_disk.put(make_key(b"x"), [b"x"])
