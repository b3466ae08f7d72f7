"""What a map function writes to: it records the writes of one item and checks their form. Pure."""

from __future__ import annotations

import numbers
from collections.abc import Hashable, Mapping
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batchwrite.errors import ConfigurationError, ItemRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batchwrite.table import TableInfo, Target

_PLAIN_KEY_TYPES = frozenset({int, str, bytes})


class Kind(IntEnum):
    """The kinds of write, in the order in which a chunk applies them to one table."""

    INSERT = 0
    UPSERT = 1
    UPDATE = 2
    INCREMENT = 3
    DELETE = 4


class Write(NamedTuple):
    """One wish of one item about one row.

    Attributes:
        kind: What is to be done.
        table: Where.
        values: The row (insert, upsert), the new values (update) or the deltas (increment), by column.
        key_columns: The columns that name the row; empty for an insert.
        key: Their values, in that order.
        set_columns: For an upsert: the columns that change where the row exists.
        missing_ok: For a delete: whether a row that does not exist is fine.
    """

    kind: Kind
    table: TableInfo
    values: dict[str, Any]
    key_columns: tuple[str, ...] = ()
    key: tuple[Any, ...] = ()
    set_columns: tuple[str, ...] = ()
    missing_ok: bool = False


class Catalog(Protocol):
    """What the collector asks about the tables and objects that a map function names."""

    def describe(self, table: Any) -> Target:
        """The target for what the user named as a table.

        Raises:
            ItemRefused: It is no table that the sink can write to.
        """

    def rows_of(self, instance: Any) -> Sequence[tuple[Target, dict[str, Any]]]:
        """The rows, by column, that an ORM instance stands for, parents first.

        Raises:
            ItemRefused: It is no mapped instance, or holds more than columns can say.
        """


class Collector:
    """Records the writes of one item; what a map function gets as its second argument.

    Rows are dictionaries of value by column name (by attribute name for a mapped class); they are copied, so the
    caller may use them again (but must not change a list or a dictionary that is a value in one until its chunk is
    written). Every method raises `ItemRefused` for a write that cannot be meant (an unknown column, a key that is
    NULL, a delta that is no number). Left alone, that makes the item a failure of stage
    `map`; nothing of the item is written then.
    """

    __slots__ = ("_catalog", "_is_open", "_skip_reason", "_targets", "_writes")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._targets: dict[Any, Target] = {}
        self._writes: list[Write] = []
        self._skip_reason: str | None = None
        self._is_open = True

    def insert(self, table: Any, row: Mapping[str, Any], /) -> None:
        """Insert a row.

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            row: Value by column; a column left out gets its default.
        """
        target = self._target(table)
        self._writes.append(Write(Kind.INSERT, target.table, _columns(target, row)))

    def upsert(
        self,
        table: Any,
        row: Mapping[str, Any],
        /,
        *,
        key: str | Iterable[str] | None = None,
        set: str | Iterable[str] | None = None,  # noqa: A002 - the word that SQL has for it
    ) -> None:
        """Insert a row, or change the one that has its key.

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            row: Value by column, the key's included.
            key: The column or columns that name the row; default the primary key. The database must have a unique
                constraint or index over exactly these.
            set: The column or columns that change where the row exists; default all of `row` but the key.
                `()` leaves an existing row as it is (insert if absent).
        """
        target = self._target(table)
        values = _columns(target, row)
        key_columns = target.table.primary_key if key is None else _names(target, key)
        if not key_columns:
            raise ItemRefused("an upsert needs a key, and the table has no primary key", table=target.table.name)
        if set is None:
            set_columns = tuple(column for column in values if column not in key_columns)
        else:
            set_columns = _names(target, set)
            _require(values, set_columns, target, "is to be set, but the row gives no value for it")
        _require(values, key_columns, target, "belongs to the key, but the row gives no value for it")
        key_values = _key(target, {column: values[column] for column in key_columns})
        self._writes.append(Write(Kind.UPSERT, target.table, values, *key_values, set_columns))

    def update(
        self, table: Any, key: Mapping[str, Any], values: Mapping[str, Any] | None = None, /, **columns: Any
    ) -> None:
        """Set columns of one row; the item fails if there is no row with that key.

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            key: Value by column of the columns that name the row.
            values: New value by column, for columns whose names are no Python names.
            columns: New value by column.
        """
        target = self._target(table)
        new = _columns(target, {**(values or {}), **columns})
        if not new:
            raise ItemRefused("an update needs at least one column to set", table=target.table.name)
        self._writes.append(Write(Kind.UPDATE, target.table, new, *_key(target, _columns(target, key))))

    def increment(
        self, table: Any, key: Mapping[str, Any], deltas: Mapping[str, Any] | None = None, /, **columns: Any
    ) -> None:
        """Add to columns of one row; increments of one key in a chunk are added up and sent as one.

        The item fails if there is no row with that key, or if the column is NULL there (NULL plus a number is
        NULL: the increment would be lost without a word).

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            key: Value by column of the columns that name the row.
            deltas: What to add, by column, for columns whose names are no Python names.
            columns: What to add, by column: a finite number or a `timedelta`, negative to subtract.
        """
        target = self._target(table)
        new = _columns(target, {**(deltas or {}), **columns})
        if not new:
            raise ItemRefused("an increment needs at least one column to add to", table=target.table.name)
        for column, delta in new.items():
            _check_delta(target, column, delta)
        key_values = _key(target, _columns(target, key))
        if not new.keys().isdisjoint(key_values[0]):
            raise ItemRefused("an increment cannot change the columns of its own key", table=target.table.name)
        self._writes.append(Write(Kind.INCREMENT, target.table, new, *key_values))

    def delete(self, table: Any, key: Mapping[str, Any], /, *, missing_ok: bool = False) -> None:
        """Delete one row.

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            key: Value by column of the columns that name the row.
            missing_ok: Whether a row that does not exist is fine; by default the item fails.
        """
        target = self._target(table)
        key_values = _key(target, _columns(target, key))
        self._writes.append(Write(Kind.DELETE, target.table, {}, *key_values, missing_ok=missing_ok))

    def add(self, instance: Any, /) -> None:
        """Insert the row that an ORM instance stands for.

        Columns are written, relationships are not: add related objects themselves, with their foreign keys set.

        Args:
            instance: An instance of a mapped class (SQLModel included). Attributes never set get their defaults.
        """
        self._require_open()
        for target, values in self._catalog.rows_of(instance):
            self._writes.append(Write(Kind.INSERT, target.table, values))

    def skip(self, reason: str = "skipped") -> None:
        """Leave the item out on purpose: nothing of it is written, whatever else it records.

        Args:
            reason: Shown in the item's outcome.
        """
        self._require_open()
        self._skip_reason = reason

    def open(self) -> None:
        """Begin an item; for the engine."""
        self._is_open = True

    def take(self) -> tuple[list[Write], str | None]:
        """End the item: its writes, and the reason given to `skip`; for the engine."""
        self._is_open = False
        taken = (self._writes, self._skip_reason)
        self._writes = []
        self._skip_reason = None
        return taken

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConfigurationError("there is no item to write for: this one has ended")

    def _target(self, table: Any) -> Target:
        self._require_open()
        try:
            return self._targets[table]
        except KeyError:
            target = self._targets[table] = self._catalog.describe(table)
            return target
        except TypeError:  # unhashable: certainly no table; let the catalog say so
            return self._catalog.describe(table)


