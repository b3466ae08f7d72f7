"""What a map function writes to: it records the writes of one item and checks their form. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.known import Known
from batchwrite.write import Kind, Write, new_write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batchwrite.table import Target
    from batchwrite.write import AnyShape


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
        self._known: dict[Any, Known] = {}
        self._writes: list[Write] = []
        # The first write of an item, where it is an insert or an increment. Mostly there is no other.
        self._shape: AnyShape | None = None
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
            self._append(shape.write_of(tuple(row.values())))

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
        self._append(new_write(write))

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
        if not self._is_open:
            self._require_open()
        try:
            known = self._known[table]
        except (KeyError, TypeError):
            known = self._know(table)
        new = {**deltas, **columns} if deltas else columns
        shape = known.increments.get((tuple(key), tuple(new))) if type(key) is dict else None
        data = None if shape is None else shape.recorded(key, new)
        if shape is None or data is None:  # not the usual case, in which increments are alike
            shape, data = known.increment(key, new)
        if self._shape is None and not self._writes:
            self._shape, self._data = shape, data
        else:
            self._append(shape.write_of(data))

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
                known = self._known[target.table] = Known(target)
            shape, values = known.row(row)
            self._append(shape.write_of(tuple(values.values())))

    def skip(self, reason: str = "skipped") -> None:
        """Leave the item out on purpose: nothing of it is written, whatever else it records.

        Args:
            reason: Shown in the item's outcome.
        """
        self._require_open()
        self._skip_reason = reason

    def record(
        self, item: Any, map_item: Callable[[Any, Collector], object]
    ) -> tuple[AnyShape | None, Any, str | None]:
        """Map one item; for the engine. Nothing is left of an item whose mapping raises.

        Returns:
            A shape and the values that make it a write, where the item is one insert or one increment, or else `None`
            and its writes; and the reason given to `skip`.
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
        self._writes.append(shape.write_of(self._data))

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConfigurationError("there is no item to write for: this one has ended")

    def _know(self, table: Any) -> Known:
        self._require_open()
        try:
            return self._known[table]
        except KeyError:
            known = self._known[table] = Known(self._catalog.describe(table))
            return known
        except TypeError:  # unhashable: certainly no table; let the catalog say so
            return Known(self._catalog.describe(table))
