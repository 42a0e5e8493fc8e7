"""Cuts a stream of bytes into blocks by content, and names blocks by their hash.

Pure: no I/O, no clock, no randomness. The server and any client that speaks the block
protocol cut with this package, so that both find the same blocks.
"""

from filestore_chunker.cutter import Cut, Cutter
from filestore_chunker.hashing import HASH_SIZE, FileHasher, block_hash, hash_blocks
from filestore_chunker.params import Params, require_native

__all__ = [
    "HASH_SIZE",
    "Cut",
    "Cutter",
    "FileHasher",
    "Params",
    "block_hash",
    "hash_blocks",
    "require_native",
]
