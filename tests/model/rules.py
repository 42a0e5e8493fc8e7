"""The rules of the life cycle, as switches: a model with one of them off must fail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """All on is ``design.md``. The first sixteen are the rows of ``gc-safety`` section 8."""

    ids_never_reused: bool = True
    """Ids are never given again, and a change of a block names its generation."""
    content_lock_on_release: bool = True
    """Release takes the content FOR UPDATE, who adds a version takes it FOR SHARE."""
    second_statement_on_release: bool = True
    """Release looks for other versions in a statement of its own, behind the lock."""
    upload_row_locked_inside: bool = True
    """The transaction that records looks at state and epoch itself, under the row's lock."""
    fence_on_reservations: bool = True
    """So does the one that reserves another step for an upload of unknown length."""
    task_locked: bool = True
    """The collector locks the task before its block."""
    skip_locked_in_tx2: bool = True
    """The collector passes over locked blocks, also when it comes for the second time."""
    scan_uploading: bool = True
    """Rows that stay ``uploading`` are looked for and queued."""
    put_deadline_and_tombstone: bool = True
    """No PUT after the deadline; a row stays for a day, then DELETE is sent once more."""
    loser_queues_its_row: bool = True
    """Who was second to make a hash live queues the own row."""
    live_ordered_by_hash: bool = True
    """A batch makes its blocks live in the order of hashes."""
    live_and_pin_together: bool = True
    """Live and the reference to it are one transaction."""
    repoint_on_heal: bool = True
    """References move from a lost block to its live twin; a row never changes its key."""
    readers_resolve_again: bool = True
    """A reader whose block is gone asks again what lies at that offset."""
    lock_order: bool = True
    """Groups before entries, everywhere."""
    entry_lock_on_completion: bool = True
    """Completion takes the entry FOR UPDATE where it is not deleted."""

    pin_looks_under_lock: bool = True
    """A pin takes the block FOR SHARE and looks at its state then."""
    collector_looks_behind_lock: bool = True
    """The collector looks for references in a statement of its own, behind the lock."""
    queue_touches_tasks: bool = True
    """ON CONFLICT DO UPDATE: an event waits for who is about to delete the task."""
    queue_holds_block: bool = True
    """Who queues a block also has it FOR KEY SHARE, so that a collector passes it over."""
    expiry_is_committed: bool = True
    """An upload expires by a change of its state, not by a clock in the collector."""
    groups_before_queue: bool = True
    """A take-over reserves for a length declared with it before it queues what was staged."""
    contents_by_id: bool = True
    """Who takes several contents takes them in the order of their ids, copies too."""
    losers_by_hash: bool = True
    """A row that lost is given up in its place among the hashes: other batches share it."""
    heal_takes_rows_first: bool = True
    """Repointing locks the references, then queues the lost block, then pins the target."""

    parts_locked_when_taken: bool = True
    """Who begins a final upload looks at its parts under the locks of their rows."""
    parts_by_id: bool = True
    """And takes these in the order of their ids, however the client named them."""
    only_whole_parts: bool = True
    """And takes only what has all its bytes, which nobody appends to any more."""
    taken_in_one_transaction: bool = True
    """What the parts reserved passes to the final upload in the transaction that begins it."""
    final_fenced: bool = True
    """A batch, and what completes, looks at state and epoch under the final upload's lock."""
    sources_held: bool = True
    """A batch holds the contents that it copies from, FOR SHARE where they are building."""
    copied_blocks_pinned: bool = True
    """And pins the blocks as any other writer, though its sources refer to them."""
    twins_pinned: bool = True
    """And of a lost block the live twin, which nothing that it copies from refers to."""
    parts_locked_when_given_back: bool = True
    """A final upload that ends gives back under the parts' locks, and only to what is open."""
    ended_finals_give_back: bool = True
    """What its parts hold in the store is reserved again: by the parts."""
    parts_before_groups: bool = True
    """It takes the parts before the group, as who begins one does."""
