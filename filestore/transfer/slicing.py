"""The second stage's work: from the bytes of a stream to rows, across requests.

Everything here that touches many bytes runs on a worker thread, one hop a buffer.

A tail that was let go of in the middle of a request stays in the store until it would have
doubled: what comes meanwhile is only gathered, and a flush adds it to the tail's rows. So a
client that brings little while memory is short does not have its tail read again and again.
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
        self._loose = bytearray()  # came while the tail was away, and follows it
        self._scan_at = 0  # size of the tail from which it may have a cut that is not known
        self.position = upload.offset
        self.hasher = engine.digests.at(upload.id, upload.offset)
        if upload.offset == 0:
            self.hasher = FileHasher(with_sha256=upload.expected.sha256 is not None)
        self._body_hash = None if body_algorithm is None else ALGORITHMS[body_algorithm]()

    @property
    def held_size(self) -> int:
        """Bytes behind the last cut that are in memory."""
        return len(self._loose) + (0 if self._cutter is None else self._cutter.pending_size)

    @property
    def unloaded_size(self) -> int:
        """Bytes that are read back into memory before the next ones can be cut."""
        return 0 if self._cutter is not None else sum(size for _, size in self._tail.rows)

    def room_at(self, position: int) -> int | None:
        """How many bytes from ``position`` on are only gathered; None: the tail is in memory.

        Under a checksum none are: what is acknowledged and what is staged do not share rows.
        """
        if not self.unloaded_size:
            return None
        return 0 if self._body_hash is not None else self.tail_start + self._scan_at - position

    def has_to_load(self, size: int) -> bool:
        """Whether the tail, with ``size`` bytes more, could have a block that is too large."""
        whole = self.unloaded_size + len(self._loose) + size
        return bool(self.unloaded_size) and whole > self._params.max_size

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

    async def load(self) -> list[Row]:
        """Reads the tail back. Rows that supersede it if there are cuts in it: up to its end,
        the last of them provisional again.

        :raises TailLost: it cannot be read back.
        """
        if self._cutter is not None:
            return []
        cutter = Cutter(self._params, offset=self.tail_start)
        rows: list[Row] = []
        held = self._engine.tails.take(self._upload.id, self._tail.rows)
        for row in self._tail.rows if held is None else ():
            data = await self._read_twice(*row)
            rows += await self._engine.workers.run(partial(_fed, cutter, data))
        if held is not None:
            rows += await self._engine.workers.run(partial(_fed, cutter, held))
        cuts, pending = await self._engine.workers.run(cutter.take_pending)
        rows += await self._engine.workers.run(lambda: _rows(cuts))
        if rows:
            self._tail.rows = []
            rows += self._tail.extend(cutter.pending_offset, pending)
        self._cutter = cutter
        return rows

    async def take(self, data: memoryview) -> list[Row]:
        """The rows that these bytes make final; they refer to them. None while the tail is away:
        then the bytes are gathered."""
        if self.unloaded_size:
            await self._engine.workers.run(partial(self._note, data))
            self._loose += data
            self.position += len(data)
            return []
        rows = await self._engine.workers.run(partial(self._cut, self._loaded(), data))
        self.position += len(data)
        return self._settled(rows)

    async def finish(self) -> list[Row]:
        """The last rows of the file: its end is the end of the last block. The tail is loaded."""
        cutter = self._loaded()

        def work() -> list[Row]:
            return _rows(self._joined(cutter) + cutter.finish())

        return self._settled(await self._engine.workers.run(work))

    async def flush(self) -> tuple[list[Row], int, bytes]:
        """Rows that save what is held: final ones, then a provisional one for the rest.

        Also gives where the rest begins, and the rest: it stays held. Of a tail that is away,
        only what the new row replaces is read back, which is nothing most of the time.
        """
        if self._cutter is None:
            return await self._flush_loose(), self.position, b""
        cutter = self._cutter
        joined = await self._engine.workers.run(partial(self._joined, cutter))
        cuts, pending = await self._engine.workers.run(cutter.take_pending)
        rows = self._settled(await self._engine.workers.run(lambda: _rows(joined + cuts)))
        extend = partial(self._tail.extend, cutter.pending_offset, pending)
        return rows + await self._engine.workers.run(extend), cutter.pending_offset, pending

    def drop(self) -> None:
        """Lets go of what is held; it was flushed, and is read back when it could have doubled."""
        if self._cutter is not None:
            doubled = max(2 * self._cutter.pending_size, self._params.min_size)
            self._scan_at = min(doubled, self._params.max_size)
            self._cutter = None

    async def _flush_loose(self) -> list[Row]:
        data, self._loose = self._loose, bytearray()
        if not data:
            return []
        rows = self._tail.rows
        begin = self._tail.make_room(self.position - len(data), self.position)
        parts = [await self._read_twice(*row) for row in rows if row[0] >= begin]
        whole = memoryview(b"".join([*parts, data]))
        return await self._engine.workers.run(partial(self._tail.add, begin, whole))

    def _settled(self, rows: list[Row]) -> list[Row]:
        if rows:
            self._tail.cut_at(rows[-1].end)
        return rows

    def _cut(self, cutter: Cutter, data: memoryview) -> list[Row]:
        self._note(data)
        return _rows(self._joined(cutter) + cutter.feed(data))

    def _note(self, data: memoryview) -> None:
        if self.hasher is not None:
            self.hasher.update(data)
        if self._body_hash is not None:
            self._body_hash.update(data)

    def _joined(self, cutter: Cutter) -> list[Cut]:
        """What was gathered goes to the cutter; the cuts that it makes final."""
        loose, self._loose = self._loose, bytearray()
        return cutter.feed(loose) if loose else []

    def _loaded(self) -> Cutter:
        if self._cutter is None:
            assert not self._tail.rows, "the tail was not read back"
            self._cutter = Cutter(self._params, offset=self.position)
        return self._cutter

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


def _fed(cutter: Cutter, data: bytes) -> list[Row]:
    return _rows(cutter.feed(data))


def _rows(cuts: Sequence[Cut]) -> list[Row]:
    hashes = hash_blocks([cut.data for cut in cuts])
    return [Row(cut.offset, key, cut.data) for cut, key in zip(cuts, hashes, strict=True)]
