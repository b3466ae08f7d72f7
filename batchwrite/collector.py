"""What a map function writes to: it records the writes of one item and checks their form. Pure."""

from __future__ import annotations

import numbers
from collections.abc import Hashable, Mapping
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from batchwrite.table import TableInfo, Target

_PLAIN_KEY_TYPES = frozenset({int, str, bytes})

# More shapes than this are made up by a map function for every row: no use keeping them.
_MOST_SHAPES = 1_000


_new_tuple = tuple.__new__  # makes a `Write` in half of the time that its own constructor takes


class Kind(IntEnum):
    """The kinds of write, in the order in which a chunk applies them to one table."""

    INSERT = 0
    UPSERT = 1
    UPDATE = 2
    INCREMENT = 3
    DELETE = 4


_INSERT = Kind.INSERT


class Write(NamedTuple):
    """One wish of one item about one row.

    Attributes:
        kind: What is to be done.
        table: Where.
        data: The row (insert, upsert), the new values (update) or the deltas (increment): by column, or for an
            insert that a collector has recorded a tuple in the order of the shape's columns.
        key_columns: The columns that name the row; empty for an insert.
        key: Their values, in that order.
        set_columns: For an upsert: the columns that change where the row exists.
        missing_ok: For a delete: whether a row that does not exist is fine.
        shape: What the columns of `values` are, in their order, where a collector has recorded the write.
    """

    kind: Kind
    table: TableInfo
    data: dict[str, Any] | tuple[Any, ...]
    key_columns: tuple[str, ...] = ()
    key: tuple[Any, ...] = ()
    set_columns: tuple[str, ...] = ()
    missing_ok: bool = False
    shape: Shape | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The data by column."""
        data = self.data
        if type(data) is dict:
            return data
        assert self.shape is not None  # noqa: S101 - a collector gives both
        return dict(zip(self.shape.columns, data, strict=True))


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

    __slots__ = ("_catalog", "_data", "_is_open", "_known", "_shape", "_skip_reason", "_writes")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[Any, _Known] = {}
        self._writes: list[Write] = []
        # The first write of an item, where it is an insert: shape and values. Mostly there is no other.
        self._shape: Shape | None = None
        self._data: tuple[Any, ...] = ()
        self._skip_reason: str | None = None
        self._is_open = True

    def insert(self, table: Any, row: Mapping[str, Any], /) -> None:
        """Insert a row.

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            row: Value by column; a column left out gets its default.
        """
        if not self._is_open:
            self._require_open()
        try:
            known = self._known[table]
        except (KeyError, TypeError):
            known = self._know(table)
        shape = known.shapes.get(tuple(row)) if type(row) is dict else None
        if shape is None:  # not the usual case, in which rows are alike
            shape, row = known.row(row)
        if self._shape is None and not self._writes:
            self._shape, self._data = shape, tuple(row.values())
        else:
            self._append(Write(_INSERT, shape.table, tuple(row.values()), shape=shape))

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
        known = self._know(table)
        shape, values = known.row(row)
        key_columns, set_columns = known.upsert_columns(shape, key, set)
        key_values = known.key_values(key_columns, values)
        write = (Kind.UPSERT, shape.table, values, key_columns, key_values, set_columns, False, shape)
        self._append(_new_tuple(Write, write))

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
        known = self._know(table)
        shape, new = known.row({**values, **columns} if values else columns)
        if not new:
            raise ItemRefused("an update needs at least one column to set", table=shape.table.name)
        self._append(Write(Kind.UPDATE, shape.table, new, *known.key(key), shape=shape))

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
        known = self._know(table)
        shape, new = known.row({**deltas, **columns} if deltas else columns)
        if not new:
            raise ItemRefused("an increment needs at least one column to add to", table=shape.table.name)
        for column, delta in new.items():
            if type(delta) is not int or column in shape.table.not_addable:
                _check_delta(shape.table, column, delta)
        key_columns, key_values = known.key(key)
        if not new.keys().isdisjoint(key_columns):
            raise ItemRefused("an increment cannot change the columns of its own key", table=shape.table.name)
        write = (Kind.INCREMENT, shape.table, new, key_columns, key_values, (), False, shape)
        self._append(_new_tuple(Write, write))

    def delete(self, table: Any, key: Mapping[str, Any], /, *, missing_ok: bool = False) -> None:
        """Delete one row.

        Args:
            table: A `sqlalchemy.Table` or a mapped class.
            key: Value by column of the columns that name the row.
            missing_ok: Whether a row that does not exist is fine; by default the item fails.
        """
        known = self._know(table)
        self._append(Write(Kind.DELETE, known.target.table, {}, *known.key(key), missing_ok=missing_ok))

    def add(self, instance: Any, /) -> None:
        """Insert the row that an ORM instance stands for.

        Columns are written, relationships are not: add related objects themselves, with their foreign keys set.

        Args:
            instance: An instance of a mapped class (SQLModel included). Attributes never set get their defaults.
        """
        self._require_open()
        for target, row in self._catalog.rows_of(instance):
            known = self._known.get(target.table)
            if known is None:
                known = self._known[target.table] = _Known(target)
            shape, values = known.row(row)
            self._append(Write(_INSERT, shape.table, tuple(values.values()), shape=shape))

    def skip(self, reason: str = "skipped") -> None:
        """Leave the item out on purpose: nothing of it is written, whatever else it records.

        Args:
            reason: Shown in the item's outcome.
        """
        self._require_open()
        self._skip_reason = reason

    def record(self, item: Any, map_item: Callable[[Any, Collector], object]) -> tuple[Shape | None, Any, str | None]:
        """Map one item; for the engine. Nothing is left of an item whose mapping raises.

        Returns:
            The shape and the values of its row, where the item is one plain insert, or else `None` and its writes;
            and the reason given to `skip`.
        """
        self._is_open = True
        try:
            map_item(item, self)
        except BaseException:
            self.take()
            raise
        shape = self._shape
        if shape is None or self._writes or self._skip_reason is not None:
            return None, *self.take()
        self._is_open = False
        self._shape = None
        return shape, self._data, None

    def open(self) -> None:
        """Begin an item; for the engine."""
        self._is_open = True

    def take(self) -> tuple[list[Write], str | None]:
        """End the item: its writes, and the reason given to `skip`; for the engine."""
        self._is_open = False
        if self._shape is not None:
            self._append_first()
        writes, reason = self._writes, self._skip_reason
        self._writes = []
        self._skip_reason = None
        return writes, reason

    def _append(self, write: Write) -> None:
        if self._shape is not None:
            self._append_first()
        self._writes.append(write)

    def _append_first(self) -> None:
        shape, self._shape = self._shape, None
        assert shape is not None  # noqa: S101 - whoever calls this has seen it
        self._writes.append(Write(_INSERT, shape.table, self._data, shape=shape))

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConfigurationError("there is no item to write for: this one has ended")

    def _know(self, table: Any) -> _Known:
        self._require_open()
        try:
            return self._known[table]
        except KeyError:
            known = self._known[table] = _Known(self._catalog.describe(table))
            return known
        except TypeError:  # unhashable: certainly no table; let the catalog say so
            return _Known(self._catalog.describe(table))


class _Known:
    """What has been worked out for one table that a map function names."""

    __slots__ = ("_key_orders", "_upserts", "shapes", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.shapes: dict[tuple[str, ...], Shape] = {}
        self._key_orders: dict[Shape, tuple[str, ...]] = {}
        self._upserts: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def row(self, row: Mapping[str, Any]) -> tuple[Shape, dict[str, Any]]:
        """The shape of a row, and a copy of its values by column."""
        if type(row) is not dict:
            if not isinstance(row, Mapping):
                text = f"a {type(row).__name__} is no mapping of value by column"
                raise ItemRefused(text, table=self.target.table.name)
            row = dict(row)
        names = tuple(row)
        shape = self.shapes.get(names)
        if shape is None:
            shape = self._shape(names)
        return shape, dict(zip(shape.columns, row.values(), strict=True)) if shape.is_renamed else row.copy()

    def _shape(self, names: tuple[str, ...]) -> Shape:
        table = self.target.table
        unknown = ", ".join(sorted(str(name) for name in names if name not in self.target.names))
        if unknown:
            raise ItemRefused(f"the table has no column {unknown}", table=table.name, column=unknown)
        shape = Shape(self.target, names)
        if len(set(shape.columns)) < len(names):
            twice = next(column for column in shape.columns if shape.columns.count(column) > 1)
            raise ItemRefused(f"column {twice} is given twice, under two names", table=table.name, column=twice)
        if len(self.shapes) >= _MOST_SHAPES:
            self.shapes.clear()
            self._key_orders.clear()
            self._upserts.clear()
        self.shapes[names] = shape
        return shape

    def key(self, key: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Columns and values of a key, in the table's column order, so that equal keys compare equal."""
        shape, values = self.row(key)
        columns = self._key_orders.get(shape)
        if columns is None:
            columns = self._in_order(shape.columns)
            self._key_orders[shape] = columns
        return columns, self.key_values(columns, values)

    def _in_order(self, columns: Collection[str]) -> tuple[str, ...]:
        if not columns:
            raise ItemRefused("a key needs at least one column", table=self.target.table.name)
        return tuple(column for column in self.target.table.columns if column in columns)

    def key_values(self, columns: tuple[str, ...], values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of a key's columns, each of which must be one that a row can be found by."""
        key = tuple([values[column] for column in columns])
        for column, value in zip(columns, key, strict=True):
            if type(value) in _PLAIN_KEY_TYPES:
                continue
            table = self.target.table
            problem = _key_problem(value, table.is_expression)
            if problem:
                raise ItemRefused(f"the key column {column} is {problem}", table=table.name, column=column)
        return key

    def upsert_columns(
        self, shape: Shape, key: str | Iterable[str] | None, set_to: str | Iterable[str] | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The columns of an upsert's key, and those that it changes, for what the caller named."""
        asked = (
            shape,
            key if key is None or isinstance(key, str) else tuple(key),
            set_to if set_to is None or isinstance(set_to, str) else tuple(set_to),
        )
        found = self._upserts.get(asked)
        if found is None:
            found = self._upserts[asked] = self._upsert_columns(*asked)
        return found

    def _upsert_columns(
        self, shape: Shape, key: str | tuple[str, ...] | None, set_to: str | tuple[str, ...] | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        table = self.target.table
        key_columns = table.primary_key if key is None else self._names(key)
        if not key_columns:
            problem = "the table has no primary key" if key is None else "key= is empty"
            raise ItemRefused(f"an upsert needs a key, and {problem}", table=table.name)
        if set_to is None:
            set_columns = tuple(column for column in shape.columns if column not in key_columns)
        else:
            set_columns = self._names(set_to)
            self._require(shape, set_columns, "is to be set, but the row gives no value for it")
        self._require(shape, key_columns, "belongs to the key, but the row gives no value for it")
        return self._in_order(key_columns), set_columns

    def _names(self, names: str | tuple[str, ...]) -> tuple[str, ...]:
        wanted = (names,) if isinstance(names, str) else names
        return tuple(self.row(dict.fromkeys(wanted))[1])

    def _require(self, shape: Shape, columns: Iterable[str], problem: str) -> None:
        for column in columns:
            if column not in shape.columns:
                raise ItemRefused(f"column {column} {problem}", table=shape.table.name, column=column)


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


def _check_delta(table: TableInfo, column: str, delta: Any) -> None:
    """Refuse what cannot be added up: NaN and infinity would swallow the other items' shares."""
    problem = None
    is_number = isinstance(delta, (Decimal, numbers.Real)) and not isinstance(delta, bool)
    if column in table.not_addable:
        problem = f"nothing can be added to column {column}, which holds no numbers"
    elif not is_number and not isinstance(delta, timedelta):
        problem = f"a {type(delta).__name__} cannot be added to column {column}"
    elif is_number and not _is_finite(delta):
        problem = f"a number that is not finite cannot be added to column {column}"
    elif is_number and column in table.integers and delta % 1:
        problem = f"a fraction cannot be added to column {column}, which holds whole numbers"
    if problem:
        raise ItemRefused(problem, table=table.name, column=column)


def _is_finite(number: Any) -> bool:
    if isinstance(number, Decimal):
        return number.is_finite()
    return bool(number - number == 0)
