"""Where blocks are cut and how they are named, frozen.

Changing these bloats every existing store: data that is there already would be cut
elsewhere, so nothing new would match it. The values are those of fastcdc-rs (v2020).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict

import pyfastcdc
import pytest

from filestore.model import ChunkerParams
from filestore_chunker import Cutter, FileHasher, Params, block_hash, hash_blocks, require_native

KIB = 1024
MIB = 1024 * KIB

GOLDEN = "dde10f2c783588011120533668446d792516cd383d8e675a05f078eb1096d1d6"
GOLDEN_DEFAULT = [
    721161,
    1778091,
    2879901,
    4450152,
    5616498,
    6909183,
    9248809,
    11007798,
    12212975,
    12582912,
]


def deterministic(size: int) -> bytes:
    """Bytes that no library version changes: SHA-256 in counter mode, with flat stretches."""
    blocks = (hashlib.sha256(b"%d" % n).digest() for n in range(size // 32))
    data = bytearray(b"".join(blocks))
    data[size // 4 : size // 4 + size // 16] = bytes(size // 16)
    return bytes(data)


def parameter_sets() -> Iterator[Params]:
    for avg in (256, 4 * KIB, 64 * KIB, 256 * KIB):
        for low in (avg // 4, avg // 2, avg):
            for high in (2, 4, 8):
                for level in range(4):
                    yield Params(max(low, 64), avg, max(avg * high, KIB), level)


def cut_points(data: bytes, params: Params) -> list[int]:
    cutter = Cutter(params)
    return [cut.end for cut in cutter.feed(data) + cutter.finish()]


def test_cut_points_of_many_parameter_sets_stay_where_they_are() -> None:
    data = deterministic(1 * MIB)
    digest = hashlib.sha256()
    for params in parameter_sets():
        sizes = (params.min_size, params.avg_size, params.max_size, params.level)
        digest.update(f"{sizes}: {cut_points(data, params)}\n".encode())

    assert digest.hexdigest() == GOLDEN, "changing these bloats every existing store"


def test_cut_points_of_the_default_parameters_stay_where_they_are() -> None:
    points = cut_points(deterministic(12 * MIB), Params())

    assert points == GOLDEN_DEFAULT, "changing these bloats every existing store"


def test_blocks_are_named_by_blake3() -> None:
    # Source: the first test vector of the BLAKE3 reference implementation (empty input).
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

    assert block_hash(b"").hex() == empty
    assert hash_blocks([memoryview(b""), b"abc"])[0].hex() == empty
    assert hash_blocks([b"abc"]) == [block_hash(bytearray(b"abc"))]


def test_a_file_hasher_counts_and_can_be_copied() -> None:
    hasher = FileHasher(with_sha256=True)
    hasher.update(b"ab")
    other = hasher.copy()
    hasher.update(memoryview(b"c"))

    assert hasher.size == 3 and other.size == 2
    assert hasher.digest() == block_hash(b"abc")
    assert hasher.sha256() == hashlib.sha256(b"abc").digest()
    assert other.digest() == block_hash(b"ab")
    assert other.sha256() == hashlib.sha256(b"ab").digest()
    assert FileHasher().sha256() is None


@pytest.mark.parametrize(
    ("sizes", "level", "says"),
    [
        ((512, 256, 1024), 2, "does not hold"),
        ((65, 256, 1024), 2, "odd"),
        ((32, 256, 1024), 2, "min_size 32 is not within"),
        ((64, 256, 32 * MIB), 2, "max_size"),
        ((64, 256, 1024), 4, "level 4"),
    ],
)
def test_parameters_that_the_scanner_cannot_keep_are_refused(
    sizes: tuple[int, int, int], level: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Params(*sizes, level)


def test_the_defaults_are_those_of_the_model() -> None:
    assert Params(**asdict(ChunkerParams())) == Params()


def test_the_compiled_scanner_is_in_use() -> None:
    require_native()


def test_the_slow_fallback_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyfastcdc.py import FastCDC

    monkeypatch.setattr(pyfastcdc, "FastCDC", FastCDC)

    with pytest.raises(RuntimeError, match="pure Python"):
        require_native()