def _columns(target: Target, values: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ItemRefused(f"a {type(values).__name__} is no mapping of value by column", table=target.table.name)
    names = target.names
    try:
        return {names[name]: value for name, value in values.items()}
    except KeyError:
        pass
    unknown = ", ".join(sorted(str(name) for name in values if name not in names))
    raise ItemRefused(f"the table has no column {unknown}", table=target.table.name, column=unknown)


def _names(target: Target, names: str | Iterable[str]) -> tuple[str, ...]:
    wanted = (names,) if isinstance(names, str) else tuple(names)
    return tuple(_columns(target, dict.fromkeys(wanted)))


def _require(values: Mapping[str, Any], columns: Iterable[str], target: Target, problem: str) -> None:
    for column in columns:
        if column not in values:
            raise ItemRefused(f"column {column} {problem}", table=target.table.name, column=column)


def _key(target: Target, key: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Columns and values of a key, in the table's column order, so that equal keys compare equal."""
    if not key:
        raise ItemRefused("a key needs at least one column", table=target.table.name)
    columns = tuple(key) if len(key) == 1 else tuple(column for column in target.table.columns if column in key)
    values = tuple(key[column] for column in columns)
    for column, value in zip(columns, values, strict=True):
        if type(value) in _PLAIN_KEY_TYPES:
            continue
        problem = _key_problem(value, target.table.is_expression)
        if problem:
            raise ItemRefused(f"the key column {column} is {problem}", table=target.table.name, column=column)
    return columns, values


def _key_problem(value: Any, is_expression: Callable[[Any], bool]) -> str | None:
    if value is None:
        return "NULL, which no row equals"
    if is_expression(value):
        return "an SQL expression; a key must be data"
    if not isinstance(value, Hashable):
        return f"a {type(value).__name__}, which cannot be compared with other keys"
    if value != value:
        return "NaN, which equals nothing"
    return None


def _check_delta(target: Target, column: str, delta: Any) -> None:
    """Refuse what cannot be added up: NaN and infinity would swallow the other items' shares."""
    problem = None
    is_number = isinstance(delta, (Decimal, numbers.Real)) and not isinstance(delta, bool)
    if column in target.table.not_addable:
        problem = f"nothing can be added to column {column}, which holds no numbers"
    elif not is_number and not isinstance(delta, timedelta):
        problem = f"a {type(delta).__name__} cannot be added to column {column}"
    elif is_number and not _is_finite(delta):
        problem = f"a number that is not finite cannot be added to column {column}"
    elif is_number and column in target.table.integers and delta % 1:
        problem = f"a fraction cannot be added to column {column}, which holds whole numbers"
    if problem:
        raise ItemRefused(problem, table=target.table.name, column=column)


def _is_finite(number: Any) -> bool:
    if isinstance(number, Decimal):
        return number.is_finite()
    return bool(number - number == 0)
