"""What has been worked out for one table that a map function names. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from batchwrite.comparing import exact_number, is_not_itself, whole_number
from batchwrite.errors import ItemRefused
from batchwrite.write import PLAIN_KEY_TYPES, IncrementShape, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from batchwrite.table import TableInfo, Target

# More shapes than this are made up by a map function for every row: no use keeping them.
_MOST_SHAPES = 1_000


class Known:
    """What has been worked out for one table that a map function names."""

    __slots__ = ("_key_orders", "_upserts", "increments", "shapes", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.shapes: dict[tuple[str, ...], Shape] = {}
        # By the names of the key's columns, and of those of the deltas.
        self.increments: dict[tuple[tuple[str, ...], tuple[str, ...]], IncrementShape] = {}
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

    def key_values(self, columns: tuple[str, ...], values: dict[str, Any]) -> tuple[Any, ...]:
        """The values of a key's columns, each of which must be one that a row can be found by.

        A whole number for a column of such becomes an `int`, also among the values.
        """
        key = tuple([values[column] for column in columns])
        if PLAIN_KEY_TYPES.issuperset(map(type, key)):
            return key
        table = self.target.table
        for column, value in zip(columns, key, strict=True):
            problem = _key_problem(value, table.is_expression)
            if problem:
                raise ItemRefused(f"the key column {column} is {problem}", table=table.name, column=column)
            if column in table.integers and type(value) is not bool:
                number = whole_number(value)
                values[column] = value if number is None else number
        return tuple([values[column] for column in columns])

    def increment(self, key: Mapping[str, Any], deltas: dict[str, Any]) -> tuple[IncrementShape, tuple[Any, ...]]:
        """The shape of an increment, and what is recorded of it.

        Raises:
            ItemRefused: It cannot be meant.
        """
        deltas_shape, new = self.row(deltas)
        table = self.target.table
        if not new:
            raise ItemRefused("an increment needs at least one column to add to", table=table.name)
        for column, delta in new.items():
            if type(delta) is not int or column in table.not_addable:
                new[column] = _exact_delta(table, column, delta)
        key_columns, key_values = self.key(key)
        if not new.keys().isdisjoint(key_columns):
            raise ItemRefused("an increment cannot change the columns of its own key", table=table.name)
        names = tuple(key), tuple(deltas)
        shape = self.increments.get(names)
        if shape is None:
            if len(self.increments) >= _MOST_SHAPES:
                self.increments.clear()
            shape = self.increments[names] = IncrementShape(deltas_shape, key_columns, *names, self.target)
        return shape, (*key_values, *new.values())

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
    if is_not_itself(value):
        return "NaN, which equals nothing"
    return None


def _exact_delta(table: TableInfo, column: str, delta: Any) -> Any:
    """What is to be added, as a number or time span of a built-in type.

    Raises:
        ItemRefused: It is none that can be added up: NaN and infinity would swallow the other items' shares.
    """
    exact = exact_number(delta)
    problem = None
    if column in table.not_addable:
        problem = f"nothing can be added to column {column}, which holds no numbers"
    elif exact is None:
        problem = f"a {type(delta).__name__} cannot be added to column {column}"
    elif isinstance(exact, timedelta):
        if column in table.numbers:
            problem = f"a time span cannot be added to column {column}, which holds numbers"
    elif not _is_finite(exact):
        problem = f"a number that is not finite cannot be added to column {column}"
    elif column in table.integers and not _is_whole(exact):
        problem = f"a fraction cannot be added to column {column}, which holds whole numbers"
    if problem:
        raise ItemRefused(problem, table=table.name, column=column)
    return int(exact) if column in table.integers and isinstance(exact, (float, Decimal)) else exact


def _is_finite(number: float | Decimal) -> bool:
    if isinstance(number, int):  # one too large for a float, too
        return True
    return number.is_finite() if isinstance(number, Decimal) else math.isfinite(number)


def _is_whole(number: float | Decimal) -> bool:
    if isinstance(number, Decimal):  # the remainder of one with more digits than the context has is an error
        return number == number.to_integral_value()
    return not number % 1
