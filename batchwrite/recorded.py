"""What the items of a chunk have recorded, kept so that it costs little while nobody looks at it. Pure.

Most items are one row each, and most chunks end as a COPY of such rows, which wants their values by column. So such an
item is kept as its tuple of values, and its `Write` is made when somebody asks for it: an object less for every item
is a fifth of the time that collecting takes, most of it the garbage collector's. An item that is one increment is kept
in the same way: what is sent in the end is a sum for each key, and no increment at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, overload

from batchwrite.write import Write

if TYPE_CHECKING:
    from batchwrite.table import TableInfo
    from batchwrite.write import AnyShape


class Rows(Sequence[Write]):
    """Writes of one shape: inserts of rows, or increments.

    Args:
        shape: The shape.
        data: What is recorded of each: the values of its key, if it has one, and of the shape's columns.
    """

    __slots__ = ("_columns", "data", "shape")

    def __init__(self, shape: AnyShape, data: Sequence[tuple[Any, ...]]) -> None:
        self.shape = shape
        self.data = data
        self._columns: tuple[tuple[Any, ...], ...] | None = None

    @property
    def columns(self) -> tuple[tuple[Any, ...], ...]:
        """The keys and values by column; laid out once."""
        if self._columns is None:
            # Not zip(*data): an iterator for each row sets the garbage collector off, which doubles the time.
            places = range(len(self.shape.key_columns) + len(self.shape.columns))
            self._columns = tuple([tuple(map(itemgetter(place), self.data)) for place in places])
        return self._columns

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Write]:
        return map(self.shape.write_of, self.data)

    @overload
    def __getitem__(self, place: int) -> Write: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> Write | Rows:
        if isinstance(place, slice):
            return Rows(self.shape, self.data[place])
        return self.shape.write_of(self.data[place])

    def in_order(self, places: Sequence[int]) -> Rows:
        """The same writes in another order."""
        return Rows(self.shape, [self.data[place] for place in places])


class Recorded(Sequence[Sequence[Write]]):
    """The writes of each item.

    Args:
        shapes: For an item of one insert or one increment the shape of it, for any other `None`.
        recorded: The values that the shape makes a write of, or the writes of the item.
    """

    __slots__ = ("__weakref__", "_recorded", "_rows", "_shapes")

    def __init__(self, shapes: Sequence[AnyShape | None], recorded: Sequence[Any]) -> None:
        self._shapes = shapes
        self._recorded = recorded
        self._rows: Rows | None = None

    def __len__(self) -> int:
        return len(self._recorded)

    def __iter__(self) -> Iterator[Sequence[Write]]:
        for shape, recorded in zip(self._shapes, self._recorded, strict=True):
            yield recorded if shape is None else [shape.write_of(recorded)]

    @overload
    def __getitem__(self, place: int) -> Sequence[Write]: ...
    @overload
    def __getitem__(self, place: slice) -> Recorded: ...
    def __getitem__(self, place: int | slice) -> Sequence[Write] | Recorded:
        if isinstance(place, slice):
            return Recorded(self._shapes[place], self._recorded[place])
        shape, recorded = self._shapes[place], self._recorded[place]
        writes: Sequence[Write] = recorded if shape is None else [shape.write_of(recorded)]
        return writes

    def only(self, places: Sequence[int]) -> Recorded:
        """The writes of some of the items."""
        return Recorded([self._shapes[place] for place in places], [self._recorded[place] for place in places])

    @property
    def tables(self) -> set[TableInfo]:
        """The tables of all writes."""
        shapes = set(self._shapes)
        tables = {shape.table for shape in shapes if shape is not None}
        if None in shapes:
            for shape, recorded in zip(self._shapes, self._recorded, strict=True):
                if shape is None:
                    tables.update(write.table for write in recorded)
        return tables

    def as_rows(self) -> Rows | None:
        """All writes, where each item is one insert or one increment, and all are of one shape."""
        if self._rows is None:
            shapes = set(self._shapes)
            shape = shapes.pop() if len(shapes) == 1 else None
            self._rows = None if shape is None else Rows(shape, self._recorded)
        return self._rows


def as_rows(items: Sequence[Sequence[Write]]) -> Rows | None:
    """All writes of items, one an item, where they are inserts or increments of one shape and are known to be."""
    return items.as_rows() if isinstance(items, Recorded) else None
