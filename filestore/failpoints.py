"""Named points at which a test lets a process die, as ``kill -9`` at that moment would.

There is one at each row of the design's table of crashes. Nothing happens there unless a test
has armed one with the variable :data:`VARIABLE`; then the service says so at its start, as an
error in the log, and at each point that it reaches.
"""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Final

import structlog

from filestore.errors import BadSetting

VARIABLE: Final = "FILESTORE_FAILPOINT"
"""``name:n`` ends the process at the n-th time that it reaches this point, ``*:n`` at the n-th
point that it reaches at all, ``*:0`` nowhere: it only says what it reaches."""

ANY: Final = "*"

POINTS: Final[Mapping[str, str]] = {
    "upload.created": "an upload that its creator does not know",
    "upload.taken-over": "an upload held by a dead process",
    "place.rows": "uploading rows without objects",
    "disk.written": "a temporary file, perhaps not durable",
    "disk.synced": "a temporary file",
    "disk.renamed": "an uploading row and its object, perhaps not durable",
    "disk.durable": "an uploading row and its object",
    "place.object": "an uploading row and its object, which a store has acknowledged",
    "record.pinned": "nothing: the transaction is not committed",
    "record.committed": "a batch that was not answered",
    "heal.revived": "a block that is live again, and lost twins that it heals",
    "scrub.checked": "blocks whose check is recorded, and bad ones that are still live",
    "heal.lost": "a lost block, of which the run's report does not tell",
    "repair.corrected": "a row that says what its object is",
    "repair.adopted": "an adopted block, and lost ones that it heals",
    "repair.released": "a content that nobody wants, with its references",
    "repair.queued": "blocks that nothing refers to, queued",
    "disk.moved": "an object set aside, perhaps not durably",
    "s3.copied": "an object in its place and set aside",
    "repair.set-aside": "an object set aside, and older ones that are still there",
    "repair.emptied": "a day of the quarantine in part removed",
    "repair.joined": "a store one epoch behind its database",
    "repair.marked": "nothing: both have the new epoch",
    "repair.done": "a repair of which the audit log has no sum",
    "heal.begun": "a lost block and its live twin",
    "heal.repointed": "references in part repointed from a lost block to its twin",
    "concat.begun": "a final upload with the reservations of its parts and without bytes",
    "concat.copied": "a final upload that refers to a part of its bytes",
    "complete.committed": "a file whose upload was not answered",
    "hook.sent": "a delivery that arrived and is not recorded; it is sent again",
    "upload.terminated": "an upload that ended and was not answered",
    "file.deleted": "a file that is gone or in the trash, which was not answered",
    "seal.committed": "a seal without a mark",
    "seal.marked": "a mark of a seal that is not noted as marked",
    "reap.expired": "an expired upload with its references",
    "reap.purged": "contents without versions",
    "reap.pruned": "contents without versions",
    "reap.temporary": "contents without versions",
    "reap.released": "queued blocks, and a content in part released",
    "reap.unfinished": "condemned blocks of a dead writer, queued",
    "epoch.raised": "a store one epoch behind its database",
    "epoch.marked": "nothing: both have the new epoch",
    "collect.dropped": "nothing: a block in use is no longer queued",
    "collect.condemned": "condemned blocks; writers store them anew",
    "collect.doomed": "deleting rows with their objects",
    "disk.unlinked": "deleting rows without objects, perhaps not durably",
    "collect.removed": "deleting rows without objects",
    "collect.settled": "nothing but tombstones: rows whose objects are gone",
}
"""What each leaves when the process dies there, in the order of a file's life."""

_log: Final = structlog.get_logger("filestore.failpoints")


class _Armed:
    """One point, or any, and how often it may be reached. Points are reached in many threads."""

    def __init__(self, name: str, at: int) -> None:
        self._name = name
        self._at = at
        self._count = 0
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        with self._lock:  # nobody goes on beside the one that dies
            is_meant = self._name in (ANY, name)
            self._count += is_meant
            _log.warning("failpoint.reached", point=name)
            if is_meant and self._count == self._at:
                _log.error("failpoint.dying", point=name, count=self._count)
                os.kill(os.getpid(), signal.SIGKILL)


_armed: _Armed | None = None


def reached(name: str) -> None:
    """The end of the process if ``name`` was armed for this moment; else some 50 ns."""
    if _armed is not None:
        _armed.reach(name)


def arm(text: str) -> None:
    """Arms what the variable says, in this process and for good; nothing when it is empty.

    :raises BadSetting: it names no point, or no number.
    """
    global _armed
    if not text:
        return
    name, _, number = text.rpartition(":")
    if name != ANY and name not in POINTS or not (number.isascii() and number.isdigit()):
        reason = f"it must be {ANY}:N or NAME:N with one of {', '.join(POINTS)}"
        raise BadSetting(setting=VARIABLE, source=f"environment {VARIABLE}", reason=reason)
    _armed = _Armed(name, int(number))
    _log.error("failpoint.armed", point=name, at=int(number), this_process="will kill itself")
