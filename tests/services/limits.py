"""A guard in the test's database: whatever grows a group beyond a limit in force is refused there.

It knows nothing of how the service decides. A limit below what is held already is no offence, and
neither is taking less of it; growing is. So if no act ever fails on it, no reservation was ever
committed beyond the limit that was in force at that moment, for the limit is of the same row.
"""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.quota.auditing import audit_account
from tests.services.hot_path import GROUP, Process

_RULES: Final = {
    "groups_bytes": ("groups", "used", "reserved", "quota_limit"),
    "groups_files": ("groups", "files", "reserved_files", "files_limit"),
    "members_bytes": ("member_accounts", "used", "reserved", "share_limit"),
}

_FUNCTION: Final = """
CREATE FUNCTION test_overshoot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'overshoot in %', TG_TABLE_NAME;
END $$
"""


async def guard_limits(tx: Tx) -> None:
    """From now on a transaction that goes beyond a limit fails, with ``overshoot`` in its error."""
    is_sqlite = tx.dialect.name == "sqlite"
    if not is_sqlite:
        await tx.execute(sa.text(_FUNCTION))
    for name, (table, one, other, limit) in _RULES.items():
        when = (
            f"NEW.{one} + NEW.{other} > OLD.{one} + OLD.{other}"
            f" AND NEW.{one} + NEW.{other} > NEW.{limit}"
        )
        trigger = f"CREATE TRIGGER test_{name} BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when})"
        act = (
            "BEGIN SELECT RAISE(ABORT, 'overshoot'); END"
            if is_sqlite
            else "EXECUTE FUNCTION test_overshoot()"
        )
        await tx.execute(sa.text(f"{trigger} {act}"))


async def check_audit(process: Process, accounts: Sequence[str] = (GROUP,)) -> None:
    """The audit of the service finds no difference in these accounts."""
    for account in accounts:
        found = await audit_account(process.db, account)
        assert found is not None
        assert (found.differences, found.notes) == ((), ()), found
