"""What removes: the reaper of dead uploads, the collector of blocks, fsck and scrub.

Uploads and collection run at the same time. A block goes only after a transaction that held
its row, looked for references in a statement of its own, and found none; time decides when a
block goes, never whether it may. Nothing else in the service is handed the power to remove
objects.
"""

from filestore_gc.collector import Collector, Tuning, make_collector, running_collector
from filestore_gc.report import Line, Problem, Reaped, Report, Result, Wait

__all__ = [
    "Collector",
    "Line",
    "Problem",
    "Reaped",
    "Report",
    "Result",
    "Tuning",
    "Wait",
    "make_collector",
    "running_collector",
]
