"""The writes of a chunk laid out for the server: arrays of texts, and which of their elements are which item's."""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from batchwrite.errors import ItemRefused
from batchwrite.plan import block_of
from batchwrite.recorded import as_rows
from batchwrite.sinks.postgresql.tables import require_fast
from batchwrite.sinks.postgresql.texts import NoFastPath, array_literal
from batchwrite.sinks.sql import FailedAt
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg.abc import Transformer

    from batchwrite.plan import Block
    from batchwrite.sinks.postgresql.tables import FastTable
    from batchwrite.table import TableInfo
    from batchwrite.write import Write


# The block has a piece for each group, and for each pair of parents and children, and asks each group for each item:
# above so many SQLAlchemy's statements are faster. Measured with one bad item of 1,600: 100 groups of parents and
# children 2.5 s (SQLAlchemy's statements 3.0 s), 200 groups 7.3 s (3.5 s), 400 groups 14 s (5.4 s).
_MOST_GROUPS = 100


@dataclass(slots=True)
class Group:
    """Writes of one kind and shape of all items, one after the other.

    Attributes:
        table: The table.
        kind: The kind of write.
        key_columns: The columns of the keys.
        set_columns: For upserts, what changes where the row exists.
        missing_ok: For deletes, whether a missing row is fine.
        writes: The writes.
        items: For each write, the number of its item, from 1.
        names: The columns that are sent: the key's, for what changes rows, and then the values'.
        parameters: Their values, an array of texts each.
        expressions: Columns of new rows that get an SQL expression as their default.
        suspects: Numbers of items with values that the server will hardly take.
        types: The types of the values that the rows themselves give, by column.
    """

    table: FastTable
    kind: Kind
    key_columns: tuple[str, ...]
    set_columns: tuple[str, ...]
    missing_ok: bool
    writes: Sequence[Write] = field(default_factory=list)
    items: Sequence[int] = field(default_factory=list)
    names: tuple[str, ...] = ()
    parameters: list[bytes] = field(default_factory=list)
    expressions: dict[str, str] = field(default_factory=dict)
    suspects: set[int] = field(default_factory=set)
    types: dict[str, frozenset[type]] = field(default_factory=dict)

    @property
    def is_keyed(self) -> bool:
        """Whether it changes rows that exist."""
        return self.kind not in {Kind.INSERT, Kind.UPSERT}

    def tells_apart(self, unique: frozenset[str]) -> bool:
        """Whether the rows' keys in some columns of the database are equal there just where they are in Python."""
        if self.is_keyed:
            return True  # unique columns do not change here
        info, server_name = self.table.info, self.table.server_name
        if unique not in {frozenset(map(server_name, columns)) for columns in info.unique_keys}:
            return False  # the table's definition does not know it: nobody has looked for repeats
        names = {server_name(name): name for name in info.columns}
        for column in unique:
            name = names.get(column)
            if name is None:
                return False
            if name not in self.types:
                if not self.table.server.columns[column].is_numbered:
                    return False  # a default, which many rows may share
            elif not self.types[name] <= self.table.told_apart(name):
                return False  # `1` and `"1"` are one number in the database
        return True

    @property
    def replaces(self) -> bool:
        """Whether these are upserts that set all of a row but its key: of several, the last is what remains."""
        is_whole = set(self.names) == {*self.key_columns, *self.set_columns} and not self.expressions
        return self.kind is Kind.UPSERT and bool(self.set_columns) and is_whole

    @property
    def value_names(self) -> tuple[str, ...]:
        """The columns of the values."""
        return self.names[len(self.key_columns) :] if self.is_keyed else self.names


@dataclass(frozen=True, slots=True)
class Layout:
    """A chunk laid out.

    Attributes:
        groups: The groups, in an order that is every item's own.
        refused: Exceptions of the items that cannot even be sent, by their positions.
    """

    groups: list[Group]
    refused: dict[int, BaseException]


def lay_out(
    items: Sequence[Sequence[Write]],
    table_for: Callable[[TableInfo], FastTable],
    transformer: Transformer,
    check: Callable[[Block], None],
) -> Layout:
    """Lay out the writes of items.

    Args:
        items: The writes of each item.
        table_for: Gives the table to write to.
        transformer: Psycopg's, of the connection.
        check: Refuses values that the database would store as something else.

    Raises:
        NoFastPath: They can only be written through SQLAlchemy.
    """
    refused: dict[int, BaseException] = {}
    while True:
        groups = _grouped(items, refused, table_for)
        more: dict[int, BaseException] = {}
        for group in groups:
            more.update(_fill(group, transformer, check, more))
        if not more:
            return Layout(groups, refused)
        refused.update({number - 1: error for number, error in more.items()})


