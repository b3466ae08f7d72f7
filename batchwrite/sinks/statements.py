"""Carries out the steps of a plan as SQLAlchemy statements, one executemany a shape of row."""

from __future__ import annotations

import logging
import math
import numbers
import re
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import Table, bindparam
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql.elements import ClauseElement

from batchwrite.comparing import PLAIN_TYPES, is_not_itself
from batchwrite.errors import ItemRefused
from batchwrite.listeners import SlowPathDetails
from batchwrite.plan import each_key_once
from batchwrite.sinks.positional import PositionalInserts
from batchwrite.write import Kind, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from batchwrite.listeners import Listeners
    from batchwrite.plan import Block, Probe, Step
    from batchwrite.sinks.dialects import DialectRules
    from batchwrite.sinks.said import Said
    from batchwrite.table import TableInfo

_log = logging.getLogger("batchwrite")

# Types that have no value such as NaN and infinity, and those all of whose values `math.isfinite` takes.
_NEVER_ODD = PLAIN_TYPES - {float, Decimal}
_NUMBERS = frozenset({float, Decimal, int, bool, type(None)})

# Floats can hold NaN (to SQLAlchemy 2.0 they are Numeric, too), and what is not here may.
_WITHOUT_NAN = (
    *(sqlalchemy.Integer, sqlalchemy.Numeric, sqlalchemy.String, sqlalchemy.LargeBinary, sqlalchemy.Boolean),
    *(sqlalchemy.Date, sqlalchemy.DateTime, sqlalchemy.Time, sqlalchemy.Interval, postgresql.INTERVAL, sqlalchemy.Uuid),
)

