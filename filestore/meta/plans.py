"""Conditions that are said so that both databases run them as they are meant.

:class:`among` asks for many rows at once. ``IN`` with a parameter for each of 100 ids is put
together, parsed and planned anew each time, under the locks that the transaction holds already:
some milliseconds a statement, more than running it takes. Here all are one parameter.

:class:`unindexed` keeps SQLite from an index. It has no statistics, and takes a range of ids,
or their order, for better than a partial index that has next to nothing in it; then a look for
a few rows reads the table.
"""

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine


class _Values(TypeDecorator[list[Any]]):
    """Numbers, or texts: one parameter for all of them."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, *, of_text: bool) -> None:
        super().__init__()
        self.of_text = of_text

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(sa.Text())
        item = sa.Text() if self.of_text else sa.BigInteger()
        return dialect.type_descriptor(postgresql.ARRAY(item))

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> Any:
        return value if dialect.name == "postgresql" else json.dumps(value)


class among(FunctionElement[bool]):
    """That a column has one of the values, which are numbers or texts: all of one kind."""

    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, column: sa.ColumnElement[Any], values: Collection[int] | Collection[str]):
        of_text = isinstance(column.type, sa.String)
        many = sa.bindparam(None, list(values), type_=_Values(of_text=of_text), unique=True)
        super().__init__(column, many)

    def self_group(self, against: OperatorType | None = None) -> "among":
        """As it is: SQLAlchemy would compare it with 1 where there is no type for truth, and
        what is compared with 1 uses no index."""
        return self


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column, many = (compiler.process(part, **kw) for part in element.clauses)
    return f"({column} = ANY ({many}))"


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column, many = (compiler.process(part, **kw) for part in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({many})))"


class unindexed(FunctionElement[Any]):
    """The column, by which SQLite looks up and sorts nothing. PostgreSQL knows better."""

    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        self.type = column.type
        super().__init__(column)


@compiles(unindexed)
def _unindexed(element: unindexed, compiler: SQLCompiler, **kw: Any) -> str:
    (column,) = element.clauses
    return compiler.process(column, **kw)


@compiles(unindexed, "sqlite")
def _unindexed_sqlite(element: unindexed, compiler: SQLCompiler, **kw: Any) -> str:
    return f"+{_unindexed(element, compiler, **kw)}"
