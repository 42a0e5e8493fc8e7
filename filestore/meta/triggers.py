"""What is only ever added to: rules that both databases enforce by triggers. And what SQLite
does with an event, where PostgreSQL takes it in one statement (``meta.log``).

They stop a slip and a statement by hand. Who owns the database can drop a trigger: that the seals
of the journal show (``quota.sealing``).
"""

from collections.abc import Mapping
from typing import Final

APPEND_ONLY: Final = ("quota_journal", "journal_seals", "audit_log")
"""Tables whose rows never go and never change, but for ``journal_seals.marked_at``."""

_SEALED: Final = "group_id, last_seq, first_seq, at, previous, head"

_REFUSE: Final = """
CREATE FUNCTION filestore_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""

_FOLLOW: Final = """
CREATE FUNCTION filestore_journal_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq > 1 AND NOT EXISTS (
        SELECT 1 FROM quota_journal WHERE group_id = NEW.group_id AND seq = NEW.seq - 1
    ) THEN
        RAISE EXCEPTION 'quota_journal: % of % does not follow', NEW.seq, NEW.group_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""


_FAN_OUT: Final = """
CREATE TRIGGER events_fan_out AFTER INSERT ON events WHEN NEW.kind <> 'webhook.ping'
BEGIN
    INSERT INTO webhook_deliveries (webhook_id, event_id, state)
    SELECT id, NEW.id, 'waiting' FROM webhooks
    WHERE disabled_at IS NULL AND (group_id IS NULL OR group_id = NEW.group_id)
    AND (instr(kinds, '"' || NEW.kind || '"') > 0 OR kinds = '["*"]');
END
"""
"""A statement of its own would cost each act another hop to SQLite's thread, 0.2 ms."""


def _changes(table: str) -> str:
    return f"UPDATE OF {_SEALED}" if table == "journal_seals" else "UPDATE"


def _postgresql() -> list[str]:
    statements = [_REFUSE, _FOLLOW]
    for table in APPEND_ONLY:
        for name, event, each in (
            ("update", _changes(table), "ROW"),
            ("delete", "DELETE", "ROW"),
            ("truncate", "TRUNCATE", "STATEMENT"),
        ):
            statements.append(
                f"CREATE TRIGGER {table}_no_{name} BEFORE {event} ON {table}"
                f" FOR EACH {each} EXECUTE FUNCTION filestore_append_only()"
            )
    statements.append(
        "CREATE TRIGGER quota_journal_follows BEFORE INSERT ON quota_journal"
        " FOR EACH ROW EXECUTE FUNCTION filestore_journal_follows()"
    )
    return statements


def _sqlite() -> list[str]:
    statements = [_FAN_OUT]
    for table in APPEND_ONLY:
        for name, event in (("update", _changes(table)), ("delete", "DELETE")):
            statements.append(
                f"CREATE TRIGGER {table}_no_{name} BEFORE {event} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    statements.append(
        "CREATE TRIGGER quota_journal_follows BEFORE INSERT ON quota_journal"
        " WHEN NEW.seq > 1 AND NOT EXISTS (SELECT 1 FROM quota_journal"
        " WHERE group_id = NEW.group_id AND seq = NEW.seq - 1)"
        " BEGIN SELECT RAISE(ABORT, 'quota_journal: seq does not follow'); END"
    )
    return statements


TRIGGERS: Final[Mapping[str, list[str]]] = {"postgresql": _postgresql(), "sqlite": _sqlite()}
"""Per dialect the statements that make them, as revision 0004 first did."""
