"""Writes, and the shapes that writes are recorded in. Pure.

Writes of one table mostly give the same columns in the same order. What follows from that is worked out once, in a
shape, and not for every write.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from batchwrite.size import row_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchwrite.table import TableInfo, Target


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
        table: The table.
        columns: The columns, by their own names.
        is_renamed: Whether the rows call a column by another name than its own.
    """

    __slots__ = ("_others", "_texts_of", "columns", "is_renamed", "table")

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
