"""What every upload of a process shares, and how it is tuned."""

from dataclasses import dataclass

from filestore.acts.uploads import Limits
from filestore.blocks.verified import VerifiedReader
from filestore.meta.database import Database
from filestore.transfer.budget import MemoryBudget
from filestore.transfer.buffers import Buffers
from filestore.transfer.digests import DigestKeeper
from filestore.transfer.egress import Egress
from filestore.transfer.placing import Placer
from filestore.transfer.recording import Recorder
from filestore.transfer.tail import TailCache
from filestore.transfer.workers import Workers


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes in bytes, times in seconds."""

    buffer_min: int
    buffer_max: int
    batches_in_flight: int
    verify_wait_s: float
    lock_wait_s: float


@dataclass(frozen=True, slots=True)
class Engine:
    """Made once by the composition root."""

    db: Database
    process_id: str
    workers: Workers
    budget: MemoryBudget
    buffers: Buffers
    placer: Placer
    recorder: Recorder
    reader: VerifiedReader
    egress: Egress
    hashing: Egress
    digests: DigestKeeper
    tails: TailCache
    limits: Limits
    tuning: Tuning
