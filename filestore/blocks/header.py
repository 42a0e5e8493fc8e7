"""What lies in an object: a 32-byte header, then the block, plain or compressed.

The header alone says how to read the rest, so rows can be rebuilt from objects, and a later
encryption (a key id other than 0) needs no migration. :func:`decode` is the one place where
a block's hash is verified. All of this is pure and blocks for up to some milliseconds, so
it runs in worker threads; zstd and BLAKE3 release the GIL.
"""

import struct
import threading
import zlib
from dataclasses import dataclass
from typing import Final

import zstandard
from blake3 import blake3

from filestore.blocks.port import HEADER_SIZE, Buffer
from filestore.errors import BlockDamaged
from filestore.model import KIB, MAX_BLOCK_SIZE, Codec

MAGIC: Final = b"FSTB"
FORMAT_VERSION: Final = 1
NO_KEY: Final = 0
"""The key id of a block that is not encrypted; today the only one."""

_FIELDS: Final = struct.Struct("<4sBBHQ12x")
"""Little-endian: magic, format version, codec, key id, plain size, 12 reserved zero bytes."""

_CHECK: Final = struct.Struct("<I")
"""CRC-32 of the fields before it. Tells a damaged header from one of a newer version."""

_CODEC_IDS: Final = {Codec.PLAIN: 0, Codec.ZSTD: 1}
_CODECS: Final = {number: codec for codec, number in _CODEC_IDS.items()}

WORTHWHILE: Final = 0.97
"""Compressed blocks are kept only if they are at most this part of the plain ones.

Below 3 % the space saved does not pay for decompressing the block at each read.
"""

_PROBE_SIZE: Final = 16 * KIB
_PROBE_COUNT: Final = 4
_PROBE_FROM: Final = 4 * _PROBE_SIZE * _PROBE_COUNT
"""Blocks smaller than this are compressed without a probe, which would be a quarter of the work."""

_local: Final = threading.local()


@dataclass(frozen=True, slots=True)
class Header:
    """What an object says of itself."""

    codec: Codec
    plain_size: int


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """An object ready to be put. ``parts`` may refer to the buffer that was encoded."""

    parts: list[Buffer]
    codec: Codec
    stored_size: int
    """Bytes of the whole object, header included: what a listing of the store shows."""


def encode(data: Buffer, *, level: int) -> EncodedBlock:
    """The object that holds ``data``, compressed if that saves at least 3 %.

    A plain block is not copied: the buffer must stay as it is until the object is stored.
    ``level`` is zstd's; 0 stores everything plain. Costs about 0.25 ms per MiB at level 3.

    :raises ValueError: not 1 byte to 4 MiB of data.
    """
    size = memoryview(data).nbytes
    if not 0 < size <= MAX_BLOCK_SIZE:
        raise ValueError(f"a block has 1 to {MAX_BLOCK_SIZE} bytes, not {size}")
    compressed = _compress(data, level) if level else None
    codec, body = (Codec.PLAIN, data) if compressed is None else (Codec.ZSTD, compressed)
    parts: list[Buffer] = [_pack(codec, size), body]
    return EncodedBlock(parts, codec, HEADER_SIZE + memoryview(body).nbytes)


def read_header(stored: Buffer) -> Header:
    """What the first 32 bytes of an object say; the rest need not be there.

    :raises BlockDamaged: not a header, a damaged one, or one that this version cannot read.
    """
    head = bytes(memoryview(stored)[:HEADER_SIZE])
    if len(head) < HEADER_SIZE:
        raise BlockDamaged(reason=f"the object has {len(head)} bytes, less than its header")
    magic, version, codec, key_id, size = _FIELDS.unpack_from(head)
    if magic != MAGIC:
        raise BlockDamaged(reason="the object does not begin as a block")
    if _CHECK.unpack_from(head, _FIELDS.size)[0] != zlib.crc32(head[: _FIELDS.size]):
        raise BlockDamaged(reason="the object's header is damaged")
    if version != FORMAT_VERSION or codec not in _CODECS or key_id != NO_KEY:
        raise BlockDamaged(reason=f"format {version}, codec {codec}, key {key_id} is not known")
    if not 0 < size <= MAX_BLOCK_SIZE:
        raise BlockDamaged(reason=f"the header names {size} bytes")
    return Header(_CODECS[codec], size)


def decode(stored: Buffer, *, expected_hash: bytes, expected_size: int) -> memoryview:
    """The plain bytes of an object, verified to be the block with this hash and size.

    Refers to ``stored`` if that is plain. Never allocates more than ``expected_size`` bytes,
    whatever the object claims.

    :raises BlockDamaged: anything is not as expected.
    """
    header = read_header(stored)
    if header.plain_size != expected_size:
        raise BlockDamaged(reason=f"the block has {header.plain_size} bytes, not {expected_size}")
    body = memoryview(stored)[HEADER_SIZE:]
    plain = body if header.codec is Codec.PLAIN else _decompress(body, expected_size)
    if plain.nbytes != expected_size:
        raise BlockDamaged(reason=f"the object holds {plain.nbytes} bytes, not {expected_size}")
    if blake3(plain).digest() != expected_hash:
        raise BlockDamaged(reason="the bytes do not have the block's hash")
    return plain


def _pack(codec: Codec, size: int) -> bytes:
    fields = _FIELDS.pack(MAGIC, FORMAT_VERSION, _CODEC_IDS[codec], NO_KEY, size)
    return fields + _CHECK.pack(zlib.crc32(fields))


def _compress(data: Buffer, level: int) -> bytes | None:
    """``data`` compressed, or None if that saves too little."""
    compressor = _compressor(level)
    view = memoryview(data)
    if view.nbytes >= _PROBE_FROM and not _looks_compressible(view, compressor):
        return None
    compressed = compressor.compress(data)
    return compressed if len(compressed) <= view.nbytes * WORTHWHILE else None


def _looks_compressible(view: memoryview, compressor: zstandard.ZstdCompressor) -> bool:
    """Whether samples spread over the block shrink. Costs 0.05 ms."""
    step = (view.nbytes - _PROBE_SIZE) // (_PROBE_COUNT - 1)
    samples = (view[at * step : at * step + _PROBE_SIZE] for at in range(_PROBE_COUNT))
    shrunk = sum(len(compressor.compress(sample)) for sample in samples)
    return shrunk <= _PROBE_SIZE * _PROBE_COUNT * WORTHWHILE


def _decompress(body: memoryview, expected_size: int) -> memoryview:
    try:
        frame = zstandard.get_frame_parameters(body)
        if frame.content_size != expected_size:  # the size that zstd would allocate
            raise BlockDamaged(reason="the compressed bytes name another size than the header")
        plain = _decompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as err:
        raise BlockDamaged(reason=f"the bytes cannot be decompressed: {err}") from err
    return memoryview(plain)


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """This thread's compressor: making one costs more than a small block."""
    compressors: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("levels", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressors[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor = _local.__dict__.setdefault(
        "decompressor", zstandard.ZstdDecompressor()
    )
    return found
