"""One table as the fast path writes to it: which columns, as which texts, with what casts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import types

from batchwrite.sinks.postgresql.catalog import verification
from batchwrite.sinks.postgresql.texts import NoFastPath, TextColumn
from batchwrite.sinks.statements import DefaultContext, has_expressions
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy
    from psycopg.abc import Transformer
    from sqlalchemy.engine import Dialect

    from batchwrite.plan import Block
    from batchwrite.sinks.postgresql.catalog import ServerTable
    from batchwrite.sinks.postgresql.texts import Texts
    from batchwrite.table import TableInfo


_EXACT_WITHOUT_SCALE = frozenset({types.Numeric, types.NUMERIC, types.DateTime, types.TIMESTAMP})

# What variables, aliases and columns that are not the table's are called in statements begins so.
_OWN_NAMES = "bw_"


def table_name(dialect: Dialect, table: sqlalchemy.Table) -> str:
    """A table's name as it is written in SQL."""
    return _without_escapes(dialect.identifier_preparer.format_table(table))


def translated_name(connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> str:
    """Likewise, with the schema to which the connection translates the table's (`schema_translate_map`)."""
    preparer = connection.dialect.identifier_preparer
    schema, name = connection.schema_for_object(table), preparer.quote(table.name)
    return _without_escapes(f"{preparer.quote_schema(schema)}.{name}" if schema else name)


def _without_escapes(name: str) -> str:
    """A quoted name as it is sent: SQLAlchemy doubles `%` in it, for drivers that look for parameters in the text."""
    return name.replace("%%", "%")


class FastTable:
    """Writes blocks of one table as texts.

    Args:
        info: The table.
        server: What the server says of it.
        dialect: The engine's dialect.

    Attributes:
        name: Its name as it is written in SQL.
        verification: A statement that fails where the table is not what it was when it was looked up.
    """

    def __init__(self, info: TableInfo, server: ServerTable, dialect: Dialect) -> None:
        self.info = info
        self.server = server
        self._dialect = dialect
        self._table: sqlalchemy.Table = info.handle
        self.name = table_name(dialect, self._table)
        self._quoted = {column.key: self.quote(column.name) for column in self._table.columns}
        names = [self._table.name, *server.columns]
        if any(name.startswith(_OWN_NAMES) for name in names) or self._table.name == "excluded":
            raise NoFastPath("a name of its own means something else in the statements that would be sent")
        self._writers: dict[str, TextColumn] = {}
        self.verification = verification(self.name, server, self.quote)

    def quoted(self, column: str) -> str:
        """A column's name as it is written in SQL."""
        return self._quoted[column]

    @property
    def regclass(self) -> str:
        """Its name with its schema, as the server has it."""
        return self.server.name

    def quote(self, name: str) -> str:
        """A name in the database as it is written in SQL."""
        return _without_escapes(self._dialect.identifier_preparer.quote(name))

    def server_name(self, column: str) -> str:
        """The name that a column has in the database."""
        return self._table.columns[column].name

    def cast(self, column: str) -> str:
        """The type that a column's texts are cast to."""
        name: str = self._server_column(column).cast
        return name

    def equals(self, column: str) -> str:
        """The operator by which a column's values are the same."""
        name: str = self._server_column(column).equals
        return name

    def is_always_generated(self, columns: Sequence[str]) -> bool:
        """Whether one of some columns takes no value but by the database."""
        return any(self._server_column(column).is_always_generated for column in columns)

    def leaves_out_domains(self, columns: Sequence[str]) -> bool:
        """Whether a column that is declared as a domain is not among some columns."""
        given = {self._table.columns[column].name for column in columns}
        server = self.server.columns.items()
        return any(column.declared_oid != column.type_oid and name not in given for name, column in server)

    def _server_column(self, column: str) -> Any:
        found = self.server.columns.get(self._table.columns[column].name)
        if found is None:
            raise NoFastPath(f"the database has no column {column}")
        return found

    def texts_of(self, column: str, values: Sequence[Any], types: frozenset[type], transformer: Transformer) -> Texts:
        """Values of one column as texts.

        Raises:
            NoFastPath: They cannot be written so.
            Exception: Whatever a bind processor raises.
        """
        return self._writer(column).texts(values, types, transformer)

    def require_texts(self, columns: Sequence[str]) -> None:
        """Make sure that columns are of types whose values can be written as texts, before any is.

        Raises:
            NoFastPath: One is not.
        """
        for column in columns:
            self._writer(column).require()

    def _writer(self, column: str) -> TextColumn:
        writer = self._writers.get(column)
        if writer is None:
            server = self._server_column(column)
            writer = self._writers[column] = TextColumn(self._table.columns[column], self._dialect, server)
        return writer

    def told_apart(self, column: str) -> frozenset[type]:
        """Types of Python whose values are equal in a column just where they are in Python; perhaps none."""
        kind = self._table.columns[column].type
        found: type | None = None
        if column in self.info.exact:
            found = kind.python_type
        elif type(kind) in _EXACT_WITHOUT_SCALE and getattr(kind, "scale", None) is None:
            found = kind.python_type  # neither rounded nor cut off
        return frozenset({found, type(None)}) if found else frozenset()

    def unlikely(self, column: str, values: Sequence[Any], types: frozenset[type]) -> list[int]:
        """Places of values that a column will hardly take; to be asked for after their texts."""
        return self._writers[column].unlikely(values, types)

    # ---- what SQLAlchemy adds to rows

    def with_defaults(self, block: Block) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...], dict[str, str]]:
        """The columns and values of rows to be inserted, Python-side defaults among them, and those that are SQL.

        Raises:
            NoFastPath: A default can only be worked out by SQLAlchemy.
            Exception: Whatever a default's function raises.
        """
        names, values = list(block.columns), list(block.values)
        missing: dict[str, Any] = {
            column.key: column.default
            for column in self._table.columns
            if column.default is not None and column.key not in block.columns
        }
        # These first: a function must not be called in vain.
        expressions = {
            name: self._sql_of(default)
            for name, default in missing.items()
            if not (default.is_callable or default.is_scalar)
        }
        for name, default in missing.items():
            if default.is_callable:
                names.append(name)
                values.append(tuple([default.arg(DefaultContext(write.values)) for write in block.writes]))
            elif default.is_scalar:
                names.append(name)
                values.append((default.arg,) * len(block.writes))
        return tuple(names), tuple(values), expressions

    def touches(self, changed: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Columns that change whenever a row does, and what to, where a change does not name them.

        Raises:
            NoFastPath: It can only be worked out by SQLAlchemy.
        """
        for column in self._table.columns:
            if column.onupdate is None or column.key in changed:
                continue
            yield column.key, self._sql_of(column.onupdate)

    def _sql_of(self, default: Any) -> str:
        if not default.is_clause_element or self.info.dependence_of(default.arg):
            raise NoFastPath("it has defaults that only SQLAlchemy can work out")
        text = str(default.arg.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True}))
        if "%" in text:
            raise NoFastPath("it has defaults that only SQLAlchemy can work out")
        return text


def require_fast(block: Block, *, is_ordered: bool) -> None:
    """Check what does not depend on the table.

    Raises:
        NoFastPath: The writes of a block must be carried out one after the other, or are no data.
    """
    first = block.writes[0]
    if is_ordered:
        raise NoFastPath("its rows refer to each other, or change their own keys: they are written in their order")
    if not block.columns and first.kind is not Kind.DELETE:
        raise NoFastPath("rows give no value at all")
    if has_expressions(block):
        raise NoFastPath("rows hold SQL expressions")
    if first.kind in {Kind.UPDATE, Kind.INCREMENT, Kind.DELETE} and not first.table.is_unique_key(first.key_columns):
        raise NoFastPath(f"no unique key over {', '.join(first.key_columns)} is declared")
