"""What removes: the reaper of dead uploads, the collector of blocks, fsck and scrub.

Uploads and collection run at the same time. A block goes only after a transaction that held
its row, looked for references in a statement of its own, and found none; time decides when a
block goes, never whether it may. Nothing else in the service is handed the power to remove
objects.
"""

from filestore_gc.collector import Collector, Tuning, make_collector, running_collector
from filestore_gc.doubt import Doubt
from filestore_gc.freeable import FreeableReport, show_freeable, show_trashed
from filestore_gc.fsck_run import FsckRun, run_fsck
from filestore_gc.heal import DamagedPage, list_damaged
from filestore_gc.progress import Progress
from filestore_gc.report import Line, Problem, Reaped, Report, Result, Wait
from filestore_gc.scrub import ScrubReport, run_scrub
from filestore_gc.scrubbing import Scrubber, running_scrubber

__all__ = [
    "Collector",
    "DamagedPage",
    "Doubt",
    "FreeableReport",
    "FsckRun",
    "Line",
    "Problem",
    "Progress",
    "Reaped",
    "Report",
    "Result",
    "ScrubReport",
    "Scrubber",
    "Tuning",
    "Wait",
    "list_damaged",
    "make_collector",
    "run_fsck",
    "run_scrub",
    "running_collector",
    "running_scrubber",
    "show_freeable",
    "show_trashed",
]