# What a text must be like to name a row by a column that holds no texts, where databases read as much as they can.
_FORMS: tuple[tuple[tuple[type, ...], re.Pattern[str]], ...] = (
    (
        (sqlalchemy.Integer, sqlalchemy.Numeric, sqlalchemy.Float),
        re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    ),
    (
        (sqlalchemy.Date, sqlalchemy.DateTime),
        re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"),
    ),
    ((sqlalchemy.Time,), re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")),
)

# Parameters of one statement stay far below PostgreSQL's 65,535 and below the 32,766 that SQLite has by default.
_PARAMETERS_AT_ONCE = 10_000


class DefaultContext:
    """What a function that gives a default may ask of the statement that it is called for."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.current_parameters = values

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002 - SQLAlchemy's signature
        """The values of the row."""
        return self.current_parameters

    def __getattr__(self, name: str) -> Any:
        raise ItemRefused(f"the function of a default asks for {name}, which a bulk write does not have")


class Statements:
    """Carries out steps on a connection.

    Args:
        rules: What the database does otherwise.
        listeners: Told of slow paths.
        said: What has been said in the log of the database, by whichever writer.
    """

    def __init__(self, rules: DialectRules, listeners: Listeners, said: Said) -> None:
        self._rules = rules
        self._listeners = listeners
        self._said = said
        self._guarded: dict[Table, frozenset[str]] = {}
        self._noted: set[tuple[str, str]] = set()
        # Statements by what they are made for: SQLAlchemy keeps what it has compiled with the statement object.
        self._made: dict[Any, Any] = {}
        self._positional = PositionalInserts(self._note_slow)

    def carry_out(self, connection: Connection, step: Step) -> None:
        """Carry out one step.

        Raises:
            ItemRefused: A row to be changed does not exist, or a value cannot be written as it is.
            Exception: Whatever the database raises.
        """
        self._rules.require(connection, step.table.handle)
        for block in step.blocks():
            self.check_values(block)
            self._rules.check(connection, block)
            if step.kind is not Kind.INSERT and self._rules.compares_loosely:
                _refuse_keys_of_other_types(block)
            if step.kind is Kind.INSERT:
                self._insert(connection, block)
            elif step.kind is Kind.UPSERT:
                self._upsert(connection, block)
            elif step.kind is Kind.DELETE:
                self._delete(connection, block)
            else:
                self._change(connection, block)

    def count_rows(self, connection: Connection, probe: Probe) -> int:
        """How many of the rows that a probe asks for exist."""
        table: Table = probe.table.handle
        columns = [table.columns[name] for name in probe.columns]
        count = 0
        for keys in _slices(probe.keys, len(columns)):
            found = sqlalchemy.select(*columns).where(_is_in(columns, keys)).distinct().subquery()
            count += connection.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(found)) or 0
        return count

    def lock(self, connection: Connection, table: TableInfo, writes: Iterable[Write]) -> None:
        """Lock the rows that writes name, in the one order of keys, so that two writers wait and do not deadlock."""
        by_columns: dict[tuple[str, ...], list[Write]] = {}
        for write in writes:
            by_columns.setdefault(write.key_columns, []).append(write)
        for names, chosen in sorted(by_columns.items()):
            columns = [table.handle.columns[name] for name in names]
            keys = [write.key for write in each_key_once(chosen)]
            for some in _slices(keys, len(columns)):
                query = sqlalchemy.select(sqlalchemy.literal(1)).select_from(table.handle).where(_is_in(columns, some))
                connection.execute(query.order_by(*columns).with_for_update(key_share=True)).all()

    def without_rows(self, write: Write) -> Any:
        """The statement that carries out a write, but that it writes nothing, and holds no value of the write's.

        Where it fails, so does the statement with any row: a table or a column that is missing, a right.
        """
        table: Table = write.table.handle
        if write.kind is Kind.INSERT or write.kind is Kind.UPSERT:
            return self._insert_without_rows(write)
        nothing = sqlalchemy.and_(*(table.columns[name].is_(None) for name in write.key_columns), sqlalchemy.false())
        if write.kind is Kind.DELETE:
            return sqlalchemy.delete(table).where(nothing)
        # What changes by itself is given a value, too, so that nobody's function is called.
        touched = [name for name in write.table.touched if name not in write.values]
        names = [*write.values, *touched]
        changes = {name: table.columns[name] if write.kind is Kind.INCREMENT else sqlalchemy.null() for name in names}
        return sqlalchemy.update(table).where(nothing).values(changes)

    def _insert_without_rows(self, write: Write) -> Any:
        table: Table = write.table.handle
        names = list(write.values) or [next(iter(table.columns)).key]
        rows = sqlalchemy.select(*[sqlalchemy.null() for _ in names]).where(sqlalchemy.false())
        insert: Any = self._rules.insert(table) if write.kind is Kind.UPSERT else None
        if insert is None:
            insert = sqlalchemy.insert(table)
        statement = insert.from_select(names, rows, include_defaults=False)
        if not hasattr(statement, "on_conflict_do_update"):
            return statement
        key = [table.columns[name] for name in write.key_columns]
        changes = {table.columns[name]: statement.excluded[name] for name in write.set_columns}
        if not changes:
            return statement.on_conflict_do_nothing(index_elements=key)
        return statement.on_conflict_do_update(index_elements=key, set_=changes)

    # ---- inserts

    def _insert(self, connection: Connection, block: Block) -> None:
        table: Table = block.table.handle
        # inline: no RETURNING of a generated key that nobody asks for, which would need the right to SELECT
        rows = block.writes
        if not block.columns:
            for _ in rows:
                connection.execute(sqlalchemy.insert(table).inline())
        elif has_expressions(block):
            self._note_slow(block, "rows hold SQL expressions")
            for write in rows:
                connection.execute(sqlalchemy.insert(table).inline().values(_by_column(table, write.values)))
        elif not self._positional.insert(connection, block):
            statement = self._made.setdefault(table, sqlalchemy.insert(table).inline())
            if self._rules.sends_singly(connection, statement, block.columns):
                self._note_slow(block, "the driver sends rows one by one whose types or defaults are SQL expressions")
            connection.execute(statement, [write.values for write in rows])

    # ---- upserts

    def _upsert(self, connection: Connection, block: Block) -> None:
        reason = self._rules.no_upsert_because(connection, block.writes[0])
        if self._rules.insert(block.table.handle) is None:
            reason = "the database has no INSERT with ON CONFLICT"
        if reason:
            self._note_slow(block, reason)
            for write in block.writes:
                self._upsert_by_hand(connection, write)
            return
        rows = block.writes
        if has_expressions(block):
            self._note_slow(block, "rows hold SQL expressions")
            for write in rows:
                statement, touched = self._upsert_statement(write)
                values = _by_column(write.table.handle, write.values)
                self._upsert_one(connection, statement.values(values), write, touched(write))
            return
        first = rows[0]
        made_for = (first.table, first.key_columns, first.set_columns)
        if made_for not in self._made:
            self._made[made_for] = self._upsert_statement(first)
        statement, touched = self._made[made_for]
        parameters = [write.values | touched(write) for write in rows]
        names = tuple(parameters[0])
        ready = self._rules.ready(connection, statement, names)
        if len(rows) > 1 and not self._rules.sends_singly(connection, statement, names):
            self._upsert_all(connection, ready, block, parameters)
            return
        self._note_slow(block, "the driver cannot send several upserts of this form at once")
        for write, each in zip(rows, parameters, strict=True):
            self._upsert_one(connection, ready, write, each)

    def _upsert_all(
        self, connection: Connection, statement: Any, block: Block, parameters: list[dict[str, Any]]
    ) -> None:
        try:
            connection.execute(statement, parameters)
        except DBAPIError as error:
            if not self._rules.hits_another_key(error):
                raise
            # Which of them, and what is to become of it, comes out one by one; part of them may have been written.
            raise ItemRefused("a row with another key stands in the way", table=block.table.name) from error

    def _upsert_one(self, connection: Connection, statement: Any, write: Write, parameters: dict[str, Any]) -> None:
        try:
            connection.execute(statement, [parameters])
        except DBAPIError as error:
            if not self._rules.hits_another_key(error):
                raise
            self._upsert_by_hand(connection, write)

    def _upsert_statement(self, write: Write) -> tuple[Any, Callable[[Write], dict[str, Any]]]:
        """INSERT … ON CONFLICT, and what gives the parameters that stand for Python-side `onupdate` values."""
        table: Table = write.table.handle
        insert = self._rules.insert(table).inline()
        key = [table.columns[name] for name in write.key_columns]
        if not write.set_columns:
            return insert.on_conflict_do_nothing(index_elements=key), lambda _write: {}
        changes: dict[Any, Any] = {table.columns[name]: insert.excluded[name] for name in write.set_columns}
        calls = []
        for column in table.columns:
            if column.onupdate is None or column.key in write.set_columns:
                continue
            default: Any = column.onupdate
            if default.is_callable:
                name = f"batchwrite_touch_{column.key}"
                changes[column] = bindparam(name, type_=column.type)
                calls.append((name, default.arg))
            elif default.is_clause_element or default.is_scalar:
                changes[column] = default.arg
        statement = insert.on_conflict_do_update(index_elements=key, set_=changes)
        return statement, lambda write: {name: call(DefaultContext(write.values)) for name, call in calls}

    def _upsert_by_hand(self, connection: Connection, write: Write) -> None:
        table: Table = write.table.handle
        is_possible = write.table.could_be_inserted(write.values)
        if is_possible and self._change_existing(connection, write):
            return  # one that is not possible is refused by ON CONFLICT whether the row exists or not, and so here
        try:
            connection.execute(sqlalchemy.insert(table).inline().values(_by_column(table, write.values)))
        except IntegrityError:
            # Somebody else may have inserted the row in between, or another key stands in the way.
            if not (is_possible and self._rules.survives_errors and self._change_existing(connection, write)):
                raise

    def _change_existing(self, connection: Connection, write: Write) -> bool:
        """Do to a row that exists what an upsert does; false where there is none."""
        table: Table = write.table.handle
        matches = _matches(table, write)
        if write.set_columns:
            changes = _by_column(table, {name: write.values[name] for name in write.set_columns})
            return connection.execute(sqlalchemy.update(table).where(matches).values(changes)).rowcount > 0
        query = sqlalchemy.select(sqlalchemy.literal(1)).select_from(table).where(matches)
        if self._rules.locks_rows:
            query = query.with_for_update(key_share=True)  # what is there now, not when the transaction began
        return connection.execute(query).first() is not None

    # ---- updates, increments, deletes

    def _change(self, connection: Connection, block: Block) -> None:
        rows, names = block.writes, block.columns
        if has_expressions(block):
            self._note_slow(block, "rows hold SQL expressions")
            for write in rows:
                changes = _by_column(write.table.handle, write.values)
                statement = sqlalchemy.update(write.table.handle).where(_matches(write.table.handle, write))
                self._require_rows(connection, statement.values(changes), [write], None)
            return
        is_span = rows[0].kind is Kind.INCREMENT and any(isinstance(v, timedelta) for v in rows[0].values.values())
        made_for = (block.table, rows[0].kind, rows[0].key_columns, names, is_span)
        if made_for not in self._made:
            self._made[made_for] = self._change_statement(rows[0])
        statement = self._made[made_for]
        parameters = [
            _key_parameters(write) | {f"batchwrite_set_{i}": write.values[name] for i, name in enumerate(names)}
            for write in rows
        ]
        self._require_rows(connection, statement, rows, parameters)

    def _change_statement(self, write: Write) -> Any:
        """UPDATE … WHERE key; for increments relative, and only where there is something to add to."""
        table: Table = write.table.handle
        condition = _matches_parameters(table, write.key_columns)
        changes: dict[Any, Any] = {}
        for i, (name, value) in enumerate(write.values.items()):
            column = table.columns[name]
            if write.kind is Kind.INCREMENT:
                kind = sqlalchemy.Interval() if isinstance(value, timedelta) else column.type
                changes[column] = column + bindparam(f"batchwrite_set_{i}", type_=kind)
                condition &= column.is_not(None)
                if self._rules.overflows_into_real and name in write.table.integers:
                    condition &= sqlalchemy.func.typeof(changes[column]) == "integer"
            else:
                changes[column] = bindparam(f"batchwrite_set_{i}", type_=column.type)
        return sqlalchemy.update(table).where(condition).values(changes)

    def _delete(self, connection: Connection, block: Block) -> None:
        table: Table = block.table.handle
        rows = block.writes
        statement = sqlalchemy.delete(table).where(_matches_parameters(table, rows[0].key_columns))
        parameters = [_key_parameters(write) for write in rows]
        self._require_rows(connection, statement, rows, parameters)

    def _require_rows(
        self, connection: Connection, statement: Any, writes: Sequence[Write], parameters: list[dict[str, Any]] | None
    ) -> None:
        """Execute a statement that must hit exactly one row for each write, or none where none is fine."""
        first = writes[0]
        is_unique = first.table.is_unique_key(first.key_columns)
        if len(writes) > 1 and is_unique and connection.dialect.supports_sane_multi_rowcount:
            found = connection.execute(statement, parameters).rowcount
            if found == len(writes) or first.missing_ok:
                return
            raise ItemRefused("a row to be changed does not exist", table=first.table.name)
        if len(writes) > 1:
            reason = "the number of rows hit cannot be told for many keys at once"
            self.note_slow(first.table, f"{reason}: no unique key over {', '.join(first.key_columns)} is declared")
        for position, write in enumerate(writes):
            if not is_unique and write.kind is Kind.INCREMENT:
                self._refuse_several(connection, write)  # those that are NULL would not be counted below
            found = connection.execute(statement, parameters[position] if parameters else None).rowcount
            if found != 1 and not (found == 0 and write.missing_ok):
                raise self._missing(connection, write, found)

    def _refuse_several(self, connection: Connection, write: Write) -> None:
        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(write.table.handle)
        found = connection.scalar(query.where(_matches(write.table.handle, write))) or 0
        if found > 1:
            raise self._missing(connection, write, found)

    def _missing(self, connection: Connection, write: Write, found: int) -> ItemRefused:
        columns = ", ".join(write.key_columns)
        if found > 1:
            problem = f"the key ({columns}) names more than one row"
        else:
            problem = f"no row has this key ({columns})"
            if write.kind is Kind.INCREMENT:
                query = sqlalchemy.select(sqlalchemy.literal(1)).select_from(write.table.handle)
                if connection.execute(query.where(_matches(write.table.handle, write))).first() is not None:
                    columns = ", ".join(write.values)
                    problem = f"the column to be incremented ({columns}) is NULL"
                    if self._rules.overflows_into_real:
                        problem += ", or the sum out of its range"
        return ItemRefused(problem, table=write.table.name, column=columns)

    # ---- values

    def check_values(self, block: Block) -> None:
        """Refuse what the database would store as something else: NaN and its like, and infinity.

        Raises:
            ItemRefused: There is one.
        """
        kind, table = block.writes[0].kind, block.table
        for column, values, types in zip(block.columns, block.values, block.types, strict=True):
            has_odd = not types <= _NEVER_ODD
            if has_odd and column in self._guarded_columns(table.handle) and not _are_finite(values, types):
                for value in values:
                    self._refuse_if_odd(table, column, value)
            if timedelta in types and kind is Kind.INCREMENT and not self._rules.adds_intervals:
                raise ItemRefused("the database cannot add a time span to a date", table=table.name)

    def _refuse_if_odd(self, table: TableInfo, column: str, value: Any) -> None:
        word = None
        if type(value) in _NEVER_ODD:
            return
        if is_not_itself(value):
            word = "NaN" if isinstance(value, numbers.Number) else f"a {type(value).__name__}"
        elif isinstance(value, (float, Decimal)) and not _is_finite(value):
            is_float_column = isinstance(table.handle.columns[column].type, sqlalchemy.Float)
            word = None if is_float_column and isinstance(value, float) else "infinity"
        if word:
            raise ItemRefused(f"{word} is no value for column {column}", table=table.name, column=column)

    def _guarded_columns(self, table: Table) -> frozenset[str]:
        """Columns where NaN must be looked for: those that cannot hold it, and all where the database makes it NULL.

        A text could: as the word "NaN", and a column that must have a value would have one where none was given. What
        a type of the user's own makes of it is its own affair.
        """
        if table not in self._guarded:
            self._guarded[table] = frozenset(
                column.key
                for column in table.columns
                if self._rules.nan_becomes_null
                or (isinstance(column.type, _WITHOUT_NAN) and not isinstance(column.type, sqlalchemy.Float))
            )
        return self._guarded[table]

    def _note_slow(self, block: Block, reason: str) -> None:
        if len(block.writes) > 1:
            self.note_slow(block.table, reason)

    def note_slow(self, table: TableInfo, reason: str) -> None:
        """Say why a slower way is taken: once a table to this writer's listeners, once for all writers in the log."""
        if (table.name, reason) in self._noted:
            return
        self._noted.add((table.name, reason))
        if self._said.is_new("slow_path", table.name, reason):
            _log.warning(
                "table %s is written in a slower way: %s",
                table.name,
                reason,
                extra={"action": "slow_path", "table": table.name},
            )
        self._listeners.tell("on_slow_path", SlowPathDetails(table=table.name, reason=reason))


def _are_finite(values: Iterable[Any], types: frozenset[type]) -> bool:
    """Whether numbers are certainly finite; asked without a look at each by Python code."""
    try:
        return types <= _NUMBERS and all(map(math.isfinite, filter(None, values)))
    except (ValueError, OverflowError):  # a signalling NaN, a number too large for a float
        return False


def _is_finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def has_expressions(block: Block) -> bool:
    """Whether a value of a block is an SQL expression."""
    is_expression = block.table.is_expression
    return any(
        any(map(is_expression, values))
        for values, types in zip(block.values, block.types, strict=True)
        if any(issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__") for kind in types)
    )


def _refuse_keys_of_other_types(block: Block) -> None:
    """Refuse keys that would be compared as numbers: there 5 equals the texts 5, 05 and 5x, and the text 1x equals 1.

    Raises:
        ItemRefused: There is one.
    """
    first = block.writes[0]
    for place, name in enumerate(first.key_columns):
        kind = block.table.handle.columns[name].type
        types = {type(write.key[place]) for write in block.writes}
        if isinstance(kind, sqlalchemy.String) and not isinstance(kind, sqlalchemy.Enum):
            is_fine = all(issubclass(each, (str, bytes)) for each in types)
        else:
            form = next((form for classes, form in _FORMS if isinstance(kind, classes)), None)
            given = [write.key[place] for write in block.writes] if form and not types.isdisjoint({str, bytes}) else []
            is_fine = all(not isinstance(key, (str, bytes)) or _has_form(key, form) for key in given)
        if not is_fine:
            raise ItemRefused(f"a key of column {name} is of another type", table=block.table.name, column=name)


def _has_form(key: str | bytes, form: re.Pattern[str] | None) -> bool:
    return isinstance(key, str) and form is not None and form.fullmatch(key) is not None


def _matches_parameters(table: Table, names: tuple[str, ...]) -> Any:
    return sqlalchemy.and_(
        *(
            table.columns[name] == bindparam(f"batchwrite_key_{i}", type_=table.columns[name].type)
            for i, name in enumerate(names)
        )
    )


def _key_parameters(write: Write) -> dict[str, Any]:
    return {f"batchwrite_key_{i}": value for i, value in enumerate(write.key)}


def _matches(table: Table, write: Write) -> Any:
    return sqlalchemy.and_(
        *(table.columns[name] == value for name, value in zip(write.key_columns, write.key, strict=True))
    )


def _by_column(table: Table, values: dict[str, Any]) -> dict[Any, Any]:
    return {table.columns[name]: value for name, value in values.items()}


def _is_in(columns: Sequence[Any], keys: Sequence[tuple[Any, ...]]) -> Any:
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return sqlalchemy.tuple_(*columns).in_(keys)


def _slices(keys: Sequence[tuple[Any, ...]], columns: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    size = max(1, _PARAMETERS_AT_ONCE // columns)
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
