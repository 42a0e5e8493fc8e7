"""How columns, ids and times are said in the schema, and the database's clock."""

from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Number: Final = BigInteger().with_variant(Integer, "sqlite")
"""64 bits. SQLite's INTEGER is that wide, and only INTEGER makes a row id."""


class now_us(FunctionElement[int]):
    """The database's clock at the start of the statement: microseconds since the epoch."""

    inherit_cache = True
    type = BigInteger()


@compiles(now_us, "postgresql")
def _now_postgresql(element: now_us, compiler: SQLCompiler, **kw: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)"


@compiles(now_us, "sqlite")
def _now_sqlite(element: now_us, compiler: SQLCompiler, **kw: Any) -> str:
    return (
        "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
        " + CAST(substr(strftime('%f', 'now'), 4, 3) AS INTEGER) * 1000)"
    )


def one_of(column: str, words: type[StrEnum], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def id_(name: str = "id") -> Column[str]:
    return Column(name, String(40), primary_key=True)


def number() -> Column[int]:
    return Column("id", Number, primary_key=True, autoincrement=True)


def ref(name: str, target: str, *, null: bool = False, key: bool = False) -> Column[str]:
    """A foreign key that refuses the removal of what it names."""
    return Column(
        name,
        String(40),
        ForeignKey(target, ondelete="RESTRICT"),
        nullable=null,
        primary_key=key,
    )


def at_least_0(name: str) -> Column[int]:
    """A number that was added to a table later, so its CHECK is said with the column: SQLite
    can add nothing else."""
    return Column(
        name,
        BigInteger,
        CheckConstraint(f"{name} >= 0", name=name),
        nullable=False,
        server_default=text("0"),
    )


def time(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, server_default=None if null else now_us())


def table(name: str, *items: Any, **kw: Any) -> Table:
    return Table(name, metadata, *items, sqlite_autoincrement=_has_number(items), **kw)


def _has_number(items: tuple[Any, ...]) -> bool:
    return any(isinstance(item, Column) and item.autoincrement is True for item in items)
