"""Building a final upload: its content refers to the blocks of its parts. No byte moves.

References are copied in short transactions, each under the upload's fence, and the offset moves
with them. So a process that dies leaves an open upload that the same request goes on with, nobody
is kept waiting by a file of a million blocks, and until the last transaction there is no file.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Final

from filestore.acts.concatenating import part_ended, parts_of
from filestore.acts.uploads import Guard
from filestore.errors import BadHeader, TailLost
from filestore.failpoints import reached
from filestore.meta import uploads
from filestore.meta.concatenating import Place, SourceGone, SourceLost, copy_rows
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Actor
from filestore.transfer.committing import Committer
from filestore.transfer.engine import Engine
from filestore.transfer.placing import Placement

BATCH: Final = 1000
"""References that one transaction copies. Their blocks are locked FOR SHARE for so long, which
keeps only the collector away, and it goes on with others."""

PARTS: Final = 200
"""Parts that one transaction looks at; small ones are copied together."""


class Concatenation:
    """Builds one final upload that the caller holds under its epoch.

    ``parts`` are the ids of its partial uploads, in order and as often as they are named.
    """

    def __init__(
        self,
        engine: Engine,
        actor: Actor,
        upload: Upload,
        parts: Sequence[str],
        *,
        guard: Guard | None = None,
    ) -> None:
        self._engine = engine
        self._upload = upload
        self._parts = parts
        self._committer = Committer(
            engine, actor, replace(upload, offset=upload.length or 0), is_staged=False, guard=guard
        )
        self._is_asked = False
        self.offset = upload.offset
        self.is_done = False

    def __repr__(self) -> str:
        return f"<Concatenation of {self._upload.id}: {self.offset} of {self._upload.length}>"

    def leave(self) -> None:
        """Asks to stop behind the transaction under way. Returns at once."""
        self._is_asked = True

    async def run(self) -> None:
        """Copies what is missing and completes the upload, or stops early because it was asked.

        :raises BadHeader: a part ended meanwhile; the upload has failed.
        :raises TailLost: a block of a part is lost; the upload has failed.
        :raises DigestMismatch: the file is not what was expected; the upload has failed.
        :raises Verifying: repeat; all is copied, and the digest is still being computed.
        :raises UploadTakenOver: fenced; another request goes on with it.
        """
        try:
            await self._copy_all()
        except TailLost:
            await self._committer.fail("tail-lost")
            raise
        except BadHeader:
            await self._committer.fail("part-ended")
            raise
        if self._is_asked:
            return
        nothing = Placement(str(self._upload.domain_id), {})
        await self._committer.finish([], nothing, self.offset, None)
        self.is_done = True

    async def _copy_all(self) -> None:
        listed = await self._engine.db.read(partial(parts_of, parts=self._parts))
        ends = accumulate(size for _, size in listed)
        placed = zip(listed, ends, strict=True)
        places = [Place(content_id, end - size, end) for (content_id, size), end in placed if size]
        while self.offset < self._committer.offset and not self._is_asked:
            left = [place for place in places if place.end > self.offset]
            try:
                self.offset = await self._engine.db.transact(partial(self._copy, left[:PARTS]))
            except SourceGone as err:
                raise part_ended(self._part_at(listed, err.content_id)) from err
            except SourceLost as err:
                raise TailLost() from err
            reached("concat.copied")

    async def _copy(self, places: Sequence[Place], tx: Tx) -> int:
        """One batch; the offset behind it."""
        upload = await uploads.fence(tx, self._upload.id, self._upload.epoch)
        offset = await copy_rows(tx, upload.building, places, offset=upload.offset, limit=BATCH)
        slid = uploads.slid_expiry(self._engine.limits.expire_s)
        await uploads.change(tx, upload, {"byte_offset": offset, "expires_at": slid})
        return offset

    def _part_at(self, listed: Sequence[tuple[int, int]], content_id: int) -> str:
        return next(
            part for part, (of, _) in zip(self._parts, listed, strict=True) if of == content_id
        )
