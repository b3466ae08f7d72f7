"""Which columns rows give, and how much memory they take. Pure.

Rows of one table mostly give the same columns in the same order. What follows from that is worked out once, in a
`Shape`, and not for every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batchwrite.table import Target

_MOST_PARTS = 100_000

_SMALL_TYPES = frozenset({int, float, bool, Decimal, date, datetime, type(None)})


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


def row_size(values: Iterable[Any]) -> int:
    """Estimated bytes of a row's values: the lengths of texts and byte strings, and 8 for any other value."""
    size = 0
    for value in values:
        kind = type(value)
        if kind is str or kind is bytes:
            size += len(value)
        elif kind in _SMALL_TYPES:
            size += 8
        else:
            size += _size(value)
    return size


def _size(value: Any) -> int:
    """Estimated bytes of a value; 8 stands for a number or a date in a row.

    Looks at so many parts at most: what is larger is large, and what holds itself has no end.
    """
    size = 0
    waiting = [value]
    for _ in range(_MOST_PARTS):
        if not waiting:
            break
        part = waiting.pop()
        if isinstance(part, (str, bytes, bytearray, memoryview)):
            size += len(part)
        elif isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple, set, frozenset)):
            waiting.extend(part)
        else:
            size += 8
    return size + 8 * len(waiting)
