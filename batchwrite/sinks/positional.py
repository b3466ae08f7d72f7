"""Plain inserts by the driver's own executemany: SQLAlchemy compiles the statement, and no row becomes a dictionary.

SQLAlchemy's executemany makes two dictionaries and a list of every row: more work than SQLite has with it. What it does
to the values is known from the compiled statement, so that it can be done a column at a time. Where anything else may
happen to them, or somebody listens, it is left to SQLAlchemy.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.engine.interfaces import BindTyping
from sqlalchemy.exc import SQLAlchemyError

from batchwrite.recorded import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection, Table
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

    from batchwrite.plan import Block
    from batchwrite.table import TableInfo

    Process = Callable[[Any], Any]

# Who listens to these sees the statement as SQLAlchemy's own, or changes it.
_EVENTS = ("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")
_EVENTS_OF_DIALECTS = ("do_executemany", "do_setinputsizes")

# SQLAlchemy wraps functions without parameters, and those that do not say, to take the context of the statement and
# not to pass it on: a function with this code needs none. A signature would not tell, as it looks through decorators.
_WRAPPERS = frozenset(
    getattr(sqlalchemy.ColumnDefault(function).arg, "__code__", None) for function in (dict, lambda: None)
) - {None}


class NotPositional(Exception):
    """Rows must be inserted by SQLAlchemy itself; the reason is the exception's text."""


def takes_tuples(dialect: Dialect) -> bool:
    """Whether nothing but the parameters tells a dialect's executemany from the driver's."""
    context = dialect.execution_ctx_cls
    return (
        dialect.positional
        and dialect.bind_typing is not BindTyping.SETINPUTSIZES
        and dialect.execute_sequence_format is tuple
        and not getattr(dialect, "use_insertmanyvalues_wo_returning", False)
        and getattr(context, "pre_exec", None) is DefaultExecutionContext.pre_exec
        and getattr(context, "post_exec", None) is DefaultExecutionContext.post_exec
    )


def _is_watched(connection: Connection) -> bool:
    """Whether statements must be SQLAlchemy's: somebody listens to them, or they are to name other schemas."""
    dialect: Any = connection.dialect
    return (
        any(getattr(connection.dispatch, event) for event in _EVENTS)
        or any(getattr(dialect.dispatch, event) for event in _EVENTS_OF_DIALECTS)
        or bool(connection.get_execution_options().get("schema_translate_map"))
    )


class PositionalInserts:
    """Inserts by table and columns; each is prepared once.

    Args:
        note_slow: Told why the rows of a block are left to SQLAlchemy, where that is the table's own fault.
    """

    def __init__(self, note_slow: Callable[[Block, str], None]) -> None:
        self._note_slow = note_slow
        self._prepared: dict[tuple[TableInfo, tuple[str, ...]], PositionalInsert | str | None] = {}

    def insert(self, connection: Connection, block: Block) -> bool:
        """Insert the rows of a block, which are data and give some column, if that can be done here.

        Returns:
            Whether it has been done; if not, nothing has been sent.

        Raises:
            Exception: Whatever the database raises, as SQLAlchemy wraps it.
        """
        if len(block.writes) < 2:
            return False
        prepared = self._of(connection.dialect, block)
        if isinstance(prepared, PositionalInsert) and _is_watched(connection):
            prepared = "somebody listens to the execution of statements, or has them name other schemas"
        if isinstance(prepared, str):
            self._note_slow(block, prepared)
        if not isinstance(prepared, PositionalInsert):
            return False
        try:
            rows = prepared.rows(block)
        except Exception:  # noqa: BLE001 - SQLAlchemy meets it again, and raises it as it wraps such errors
            return False
        connection.exec_driver_sql(prepared.text, rows)
        return True

    def _of(self, dialect: Dialect, block: Block) -> PositionalInsert | str | None:
        """The insert, or why there is none; nothing where the dialect has none for any table."""
        made_for = (block.table, block.columns)
        if made_for not in self._prepared:
            prepared: PositionalInsert | str | None = None
            if takes_tuples(dialect):
                try:
                    prepared = PositionalInsert(block.table.handle, block.columns, dialect)
                except NotPositional as reason:
                    prepared = str(reason)
            self._prepared[made_for] = prepared
        return self._prepared[made_for]


