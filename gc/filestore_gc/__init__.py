"""What removes: the reaper of dead uploads, the collector of blocks, fsck and scrub.

Uploads and collection run at the same time. A block goes only after a transaction that held
its row, looked for references in a statement of its own, and found none; time decides when a
block goes, never whether it may. Nothing else in the service is handed the power to remove
objects.
"""