def _grouped(
    items: Sequence[Sequence[Write]], left_out: dict[int, BaseException], table_for: Callable[[TableInfo], FastTable]
) -> list[Group]:
    rows = None if left_out else as_rows(items)
    if rows:
        shape = rows.shape
        group = Group(table_for(shape.table), shape.kind, shape.key_columns, (), missing_ok=False)
        group.writes, group.items = rows, range(1, len(rows) + 1)
        return [group]
    groups: list[Group] = []
    places: dict[Any, int] = {}
    members: list[list[Write]] = []
    numbers: list[list[int]] = []
    orders: set[tuple[int, ...]] = set()
    for number, writes in enumerate(items, start=1):
        if number - 1 in left_out:
            continue
        order: list[int] = []
        for write in writes:
            columns = write.shape or (write.table, *write.values)
            alike = (write.kind, columns, write.key_columns, write.set_columns, write.missing_ok)
            place = places.get(alike)
            if place is None:
                if len(groups) == _MOST_GROUPS:
                    raise NoFastPath(f"a chunk with bad items has more than {_MOST_GROUPS} kinds of rows")
                place = places[alike] = len(groups)
                members.append([])
                numbers.append([])
                groups.append(
                    Group(table_for(write.table), write.kind, *alike[2:], writes=members[-1], items=numbers[-1])
                )
            members[place].append(write)
            numbers[place].append(number)
            if not order or order[-1] != place:
                order.append(place)
        orders.add(tuple(order))
    return [groups[place] for place in _common_order(orders)]


def _common_order(orders: Iterable[tuple[int, ...]]) -> list[int]:
    """One order that agrees with each of some.

    Raises:
        NoFastPath: There is none.
    """
    before: dict[int, set[int]] = {}
    for order in sorted(orders, key=len):
        if len(set(order)) < len(order):
            raise NoFastPath("an item writes to a table, to another, and to the first again")
        for one, other in zip((None, *order), order, strict=False):
            before.setdefault(other, set()).update(() if one is None else (one,))
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError:
        raise NoFastPath("items write to the same tables in different orders") from None
    ranks = {each: rank for rank, each in enumerate(before)}
    done: list[int] = []
    ready: list[tuple[int, int]] = []
    while sorter.is_active():
        for each in sorter.get_ready():
            heappush(ready, (ranks[each], each))
        _, first = heappop(ready)
        sorter.done(first)
        done.append(first)
    return done


def _fill(
    group: Group,
    transformer: Transformer,
    check: Callable[[Block], None],
    known: dict[int, BaseException],
) -> dict[int, BaseException]:
    """Write the group's values as texts; the items that cannot be, with the reasons."""
    block = block_of(group.writes)
    require_fast(block, is_ordered=False)
    try:
        _fill_with(group, block, transformer, check)
    except NoFastPath:
        raise
    except Exception:  # noqa: BLE001 - whose it is comes out below
        return _culprits(group, transformer, check, known)
    return {}


def _culprits(
    group: Group, transformer: Transformer, check: Callable[[Block], None], known: dict[int, BaseException]
) -> dict[int, BaseException]:
    found: dict[int, BaseException] = {}
    for number, write in zip(group.items, group.writes, strict=True):
        if number in known or number in found:
            continue
        alone = Group(
            group.table, group.kind, group.key_columns, group.set_columns, group.missing_ok, [write], [number]
        )
        try:
            _fill_with(alone, block_of([write]), transformer, check)
        except NoFastPath:
            raise
        except ItemRefused as error:
            found[number] = error
        except Exception as error:  # noqa: BLE001 - it is the item's
            found[number] = FailedAt(write.table)
            found[number].__cause__ = error
    if not found:
        raise NoFastPath("values can be converted one by one, but not together")
    return found


def _fill_with(group: Group, block: Block, transformer: Transformer, check: Callable[[Block], None]) -> None:
    check(block)
    table = group.table
    if group.is_keyed:
        names: tuple[str, ...] = (*group.key_columns, *block.columns)
        values = (*block.keys(), *block.values)
        list(table.touches(block.columns))
    else:
        names, values, group.expressions = table.with_defaults(block)
        if table.is_always_generated(names):
            raise NoFastPath("values are given for a column that the database generates")
        if group.set_columns:
            list(table.touches(group.set_columns))
    group.names = names
    group.types = dict(zip(block.columns, block.types, strict=True))
    group.parameters = []
    for name, each in zip(names, values, strict=True):
        types = frozenset(map(type, each))
        texts = table.texts_of(name, each, types, transformer)
        group.parameters.append(array_literal(texts).encode(transformer.encoding))
        group.suspects.update(group.items[place] for place in table.unlikely(name, each, types))