class PositionalInsert:
    """INSERT for rows that give certain columns of a table.

    Args:
        table: The table.
        columns: The columns, in the order that rows give them.
        dialect: The engine's dialect; one that `takes_tuples`.

    Attributes:
        text: The statement, for `Connection.exec_driver_sql`.

    Raises:
        NotPositional: SQLAlchemy does something to such rows that is not known here.
    """

    def __init__(self, table: Table, columns: tuple[str, ...], dialect: Dialect) -> None:
        try:
            # As Connection.execute() does for a list of rows. inline: no RETURNING of generated keys.
            statement = sqlalchemy.insert(table).inline()
            compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns), for_executemany=True)
        except SQLAlchemyError as error:
            raise NotPositional("its statement cannot be compiled beforehand") from error
        _require_known(compiled, columns)
        self.text = str(compiled.string)
        self._processes = {name: _process(compiled.binds[name].type, dialect) for name in compiled.positiontup}
        self._given = {name: place for place, name in enumerate(columns)}
        self._constants: dict[str, Any] = {}
        self._calls: dict[str, Callable[[Any], Any]] = {}
        defaults = {column.key: column.default for column in compiled.insert_prefetch}
        for name in compiled.positiontup:
            if name in defaults:
                self._add_default(name, defaults[name])
            elif name not in self._given:  # a part of an expression that is some column's default
                self._constants[name] = compiled.binds[name].value
        # Whether a row as it is recorded is what the driver wants.
        self._takes_as_given = tuple(self._processes) == columns and not any(self._processes.values())

    def _add_default(self, name: str, default: Any) -> None:
        if getattr(default, "is_scalar", False):
            self._constants[name] = default.arg
        elif getattr(default, "is_callable", False) and _wants_nothing(default.arg):
            self._calls[name] = default.arg
        else:
            raise NotPositional("it has defaults that only SQLAlchemy can work out")

    def rows(self, block: Block) -> list[tuple[Any, ...]]:
        """The parameters of a block's rows.

        Raises:
            Exception: Whatever a bind processor or a default's function raises.
        """
        if self._takes_as_given and isinstance(block.writes, Rows):
            return list(block.writes.data)
        count = len(block.writes)
        # These first: no function must be called in vain.
        values = {name: self._processed(name, block.values[place]) for name, place in self._given.items()}
        values |= {name: self._processed(name, repeat(value, count)) for name, value in self._constants.items()}
        if self._calls:
            # Row by row, as SQLAlchemy does: two functions may share a counter.
            made = [[call(None) for call in self._calls.values()] for _ in range(count)]
            called = zip(self._calls, zip(*made, strict=True), strict=True)
            values |= {name: self._processed(name, some) for name, some in called}
        return list(zip(*[values[name] for name in self._processes], strict=True))

    def _processed(self, name: str, values: Iterable[Any]) -> Iterable[Any]:
        process = self._processes[name]
        return values if process is None else list(map(process, values))


def _require_known(compiled: SQLCompiler, columns: tuple[str, ...]) -> None:
    """Check that the parameters of a statement are the values of columns and constants.

    Raises:
        NotPositional: They are not.
    """
    names = compiled.positiontup or ()
    if compiled.literal_execute_params or compiled.post_compile_params or compiled.effective_returning:
        raise NotPositional("its statement is completed by SQLAlchemy when it is executed")
    if len(set(names)) < len(names) or not set(columns).issubset(names):
        raise NotPositional("the parameters of its statement are not its columns")
    prefetched = {column.key for column in compiled.insert_prefetch}
    for name in names:
        parameter = compiled.binds[name]
        is_given = name in columns or name in prefetched
        if parameter.callable or (parameter.required and not is_given):
            raise NotPositional("a parameter of its statement is worked out when it is executed")


def _process(kind: TypeEngine[Any], dialect: Dialect) -> Process | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _wants_nothing(function: Any) -> bool:
    """Whether the function of a default is one that SQLAlchemy has found to take no context."""
    return getattr(function, "__code__", None) in _WRAPPERS
