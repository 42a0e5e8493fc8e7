"""The migrations make exactly the schema that the code speaks of, on both databases."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from filestore.errors import CannotStart
from filestore.meta.database import Tx, open_database
from filestore.meta.migrations import alembic_config
from filestore.meta.tables import metadata
from filestore.meta.triggers import TRIGGERS

Shape = dict[str, dict[str, Any]]


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that nobody has migrated."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/filestore.sqlite3"
    return str(request.getfixturevalue("postgres_url"))


async def test_nothing_is_left_to_migrate(empty_database: str) -> None:
    db = await open_database(empty_database)

    def compare(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": False}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    assert await db.read(lambda tx: tx.run_sync(compare)) == []
    await db.close()


async def test_checks_indexes_keys_and_defaults_are_those_of_the_tables(
    empty_database: str, tmp_path: Path
) -> None:
    db = await open_database(empty_database)
    migrated = await db.read(lambda tx: tx.run_sync(_shape))
    made = await _made_by_the_tables(db.is_sqlite, empty_database, tmp_path, migrated)

    assert migrated.keys() == made.keys()
    for table in made:
        assert migrated[table] == made[table], table
    await db.close()


async def test_that_comparison_notices_a_missing_index_or_check(
    empty_database: str, tmp_path: Path
) -> None:
    db = await open_database(empty_database)
    whole = await db.read(lambda tx: tx.run_sync(_shape))
    wounds = ["DROP INDEX uq_blocks_live"]
    wounds += [] if db.is_sqlite else ["ALTER TABLE uploads DROP CONSTRAINT ck_uploads_done"]
    for wound in wounds:
        await db.transact(lambda tx, wound=wound: tx.execute(sa.text(wound)))  # type: ignore[misc]
    assert await db.read(lambda tx: tx.run_sync(_shape)) != whole
    assert "uq_blocks_live" in repr(whole["blocks"])
    assert "ck_uploads_done" in repr(whole["uploads"])
    await db.close()


async def test_migrating_again_changes_nothing(empty_database: str) -> None:
    await (await open_database(empty_database)).close()
    db = await open_database(empty_database)
    revisions = await db.read(lambda tx: _revisions(tx))
    assert revisions == _newest()
    await db.close()


async def test_a_revision_of_a_newer_filestore_is_refused_and_left_alone(
    empty_database: str,
) -> None:
    db = await open_database(empty_database)
    await db.transact(lambda tx: tx.execute(sa.text("UPDATE alembic_version SET version_num='9'")))
    await db.close()

    with pytest.raises(CannotStart) as refused:
        await open_database(empty_database)

    assert "newer filestore" in str(refused.value)
    engine = create_async_engine(empty_database)
    async with engine.connect() as connection:
        assert await _revisions(connection) == ["9"]
    await engine.dispose()


@pytest.mark.needs("postgres")
async def test_several_processes_may_migrate_one_database_at_once(postgres_url: str) -> None:
    opened = await asyncio.gather(*(open_database(postgres_url) for _ in range(4)))
    assert await opened[0].read(lambda tx: _revisions(tx)) == _newest()
    assert len(await opened[3].read(lambda tx: tx.run_sync(_shape))) == len(metadata.tables)
    for db in opened:
        await db.close()


def _newest() -> list[str]:
    config = alembic_config(sa.create_engine("sqlite://").connect())
    return list(ScriptDirectory.from_config(config).get_heads())


async def _revisions(tx: Tx) -> list[str]:
    return list((await tx.execute(sa.text("SELECT version_num FROM alembic_version"))).scalars())


async def _made_by_the_tables(is_sqlite: bool, url: str, folder: Path, migrated: Shape) -> Shape:
    """The shape of a database that ``metadata`` made itself: beside the first, or in its place."""
    if is_sqlite:
        engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/made.sqlite3")
    else:
        engine = create_async_engine(
            url, execution_options={"schema_translate_map": {None: "made"}}
        )
    async with engine.begin() as connection:
        if not is_sqlite:
            await connection.execute(sa.text("CREATE SCHEMA made"))
            await connection.execute(sa.text("SET search_path TO made"))
        await connection.run_sync(metadata.create_all)
        for statement in TRIGGERS[connection.dialect.name]:
            await connection.execute(sa.text(statement))
        made = await connection.run_sync(_shape)
    await engine.dispose()
    return made


def _shape(connection: sa.Connection) -> Shape:
    """Per table what a database can say of itself, in one notation."""
    if connection.dialect.name == "sqlite":
        return _sqlite_shape(connection)
    return _postgres_shape(connection)


def _sqlite_shape(connection: sa.Connection) -> Shape:
    rows = connection.exec_driver_sql("SELECT type, tbl_name, name, sql FROM sqlite_master")
    shape: Shape = {}
    for kind, table, name, sql in rows:
        if table in metadata.tables and sql is not None:
            shape.setdefault(table, {})[f"{kind} {name}"] = _parts(sql)
    return shape


def _parts(sql: str) -> Any:
    """The statement without the order and the spacing of what stands between its brackets."""
    flat = re.sub(r"\s+", " ", sql.replace('"', "")).strip()
    flat = re.sub(r"\( | \)", lambda match: match[0].strip(), flat)
    if not flat.upper().startswith("CREATE TABLE"):
        return flat
    head, _, body = flat.partition("(")
    depth, part, parts = 0, "", []
    for sign in body[: body.rindex(")")]:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += sign
    return head.strip(), sorted([*parts, part.strip()])


def _postgres_shape(connection: sa.Connection) -> Shape:
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    shape: Shape = {table: {} for table in metadata.tables}
    for query in _POSTGRES_QUERIES:
        for table, name, definition in connection.exec_driver_sql(query, (schema,)):
            if table in shape:
                shape[table][name] = str(definition).replace(f"{schema}.", "")
    return shape


_POSTGRES_QUERIES = (
    """SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
       FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1""",
    "SELECT tablename, 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = $1",
    """SELECT table_name, 'column ' || column_name,
              concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default,
                        is_identity)
       FROM information_schema.columns WHERE table_schema = $1""",
    """SELECT c.relname, 'trigger ' || t.tgname, pg_get_triggerdef(t.oid)
       FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = $1 AND NOT t.tgisinternal""",
)
