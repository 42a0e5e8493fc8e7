"""The state machine's acts on partial uploads and the final ones that are made of them.

Parts are begun, filled and ended by the rules for all uploads; here they are put together, by
processes that die between any two batches, and what was begun is gone on with, whatever has
become of its parts.
"""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from filestore.errors import BadHeader, DigestMismatch
from filestore.model import Actor
from tests.model.machine import (
    GUEST,
    OTHER,
    PIECES,
    Service,
    groups_,
    materials,
    names,
    picks,
    sides,
)
from tests.model.reference import Refusal, Running
from tests.services.hot_path import ACTOR, GROUP

actors = st.sampled_from([ACTOR, GUEST])
commits = st.sampled_from([*[0] * 6, *range(1, 9)])
"""At which one the process dies; 0: it does not."""
dooms = st.sampled_from([False] * 5 + [True])


class Concatenating(Service):
    """All that the service does, with uploads in parts."""

    def __init__(self) -> None:
        super().__init__()
        self._keys = 0

    @initialize()
    def open(self) -> None:
        """Somebody has uploaded parts already, and nothing is made of them."""
        super().open()
        for group in (GROUP, OTHER):
            self._upload_parts(0, group, [PIECES[3] + PIECES[1], PIECES[4]], GUEST)

    @rule(side=sides, group=groups_, data=materials, is_known=st.booleans(), actor=actors)
    def begin_part(self, side: int, group: str, data: bytes, is_known: bool, actor: Actor) -> None:
        wish = Running(group, "part", data, is_known, user=str(actor.user_id), is_part=True)
        upload = self.expect(self.model.begin(wish), self.house.begin(side, wish, actor))
        if upload is not None:
            self.model.begun(upload.id, wish)

    @rule(side=sides, group=groups_, pieces=st.lists(materials, min_size=1, max_size=3),
          actor=actors, onto=names, left=commits, is_late=st.booleans())  # fmt: skip
    def upload_in_parts(
        self,
        side: int,
        group: str,
        pieces: list[bytes],
        actor: Actor,
        onto: str,
        left: int,
        is_late: bool,
    ) -> None:
        """A whole file, as clients do that send several streams at a time."""
        parts = self._upload_parts(side, group, pieces, actor)
        if parts:
            self._concatenate(side, self._wish(parts, onto), left, is_late=is_late)

    @precondition(lambda self: self.parts)
    @rule(side=sides, chosen=st.lists(picks, min_size=1, max_size=4), is_mixed=st.integers(0, 5),
          onto=names, left=commits, is_late=st.booleans(), is_doomed=dooms)  # fmt: skip
    def concatenate(
        self,
        side: int,
        chosen: list[int],
        is_mixed: int,
        onto: str,
        left: int,
        is_late: bool,
        is_doomed: bool,
    ) -> None:
        """Some parts, in any order, also those of a file already; seldom ones that cannot be."""
        known = self.parts
        if is_mixed:
            first = self.model.running[known[chosen[0] % len(known)]]
            known = [part for part in known if self._goes_with(part, first)] or known
        else:
            known = [*known, *self.model.running, *self.model.over[-1:]]
        parts = [known[pick % len(known)] for pick in chosen]
        wish = replace(self._wish(parts, onto), is_doomed=is_doomed)
        self._concatenate(side, wish, left, is_late=is_late)

    @precondition(lambda self: self.unfinished)
    @rule(side=sides, pick=picks, left=commits, is_late=st.booleans())
    def go_on_with_a_final(self, side: int, pick: int, left: int, is_late: bool) -> None:
        """The client repeats what was not answered."""
        upload_id = self.unfinished[pick % len(self.unfinished)]
        wish = self.model.running[upload_id]
        if wish.is_due:
            self.model.fail(upload_id)
            again = replace(wish, is_due=False, offset=0, reserved=0, epoch=0)
            self._concatenate(side, again, left, is_late=is_late)
        elif left and not self._holds(side):
            work = self.house.concatenate(side, wish)
            self.run(self.house.die_in(side, work, left=left, late=is_late))
            self._see(upload_id)
        else:
            self._go_on(side, upload_id, wish)

    @precondition(lambda self: self.model.made)
    @rule(side=sides, pick=picks)
    def forget_a_final(self, side: int, pick: int) -> None:
        """Its upload is terminated when it is done: the file stays, and what holds for it."""
        upload_id = sorted(self.model.made)[pick % len(self.model.made)]
        if upload_id not in self.model.over:
            self.run(self.process(side).hot.transfers.terminate(ACTOR, upload_id))
            self.model.over.insert(0, upload_id)

    @property
    def parts(self) -> list[str]:
        """Partial uploads that are open; most of them are whole."""
        return [key for key, upload in self.model.running.items() if upload.is_part]

    @property
    def unfinished(self) -> list[str]:
        """Final uploads whose process died."""
        return [key for key, upload in self.model.running.items() if upload.parts]

    def _upload_parts(self, side: int, group: str, pieces: list[bytes], actor: Actor) -> list[str]:
        """Those for which there was room; whole."""
        before = set(self.model.running)
        for data in pieces:
            self.begin_part(side, group, data, True, actor)
        parts = [part for part in self.model.running if part not in before]
        for part in parts:
            data = self.model.running[part].data
            self.model.append(part, len(data), offset=0)
            self.run(self.process(self.writer(side)).append(part, 0, data))
        return parts

    def _wish(self, parts: list[str], name: str) -> Running:
        self._keys += 1
        known = [part for part in parts if part in self.model.running]
        data = b"".join(self.model.running[part].data for part in known)
        first = self.model.running[known[0]] if known else Running(GROUP, "", b"", True)
        user = first.user or str(ACTOR.user_id)
        key = f"{self._keys}"
        return Running(first.group, name, data, True, user=user, parts=tuple(parts), key=key)

    def _goes_with(self, part: str, first: Running) -> bool:
        upload = self.model.running[part]
        is_same = (upload.group, upload.user) == (first.group, first.user)
        return is_same and upload.is_whole_part and not upload.is_due

    def _holds(self, side: int) -> bool:
        return self.held is not None and self.held[0] == side

    def _concatenate(self, side: int, wish: Running, left: int, *, is_late: bool) -> None:
        refusal = self.model.concatenate(wish)
        work = self.house.concatenate(side, wish)
        if left and not self._holds(side):
            self.is_seen = False
            self.run(self.house.die_in(side, work, left=left, late=is_late))
        else:
            self.expect(DigestMismatch if wish.is_doomed and refusal is None else refusal, work)
        found = self.run(self.house.begun_as(wish.key, self.model.finals))
        assert found is None or refusal is None, "it must not have begun"
        assert found is not None or refusal is not None or left, "it must have begun"
        if found is not None:
            self.model.concatenating(found.id, wish)
            self._see(found.id)
            assert left or found.state != "open"

    def _go_on(self, side: int, upload_id: str, wish: Running) -> None:
        """It is done, unless a part has ended; also then when its bytes were there already."""
        are_there = all(part in self.model.running for part in wish.parts)
        refusal: Refusal = DigestMismatch if wish.is_doomed else None
        work = self.house.concatenate(side, wish)
        if are_there:
            self.expect(refusal, work)
        else:
            try:
                self.run(work)
            except (BadHeader, DigestMismatch):
                self.is_sound = True
        self._see(upload_id)
        assert upload_id not in self.model.running

    def _see(self, upload_id: str) -> None:
        """What has become of a final upload, and how far it is."""
        found = self.run(self.house.ground.look(upload_id))
        upload = self.model.running[upload_id]
        assert upload.offset <= found.offset <= len(upload.data)
        if found.state == "done":
            assert not upload.is_doomed
            self.model.reached(upload_id, len(upload.data))
        elif found.state == "open":
            upload.offset = found.offset
        else:
            has_lost = any(part not in self.model.running for part in upload.parts)
            assert found.state == "failed" and (upload.is_doomed or has_lost), found
            self.model.fail(upload_id)
