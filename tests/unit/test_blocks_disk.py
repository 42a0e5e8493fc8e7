"""The disk store: durability by the right order, and what a failing disk leaves behind."""

import asyncio
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from filestore.blocks.disk import DiskStore
from filestore.blocks.port import MAX_OBJECT_SIZE
from filestore.errors import BlockDamaged, BlockMissing, StoreFull, StoreUnavailable
from tests.contract.block_store import make_bytes, make_key, paths

Call = Callable[..., Any]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
async def store(tmp_path: Path, threads: ThreadPoolExecutor) -> DiskStore:
    made = DiskStore(tmp_path / "root", process_id="prc_me", threads=threads)
    await made.open()
    return made


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


class Recorder:
    """Writes down what reaches the disk, by name, while everything is really done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[str] = []
        self._root = root
        for name in ("fsync", "writev"):
            self._wrap(monkeypatch, name, lambda fd, *_: self._name(os.readlink(f"/dev/fd/{fd}")))
        for name in ("mkdir", "unlink"):
            self._wrap(monkeypatch, name, lambda path, *_: self._name(str(path)))
        self._wrap(monkeypatch, "rename", lambda old, new: f"{self._name(old)} > {new}")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, name: str, describe: Call) -> None:
        real: Call = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(f"{name} {describe(*args)}")
            return real(*args, **options)

        monkeypatch.setattr(os, name, call)

    def _name(self, path: str) -> str:
        return "TEMP" if "prc_me." in path else path.removeprefix(f"{self._root}/")


async def test_a_put_is_durable_in_this_order(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(b"x")
    folder, _, name = key.path.rpartition("/")
    recorder = Recorder(monkeypatch, tmp_path / "root" / "blocks")
    await store.put(key, [b"head", b"x"])
    assert recorder.calls == [
        "mkdir default",
        f"fsync {tmp_path}/root/blocks",
        f"mkdir {folder}",
        "fsync default",
        "writev TEMP",
        "fsync TEMP",
        f"rename TEMP > {name}",
        f"fsync {folder}",
    ]


async def test_a_second_put_into_a_folder_syncs_only_file_and_folder(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(make_key(b"x"), [b"x"])
    recorder = Recorder(monkeypatch, tmp_path / "root" / "blocks")
    await store.put(make_key(b"x"), [b"x"])
    assert [call.split()[0] for call in recorder.calls] == ["writev", "fsync", "rename", "fsync"]


async def test_a_folder_that_another_process_made_is_synced_too(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(b"x")
    (tmp_path / "root/blocks" / key.path).parent.mkdir(parents=True)
    recorder = Recorder(monkeypatch, tmp_path / "root" / "blocks")
    await store.put(key, [b"x"])
    synced = [call for call in recorder.calls if call.startswith("fsync")]
    assert synced[:2] == [f"fsync {tmp_path}/root/blocks", "fsync default"]


async def test_opening_makes_the_root_durable(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    recorder = Recorder(monkeypatch, tmp_path)
    await DiskStore(tmp_path / "a" / "b", process_id="prc_me", threads=threads).open()
    made = [call for call in recorder.calls if call.startswith("fsync")]
    assert made[:3] == [f"fsync {tmp_path}", "fsync a", "fsync a/b"]


async def test_a_remove_syncs_each_folder_behind_the_unlinks(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(b"x")
    await store.put(key, [b"x"])
    recorder = Recorder(monkeypatch, tmp_path / "root" / "blocks")
    await store.remove([key, make_key(b"x")])
    assert [call.split()[0] for call in recorder.calls] == ["unlink", "unlink", "fsync"]


async def test_a_write_that_takes_only_a_part_goes_on(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, views: real(fd, [memoryview(views[0])[:777]]))
    data, key = make_bytes(10_000), make_key(b"x")
    await store.put(key, [data[:1000], b"", data[1000:]])
    assert await store.get(key) == data


@pytest.mark.parametrize("call", ["writev", "fsync", "rename"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EIO, StoreUnavailable),
        (errno.EROFS, StoreUnavailable),
    ],
)
async def test_a_failed_write_leaves_nothing(
    store: DiskStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    error: type[Exception],
) -> None:
    key = make_key(b"x")
    await store.put(make_key(b"x"), [b"warm"])
    before = _files(tmp_path)
    with monkeypatch.context() as failing, pytest.raises(error):
        failing.setattr(os, call, _failing(code))
        await store.put(key, [b"x"])
    assert _files(tmp_path) == before
    await store.put(key, [b"x"])
    assert await store.get(key) == b"x"


def _failing(code: int) -> Call:
    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_folder_that_cannot_be_synced_leaves_the_outcome_unknown(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    key = make_key(b"x")
    await store.put(make_key(b"x"), [b"warm"])
    real, calls = os.fsync, []

    def fsync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreUnavailable):
        await store.put(key, [b"x"])
    assert await store.get(key) == b"x"


async def test_errors_name_the_folder_and_the_reason(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "read", _failing(errno.EIO))
    key = make_key(b"x")
    await store.put(key, [b"x"])
    with pytest.raises(StoreUnavailable, match="Input/output error") as caught:
        await store.get(key)
    assert str(tmp_path / "root/blocks") in str(caught.value)


async def test_only_what_dead_processes_left_is_swept(store: DiskStore, tmp_path: Path) -> None:
    key = make_key(b"x")
    await store.put(key, [b"x"])
    temporary = tmp_path / "root/blocks/.tmp"
    for name in ("prc_me.1", "prc_living.1", "prc_dead.1", "prc_dead.2", "nobody"):
        (temporary / name).write_bytes(b"half")
    asked: list[str] = []

    def is_alive(process: str) -> bool:
        asked.append(process)
        return process == "prc_living"

    assert await store.sweep(is_alive) == 3
    assert sorted(path.name for path in temporary.iterdir()) == ["prc_living.1", "prc_me.1"]
    assert "prc_me" not in asked
    assert await paths(store) == [key.path]


async def test_temporary_names_carry_the_process(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = os.rename

    def rename(old: str, new: str, **folders: int) -> None:
        seen.append(old)
        real(old, new, **folders)

    monkeypatch.setattr(os, "rename", rename)
    for _ in range(2):
        await store.put(make_key(b"x"), [b"x"])
    assert [name.rpartition(".")[0] for name in seen] == ["prc_me", "prc_me"]
    assert len(set(seen)) == 2


async def test_a_folder_that_was_tidied_away_is_made_again(
    store: DiskStore, tmp_path: Path
) -> None:
    key = make_key(b"x")
    await store.put(key, [b"x"])
    await store.remove([key])
    shutil.rmtree(tmp_path / "root/blocks/default")
    (tmp_path / "root/blocks/.tmp").rmdir()
    await store.put(key, [b"x"])
    assert await store.get(key) == b"x"


async def test_an_object_larger_than_any_block_is_not_read(
    store: DiskStore, tmp_path: Path
) -> None:
    key = make_key(b"x")
    await store.put(key, [b"x"])
    os.truncate(tmp_path / "root/blocks" / key.path, MAX_OBJECT_SIZE + 1)
    with pytest.raises(BlockDamaged):
        await store.get(key)


async def test_the_reserve_of_a_disk_is_never_eaten(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    store = DiskStore(tmp_path, process_id="prc_me", threads=threads, reserve=2**62)
    await store.open()
    await store.write_identity("sto_x", 1)
    with pytest.raises(StoreFull):
        await store.check()
    with pytest.raises(StoreFull):
        await store.put(make_key(b"x"), [b"x"])
    assert _files(tmp_path) == ["blocks/.identity/sto_x.1"]


@pytest.mark.parametrize(
    ("room", "files", "is_full"),
    [
        (3 * MAX_OBJECT_SIZE, 1, False),
        (3 * MAX_OBJECT_SIZE - 1, 1, True),
        (2**40, 0, True),
    ],
    ids=["room for one block", "a byte too little", "no inodes"],
)
async def test_a_disk_is_full_when_the_largest_block_is_not_taken_any_more(
    tmp_path: Path,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    files: int,
    is_full: bool,
) -> None:
    """Blocks of one byte stand for the bytes; the reserve is twice the largest object."""
    found = SimpleNamespace(f_flag=0, f_frsize=1, f_bavail=room, f_files=9, f_favail=files)
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: found)
    reserve = 2 * MAX_OBJECT_SIZE
    store = DiskStore(tmp_path, process_id="prc_me", threads=threads, reserve=reserve)
    await store.open()
    largest = [bytes(MAX_OBJECT_SIZE)]
    with pytest.raises(StoreFull) if is_full else nullcontext():
        await store.check()
    with pytest.raises(StoreFull) if is_full else nullcontext():
        await store.put(make_key(b"x"), largest)


async def test_a_full_disk_fails_the_check_also_without_a_reserve(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(f_flag=0, f_frsize=1, f_bavail=100, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: found)
    store = DiskStore(tmp_path, process_id="prc_me", threads=threads, reserve=0)
    await store.open()
    with pytest.raises(StoreFull):
        await store.check()
    await store.put(make_key(b"x"), [bytes(100)])


async def test_others_of_the_machine_cannot_read_what_is_stored(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    before = os.umask(0)
    try:
        store = DiskStore(tmp_path / "a", process_id="prc_me", threads=threads)
        await store.open()
        await store.write_identity("sto_x", 1)
        await store.put(make_key(b"x"), [b"x"])
        await store.set_aside([make_key(b"x")], "2026-01-31")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
    assert modes == {0o700, 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


class Gate:
    """Holds the first ``writev`` in its thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self._open = threading.Event()
        self._loop = asyncio.get_running_loop()
        real = os.writev

        def writev(fd: int, views: list[memoryview]) -> int:
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._open.wait(30)
            return real(fd, views)

        monkeypatch.setattr(os, "writev", writev)

    def open(self) -> None:
        self._open.set()


async def test_a_cancelled_put_waits_for_its_thread_and_leaves_nothing(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, key = Gate(monkeypatch), make_key(b"x")
    put = asyncio.create_task(store.put(key, [b"x"]))
    await gate.reached.wait()
    put.cancel()
    done, _ = await asyncio.wait([put], timeout=0.05)
    assert not done  # its thread still reads the buffers
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert _files(tmp_path) == []
    with pytest.raises(BlockMissing):
        await store.get(key)


async def test_a_put_that_is_cancelled_in_the_queue_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as one:
        store = DiskStore(tmp_path, process_id="prc_me", threads=one)
        await store.open()
        gate, running, queued = Gate(monkeypatch), make_key(b"x"), make_key(b"y")
        first = asyncio.create_task(store.put(running, [b"x"]))
        await gate.reached.wait()
        second = asyncio.create_task(store.put(queued, [b"y"]))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not first.done()
        gate.open()
        await first
        assert await paths(store) == [running.path]
