"""The second stage's work: from the bytes of a stream to rows, across requests.

Everything here that touches many bytes runs on a worker thread, one hop a buffer.
"""

from collections.abc import Sequence
from functools import partial

from filestore.blocks.port import BlockKey
from filestore.errors import BlockDamaged, BlockMissing, TailLost
from filestore.meta import contents
from filestore.meta.uploads import Upload
from filestore.model import ChunkerParams
from filestore.transfer.checksums import ALGORITHMS
from filestore.transfer.engine import Engine
from filestore.transfer.recording import Row
from filestore.transfer.tail import Tail
from filestore_chunker import Cut, Cutter, FileHasher, Params, hash_blocks


class Slicer:
    """Cuts the bytes of one upload, beginning with its recorded tail.

    ``position`` is the end of all bytes that were taken. ``hasher`` is the file's running
    digest, None when its state was lost; ``body_hash`` that of this request's bytes.
    """

    def __init__(
        self,
        engine: Engine,
        upload: Upload,
        params: ChunkerParams,
        tail: list[tuple[int, int]],
        *,
        body_algorithm: str | None,
    ) -> None:
        self._engine = engine
        self._upload = upload
        self._params = Params(params.min_size, params.avg_size, params.max_size, params.level)
        self._tail = Tail(tail, floor=0 if body_algorithm is None else upload.offset)
        self._cutter: Cutter | None = None
        self.position = upload.offset
        self.hasher = engine.digests.at(upload.id, upload.offset)
        if upload.offset == 0:
            self.hasher = FileHasher(with_sha256=upload.expected.sha256 is not None)
        self._body_hash = None if body_algorithm is None else ALGORITHMS[body_algorithm]()

    @property
    def held_size(self) -> int:
        """Bytes behind the last cut that are in memory."""
        return 0 if self._cutter is None else self._cutter.pending_size

    @property
    def unloaded_size(self) -> int:
        """Bytes that are read back into memory before the next ones can be cut."""
        return 0 if self._cutter is not None else sum(size for _, size in self._tail.rows)

    @property
    def body_digest(self) -> bytes:
        return b"" if self._body_hash is None else self._body_hash.digest()

    @property
    def tail_start(self) -> int:
        """Where the bytes behind the last cut begin."""
        return self.position if self._tail.start is None else self._tail.start

    def state_at(self, end: int) -> FileHasher | None:
        """A copy of the file's digest if it stands exactly at ``end``."""
        if self.hasher is None or self.hasher.size != end:
            return None
        return self.hasher.copy()

    async def take(self, data: memoryview) -> list[Row]:
        """The rows that these bytes make final; they refer to them.

        :raises TailLost: the recorded tail cannot be read back.
        """
        cutter = await self._loaded()
        rows = await self._engine.workers.run(partial(self._cut, cutter, data))
        self.position += len(data)
        return self._settled(rows)

    async def finish(self) -> list[Row]:
        """The last rows of the file: its end is the end of the last block."""
        cutter = await self._loaded()
        return self._settled(await self._engine.workers.run(lambda: _rows(cutter.finish())))

    async def flush(self) -> tuple[list[Row], int, bytes]:
        """Rows that save what is held: final ones, then a provisional one for the rest.

        Also gives where the rest begins, and the rest: it stays held.
        """
        if self._cutter is None:
            return [], self.position, b""
        cutter = self._cutter
        cuts, pending = await self._engine.workers.run(cutter.take_pending)
        rows = self._settled(await self._engine.workers.run(lambda: _rows(cuts)))
        extend = partial(self._tail.extend, cutter.pending_offset, pending)
        return rows + await self._engine.workers.run(extend), cutter.pending_offset, pending

    def drop(self) -> None:
        """Lets go of what is held; it is recorded, and read back when bytes come again."""
        self._cutter = None

    def _settled(self, rows: list[Row]) -> list[Row]:
        if rows:
            self._tail.cut_at(rows[-1].end)
        return rows

    def _cut(self, cutter: Cutter, data: memoryview) -> list[Row]:
        if self.hasher is not None:
            self.hasher.update(data)
        if self._body_hash is not None:
            self._body_hash.update(data)
        return _rows(cutter.feed(data))

    async def _loaded(self) -> Cutter:
        if self._cutter is None:
            cutter = Cutter(self._params, offset=self.tail_start)
            if self._tail.rows:
                held = self._engine.tails.take(self._upload.id, self._tail.rows)
                data = await self._read_tail() if held is None else held
                if await self._engine.workers.run(partial(cutter.feed, data)):
                    raise AssertionError(f"the tail of {self._upload.id} has a cut in it")
            self._cutter = cutter
        return self._cutter

    async def _read_tail(self) -> bytes:
        return b"".join([await self._read_twice(*row) for row in self._tail.rows])

    async def _read_twice(self, offset: int, size: int) -> bytes:
        """A block of the tail. It counts as lost only when a second look finds it so, too:
        the first may have met bad bytes on the way, or a row that was healed meanwhile."""
        try:
            return await self._read_block(offset, size)
        except (BlockDamaged, BlockMissing):
            pass
        try:
            return await self._read_block(offset, size)
        except (BlockDamaged, BlockMissing) as err:
            raise TailLost() from err

    async def _read_block(self, offset: int, size: int) -> bytes:
        look = partial(
            contents.refs_from,
            content_id=self._upload.building,
            offset=offset,
            end=offset + size,
            limit=1,
        )
        refs = await self._engine.db.read(look)
        if not refs or (refs[0].offset, refs[0].size) != (offset, size):
            raise BlockMissing()
        key = BlockKey(refs[0].domain, refs[0].hash, refs[0].generation)
        return bytes(await self._engine.reader.get_block(key, size))


def _rows(cuts: Sequence[Cut]) -> list[Row]:
    hashes = hash_blocks([cut.data for cut in cuts])
    return [Row(cut.offset, key, cut.data) for cut, key in zip(cuts, hashes, strict=True)]
