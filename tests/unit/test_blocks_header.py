"""The object header and codec: what is written, and that nothing damaged is ever read."""

import random
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from filestore.blocks.header import EncodedBlock, Header, decode, encode, read_header
from filestore.blocks.port import HEADER_SIZE, MAX_OBJECT_SIZE
from filestore.errors import BlockDamaged
from filestore.model import KIB, MAX_BLOCK_SIZE, MIB, Codec

TEXT = b"the same line again and again\n" * 4000
NOISE = random.Random(7).randbytes(300 * KIB)


def _stored(block: EncodedBlock) -> bytes:
    return b"".join(block.parts)


def _decode(stored: bytes, plain: bytes) -> memoryview:
    return decode(stored, expected_hash=blake3(plain).digest(), expected_size=len(plain))


def _with_header(stored: bytes, **changes: int | bytes) -> bytes:
    """The object with other header fields and a right check over them."""
    names = ("magic", "version", "codec", "key_id", "size")
    fields = dict(zip(names, struct.unpack_from("<4sBBHQ", stored), strict=True)) | changes
    head = struct.pack("<4sBBHQ12x", *(fields[name] for name in names))
    return head + struct.pack("<I", zlib.crc32(head)) + stored[HEADER_SIZE:]


@given(st.binary(min_size=1, max_size=3000), st.sampled_from([0, 1, 3]))
def test_any_block_comes_back(plain: bytes, level: int) -> None:
    block = encode(plain, level=level)
    stored = _stored(block)
    assert len(stored) == block.stored_size
    assert read_header(stored) == Header(block.codec, len(plain))
    assert _decode(stored, plain) == plain


@pytest.mark.parametrize("size", [1, 256 * KIB - 1, 256 * KIB, MAX_BLOCK_SIZE])
def test_blocks_of_every_size_come_back(size: int) -> None:
    noise = random.Random(size).randbytes(size)
    block = encode(noise, level=3)
    assert block.codec is Codec.PLAIN and block.stored_size == HEADER_SIZE + size
    assert _decode(_stored(block), noise) == noise
    zeros = bytes(size)
    assert _decode(_stored(encode(zeros, level=3)), zeros) == zeros


def test_a_header_is_these_32_bytes() -> None:
    """Changing this makes every stored object unreadable."""
    stored = _stored(encode(b"abc", level=3))
    assert stored.hex() == "46535442010000000300000000000000" + "00" * 12 + (
        "a82c2be6" + b"abc".hex()
    )


def test_text_is_compressed_and_noise_is_not_copied() -> None:
    text = encode(TEXT, level=3)
    assert text.codec is Codec.ZSTD and text.stored_size < len(TEXT) // 10
    noise = encode(NOISE, level=3)
    assert noise.codec is Codec.PLAIN and noise.parts[1] is NOISE


def test_a_saving_below_three_percent_is_not_taken() -> None:
    for zeros, codec in ((2 * KIB, Codec.PLAIN), (4 * KIB, Codec.ZSTD)):
        mixed = NOISE[: 100 * KIB - zeros] + bytes(zeros)
        assert encode(mixed, level=3).codec is codec


def test_level_zero_stores_everything_plain() -> None:
    assert encode(TEXT, level=0).codec is Codec.PLAIN


@pytest.mark.parametrize("size", [0, MAX_BLOCK_SIZE + 1])
def test_what_is_no_block_cannot_be_encoded(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        encode(bytes(size), level=3)


@pytest.mark.parametrize("plain", [NOISE[:2000], TEXT[:2000]], ids=["plain", "zstd"])
def test_no_flipped_bit_gives_wrong_bytes(plain: bytes) -> None:
    stored = bytearray(_stored(encode(plain, level=3)))
    for at in range(len(stored)):
        stored[at] ^= 1 << at % 8
        with suppress(BlockDamaged):
            read = _decode(bytes(stored), plain)
            assert at >= HEADER_SIZE and read == plain
        stored[at] ^= 1 << at % 8


@pytest.mark.parametrize("plain", [NOISE[:2000], TEXT[:2000]], ids=["plain", "zstd"])
def test_a_cut_or_extended_object_is_damaged(plain: bytes) -> None:
    stored = _stored(encode(plain, level=3))
    for wrong in (*(stored[:length] for length in range(len(stored))), stored + b"\0"):
        with pytest.raises(BlockDamaged):
            _decode(wrong, plain)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"magic": b"XXXX"}, "does not begin as a block"),
        ({"version": 2}, "format 2"),
        ({"codec": 9}, "codec 9"),
        ({"key_id": 1}, "key 1"),
        ({"size": 0}, "0 bytes"),
        ({"size": MAX_BLOCK_SIZE + 1}, str(MAX_BLOCK_SIZE + 1)),
    ],
)
def test_a_header_that_cannot_be_read_says_why(
    changes: dict[str, int | bytes], reason: str
) -> None:
    stored = _with_header(_stored(encode(b"abc", level=0)), **changes)
    with pytest.raises(BlockDamaged) as caught:
        _decode(stored, b"abc")
    assert reason in str(caught.value.members["reason"])


def test_another_block_with_the_same_size_is_damage() -> None:
    with pytest.raises(BlockDamaged):
        _decode(_stored(encode(b"abd", level=0)), b"abc")


def test_an_object_that_claims_a_huge_block_allocates_nothing() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(512 * MIB))
    assert len(bomb) < MAX_OBJECT_SIZE
    stored = _with_header(_stored(encode(b"abc", level=0))[:HEADER_SIZE] + bomb, codec=1)
    for size in (3, MAX_BLOCK_SIZE):
        with pytest.raises(BlockDamaged):
            _decode(_with_header(stored, size=size), bytes(size))


def test_a_frame_without_its_size_is_damage() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    stored = _with_header(bytes(HEADER_SIZE) + frame, magic=b"FSTB", version=1, codec=1, size=1)
    with pytest.raises(BlockDamaged):
        _decode(_with_header(stored, size=len(TEXT)), TEXT)


def test_threads_compress_at_once_without_mixing() -> None:
    blocks = [bytes([number]) * 100_000 + b"%d" % number for number in range(64)]
    together = threading.Barrier(4)

    def work(share: list[bytes]) -> list[bytes]:
        together.wait()
        return [bytes(_decode(_stored(encode(block, level=3)), block)) for block in share]

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(work, [blocks[at::4] for at in range(4)]))
    assert done == [blocks[at::4] for at in range(4)]
