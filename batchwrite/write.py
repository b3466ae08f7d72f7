"""Writes, and the shapes that writes are recorded in. Pure.

Writes of one table mostly give the same columns in the same order. What follows from that is worked out once, in a
shape, and not for every write.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from batchwrite.size import row_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchwrite.table import TableInfo, Target


class Kind(IntEnum):
    """The kinds of write, in the order in which a chunk applies them to one table."""

    INSERT = 0
    UPSERT = 1
    UPDATE = 2
    INCREMENT = 3
    DELETE = 4


_INSERT, _INCREMENT = Kind.INSERT, Kind.INCREMENT

# Values of these types can be keys, whatever they are.
PLAIN_KEY_TYPES = frozenset({int, str, bytes})


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


# Makes a `Write` of a tuple of all its fields, in half of the time that its own constructor takes.
new_write: Callable[[tuple[Any, ...]], Write] = partial(tuple.__new__, Write)


class Shape:
    """The columns that some rows of a table give, in their order; one object for all such rows of a collector.

    Attributes:
        kind: Of what kind the writes are.
        table: The table.
        key_columns: The columns that name a row: none, it is new.
        columns: The columns, by their own names.
        is_renamed: Whether the rows call a column by another name than its own.
    """

    __slots__ = ("_others", "_texts_of", "columns", "is_renamed", "table")

    kind = Kind.INSERT
    key_columns: tuple[str, ...] = ()

    def __init__(self, target: Target, names: tuple[str, ...]) -> None:
        table = self.table = target.table
        self.columns = tuple(target.names[name] for name in names)
        self.is_renamed = self.columns != names
        # Where texts and byte strings are all there is to measure, because the types of the other columns say that
        # their values are small (one that is large would not fit), they alone are looked at.
        self._texts_of: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None
        texts = [place for place, column in enumerate(self.columns) if column in table.texts]
        self._others = 8 * (len(self.columns) - len(texts))
        if len(texts) > 1 and table.compact.union(table.texts).issuperset(self.columns):
            self._texts_of = itemgetter(*texts)

    def size_of(self, row: tuple[Any, ...]) -> int:
        """Estimated bytes of such a row, given as a tuple: as `row_size`, but faster."""
        if self._texts_of is not None:
            try:
                return sum(map(len, self._texts_of(row))) + self._others
            except TypeError:  # NULL, or no text
                pass
        return row_size(row)

    def write_of(self, row: tuple[Any, ...]) -> Write:
        """The insert of such a row."""
        return new_write((_INSERT, self.table, row, (), (), (), False, self))


class IncrementShape:
    """What some increments of a table have in common; one object for all that a collector gets in the same form.

    Such an increment is recorded as one tuple: the values of its key, then its deltas.

    Args:
        deltas: The columns that are added to.
        key_columns: The columns of the key, in the table's order.
        names: The names that the caller has for the key's columns, in the order in which he gives them.
        delta_names: Those that he has for the columns that are added to.
        target: What he names as the table.

    Attributes:
        kind: Of what kind the writes are.
        table: The table.
        key_columns: The columns of the key.
        columns: The columns that are added to.
    """

    __slots__ = ("_deltas", "_places", "_size", "_whole", "columns", "key_columns", "table")

    kind = Kind.INCREMENT

    def __init__(
        self,
        deltas: Shape,
        key_columns: tuple[str, ...],
        names: tuple[str, ...],
        delta_names: tuple[str, ...],
        target: Target,
    ) -> None:
        self._deltas = deltas
        self._size = 8 * len(deltas.columns)  # as `row_size` has it: what can be added is small
        given = [target.names[name] for name in names]
        self._places = None if given == [*key_columns] else tuple([given.index(column) for column in key_columns])
        self._whole = frozenset(name for name in delta_names if target.names[name] in deltas.table.integers)
        self.table = deltas.table
        self.key_columns = key_columns
        self.columns = deltas.columns

    def recorded(self, key: Mapping[str, Any], deltas: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """An increment as it is recorded, or nothing where its values must be looked at more closely first.

        Args:
            key: Value by name, in the order of `names`.
            deltas: What to add by name, in the order of `delta_names`.
        """
        for value in key.values():
            if type(value) not in PLAIN_KEY_TYPES:
                return None
        for name, delta in deltas.items():
            # To a column of whole numbers a Decimal can be added where it is one, which is looked at elsewhere.
            if type(delta) is not int and (type(delta) is not Decimal or name in self._whole or not delta.is_finite()):
                return None
        if self._places is None:
            return (*key.values(), *deltas.values())
        values = list(key.values())
        return (*[values[place] for place in self._places], *deltas.values())

    def size_of(self, _data: tuple[Any, ...]) -> int:
        """Estimated bytes of an increment: of its deltas, as for any write that names its row by a key."""
        return self._size

    def write_of(self, data: tuple[Any, ...]) -> Write:
        """The increment that has been recorded so."""
        count = len(self.key_columns)
        deltas = dict(zip(self.columns, data[count:], strict=True))
        return new_write((_INCREMENT, self.table, deltas, self.key_columns, data[:count], (), False, self._deltas))


AnyShape = Shape | IncrementShape
