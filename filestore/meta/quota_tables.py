"""The schema of the books: the journal, its seals, and what each member of a group takes."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)

from filestore.meta.columns import at_least_0, ref, table, time


def _moved(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


quota_journal = table(
    "quota_journal",
    Column("group_id", String(40), ForeignKey("groups.id", ondelete="RESTRICT"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    time("at"),
    Column("actor_id", String(40)),
    Column("cause", String(16), nullable=False),
    Column("ref", Text),
    Column("member_id", String(40)),
    Column("entry_id", String(40)),
    Column("path", Text),
    Column("mime", Text),
    Column("delta_used", BigInteger, nullable=False),
    Column("delta_reserved", BigInteger, nullable=False),
    _moved("delta_files"),
    _moved("delta_reserved_files"),
    Column("used_after", BigInteger, nullable=False),
    Column("reserved_after", BigInteger, nullable=False),
    _moved("files_after"),
    _moved("reserved_files_after"),
    CheckConstraint("seq >= 1", name="seq"),
    CheckConstraint("used_after >= 0", name="used_after"),
    CheckConstraint("reserved_after >= 0", name="reserved_after"),
    CheckConstraint("files_after >= 0", name="files_after"),
    CheckConstraint("reserved_files_after >= 0", name="reserved_files_after"),
    CheckConstraint(
        "delta_used <> 0 OR delta_reserved <> 0 OR delta_files <> 0 OR delta_reserved_files <> 0",
        name="moves",
    ),
    Index("ix_quota_journal_at", "group_id", "at"),
)
"""Every change of a group's counters, for good: triggers refuse to change or remove a row, and
one whose ``seq`` does not follow. ``actor_id`` did it; ``member_id`` is whose bytes they are: the
author of the version, the user of the upload. ``ref`` is the upload, else the version. ``path``,
``mime``: those of the file at that moment. No foreign keys but to the group: the journal outlives
what it speaks of."""

journal_seals = table(
    "journal_seals",
    Column("group_id", String(40), ForeignKey("groups.id", ondelete="RESTRICT"), primary_key=True),
    Column("last_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    time("at"),
    Column("previous", LargeBinary(32), nullable=False),
    Column("head", LargeBinary(32), nullable=False),
    time("marked_at", null=True),
    UniqueConstraint("group_id", "first_seq"),
    CheckConstraint("first_seq >= 1 AND last_seq >= first_seq", name="span"),
    CheckConstraint("length(previous) = 32", name="previous"),
    CheckConstraint("length(head) = 32", name="head"),
    Index(
        "ix_journal_seals_unmarked",
        "at",
        postgresql_where=text("marked_at IS NULL"),
        sqlite_where=text("marked_at IS NULL"),
    ),
)
"""A chain per group: ``head`` is a hash over ``previous`` and the rows first_seq to last_seq. No
two begin at the same row, so of two sealers at once one is refused.
``marked_at``: when the head was put outside of the database. Nothing else of a row changes."""

member_accounts = table(
    "member_accounts",
    ref("group_id", "groups.id", key=True),
    ref("user_id", "users.id", key=True),
    at_least_0("used"),
    at_least_0("reserved"),
    Column("share_limit", BigInteger, CheckConstraint("share_limit >= 0", name="share_limit")),
    Index("ix_member_accounts_user_id", "user_id"),
)
"""What a user's versions and running uploads take of a group's counters. ``share_limit``: what
they may take; null: all that the group has. The row outlives the membership, as the files do."""
