"""Makes the plan of a chunk group by group, without a look at each write: what most chunks allow. Pure.

Writes of one form are laid out by column, and what `planner` asks of each write is asked of columns. Where the answer
is not plainly that all writes fit into one segment, there is no plan from here, and `planner` looks at each write.
"""

from __future__ import annotations

import operator
from decimal import Decimal
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from batchwrite.comparing import PLAIN_TYPES
from batchwrite.plan import Block, Plan, Segment, Step, block_of, sorted_by_key, sorted_by_primary_key
from batchwrite.recorded import Rows, as_rows
from batchwrite.sums import sums_by_key
from batchwrite.write import Kind, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batchwrite.table import ForeignKeyInfo, TableInfo

_Key = tuple[Any, ...]


class _Unsure(Exception):
    """That the writes fit into one segment is not to be seen from their columns."""


class _Group:
    """Writes of one form, and their positions among all of the chunk, ascending."""

    def __init__(self, writes: Sequence[Write], positions: Sequence[int]) -> None:
        self.writes = writes
        self.positions = positions

    @cached_property
    def block(self) -> Block:
        return block_of(self.writes)

    @cached_property
    def keys(self) -> list[_Key]:
        return list(zip(*self.block.keys(), strict=True))

    @property
    def first(self) -> Write:
        return self.writes[0]

    def rows(self, columns: tuple[str, ...]) -> list[_Key]:
        """The values of some columns, a tuple a write; all of the columns must be given."""
        block = self.block
        return list(zip(*[block.values[block.columns.index(column)] for column in columns], strict=True))

    def gives(self, columns: Iterable[str]) -> bool:
        return set(columns).issubset(self.block.columns)

    def has_plain(self, columns: Iterable[str]) -> bool:
        """Whether all values of some columns can be compared."""
        block = self.block
        return all(block.types[block.columns.index(column)] <= PLAIN_TYPES for column in columns)


def columnar_plan(items: Sequence[Sequence[Write]]) -> Plan | None:
    """The plan for the writes of items, or nothing where it cannot be told by columns; as `planner.make_plan`."""
    try:
        tables = [
            _KeyedTable(table, groups) if groups[0].first.kind is not Kind.INSERT else _InsertedTable(table, groups)
            for table, groups in sorted(_grouped(items).items(), key=lambda each: each[0].order)
        ]
        for child in tables:
            for foreign_key in child.table.foreign_keys:
                parents = (other for other in tables if other.table.handle is foreign_key.parent)
                for parent in parents:
                    _require_parents_first(child, foreign_key, parent)
        steps = tuple(step for table in tables for step in table.steps())
    except (_Unsure, TypeError, ArithmeticError):  # or values that cannot be compared, a signalling NaN among them
        return None
    return Plan(segments=(Segment(steps=steps),))


def _grouped(items: Sequence[Sequence[Write]]) -> dict[TableInfo, list[_Group]]:
    """The writes of each table, in groups of one form."""
    rows = as_rows(items)
    if rows:
        return {rows.shape.table: [_Group(rows, range(len(rows)))]}
    forms: dict[Any, tuple[list[Write], list[int]]] = {}
    for position, write in enumerate(chain.from_iterable(items)):
        if write.kind is Kind.DELETE:  # frees what others claim
            raise _Unsure
        form = (write.kind, write.shape or (write.table, *write.values), write.key_columns, write.set_columns)
        group = forms.get(form)
        if group is None:
            group = forms[form] = ([], [])
        group[0].append(write)
        group[1].append(position)
    tables: dict[TableInfo, list[_Group]] = {}
    for writes, positions in forms.values():
        first = writes[0]
        alike: Sequence[Write] = writes
        if first.kind is Kind.INSERT and first.shape is not None:
            alike = Rows(first.shape, [tuple(write.data) for write in writes])
        tables.setdefault(first.table, []).append(_Group(alike, positions))
    return tables


class _Table:
    """What a chunk does to one table."""

    def __init__(self, table: TableInfo, groups: list[_Group]) -> None:
        self.table = table
        self.groups = groups
        if table.is_self_referencing or table.keeps_order:
            raise _Unsure
        for group in groups:
            for values, types in zip(group.block.values, group.block.types, strict=True):
                if not types <= PLAIN_TYPES and any(map(table.dependence_of, values)):
                    raise _Unsure
            if group.first.kind in {Kind.INSERT, Kind.UPSERT} and not group.gives(table.dependent):
                raise _Unsure

    def steps(self) -> Iterator[Step]:
        """The steps, in order."""
        raise NotImplementedError

    def creations(self, columns: tuple[str, ...]) -> dict[_Key, int]:
        """Position of the first write that may create a row, by the row's values in some columns."""
        made: dict[_Key, int] = {}
        for group in self.groups:
            if group.first.kind in {Kind.INSERT, Kind.UPSERT} and group.gives(columns):
                if not group.has_plain(columns):
                    raise _Unsure
                _take_least(made, group.rows(columns), group.positions)
        return made


class _InsertedTable(_Table):
    """A table that gets new rows only."""

    def __init__(self, table: TableInfo, groups: list[_Group]) -> None:
        super().__init__(table, groups)
        if any(group.first.kind is not Kind.INSERT for group in groups):
            raise _Unsure

    def steps(self) -> Iterator[Step]:
        """One step that inserts; sorted where that keeps two writers of the same keys from a deadlock."""
        table, columns = self.table, self.table.primary_key
        if len(self.groups) > 1:
            writes = sorted_by_primary_key(table, [write for _, write in _by_position(self.groups)])
            yield Step(kind=Kind.INSERT, table=table, writes=writes)
            return
        (group,) = self.groups
        block = group.block
        if columns and group.gives(columns) and group.has_plain(columns):
            order = _order(group.rows(columns) if len(columns) > 1 else block.values[block.columns.index(columns[0])])
            if order is not None:
                block = block_of(_in_order(group.writes, order))
        yield Step(kind=Kind.INSERT, table=table, writes=block.writes, block=block)


class _KeyedTable(_Table):
    """A table whose rows are changed, or made if absent, by their keys."""

    def __init__(self, table: TableInfo, groups: list[_Group]) -> None:
        super().__init__(table, groups)
        kinds = [group.first.kind for group in groups]
        self.upserts = [group for group in groups if group.first.kind is Kind.UPSERT]
        self.changes = [group for group in groups if group.first.kind in {Kind.UPDATE, Kind.INCREMENT}]
        if Kind.INSERT in kinds or len(self.changes) > 1 or (self.upserts and Kind.UPDATE in kinds):
            raise _Unsure
        self._require_one_identity()
        for group in groups:
            changed = set(group.first.set_columns if group.first.kind is Kind.UPSERT else group.block.columns)
            if changed & (table.identity_columns | table.unique_columns | set(group.first.key_columns)):
                raise _Unsure
        self.firsts: dict[_Key, int] = {}
        for group in self.upserts:
            _take_least(self.firsts, group.keys, group.positions)
        if self.changes:
            self._require_rows_first(self.changes[0])
        distinct = len(self.firsts.keys() | set(chain.from_iterable(group.keys for group in self.changes)))
        if distinct < sum(len(group.writes) for group in groups):
            self._require_sums()

    def _require_one_identity(self) -> None:
        """Only keys of one identity, in the database's eyes as in Python's, can be told apart."""
        columns = self.groups[0].first.key_columns
        if any(group.first.key_columns != columns for group in self.groups):
            raise _Unsure
        by_column = zip(*[group.block.keys() for group in self.groups], strict=True)
        for column, values in zip(columns, by_column, strict=True):
            if set(map(type, chain.from_iterable(values))) != {self.table.exact.get(column)}:
                raise _Unsure

    def _require_rows_first(self, changes: _Group) -> None:
        """Upserts beside changes must be mere insertions of what is absent, before the first change of the key."""
        if not self.upserts:
            return
        if any(group.first.set_columns for group in self.upserts):
            raise _Unsure
        get = self.firsts.get
        if any(get(key, -1) > position for key, position in zip(changes.keys, changes.positions, strict=True)):
            raise _Unsure

    def _require_sums(self) -> None:
        """Several writes to a key may be one: none is refused, or counted, or seen, that the sum of them hides."""
        table = self.table
        added = [
            column for group in self.changes if group.first.kind is Kind.INCREMENT for column in group.block.columns
        ]
        if not table.converting.isdisjoint(added):
            raise _Unsure
        setting = [group for group in self.upserts if group.first.set_columns]
        if table.counting or len(setting) > 1 or (setting and table.touched):
            raise _Unsure
        for group in self.upserts:
            if not (table.not_null - table.generated).issubset(group.block.columns):
                raise _Unsure
        changed = {column for group in setting for column in group.first.set_columns}
        for group in self.changes:
            changed.update(group.block.columns if group.first.kind is Kind.UPDATE else ())
        if not changed.isdisjoint(table.referring):
            raise _Unsure
        for group in self.groups:
            for column, values, types in zip(group.block.columns, group.block.values, group.block.types, strict=True):
                if type(None) in types and column in table.not_null:
                    raise _Unsure
                if column in changed and not (types <= PLAIN_TYPES and _all_equal_themselves(values, types)):
                    raise _Unsure

    def steps(self) -> Iterator[Step]:
        """A step that makes rows if absent, and one that changes rows."""
        if self.upserts:
            yield Step(kind=Kind.UPSERT, table=self.table, writes=sorted_by_key(self._upserted()))
        for group in self.changes:
            yield _sums(group) if group.first.kind is Kind.INCREMENT else _last(group)

    def _upserted(self) -> Iterable[Write]:
        """One upsert a key: the first row, with what the last has set."""
        by_key = {write.key: write for _, write in reversed(_by_position(self.upserts))}
        for group in self.upserts:
            columns = group.first.set_columns
            if not columns:
                continue
            for write in {write.key: write for write in group.writes}.values():
                first = by_key[write.key]
                if first is not write:
                    later = {column: write.values[column] for column in columns}
                    both = tuple(dict.fromkeys(first.set_columns + columns))
                    by_key[write.key] = first._replace(data=first.values | later, set_columns=both, shape=None)
        return by_key.values()


def _require_parents_first(child: _Table, foreign_key: ForeignKeyInfo, parent: _Table) -> None:
    """No row may refer to one that only a later write creates: the plan would create that one first."""
    created = parent.creations(foreign_key.parent_columns)
    if not created:
        return
    columns = foreign_key.columns
    if not _are_exact(parent.table, foreign_key.parent_columns, created):
        raise _Unsure
    for group in child.groups:
        if group.first.kind not in {Kind.INSERT, Kind.UPSERT}:
            if not set(columns).isdisjoint(group.block.columns):
                raise _Unsure
        elif group.gives(columns):
            if not group.has_plain(columns):
                raise _Unsure
            get = created.get
            rows = group.rows(columns)
            if not _are_exact(child.table, columns, rows):
                raise _Unsure
            if any(get(row, -1) > position for row, position in zip(rows, group.positions, strict=True)):
                raise _Unsure
        elif not child.table.generated.isdisjoint(set(columns).difference(group.block.columns)):
            raise _Unsure  # a column left out is NULL, and refers to nothing, unless the database gives it a value


def _are_exact(table: TableInfo, columns: Sequence[str], rows: Iterable[_Key]) -> bool:
    """Whether all values are NULL, or the same in the database exactly where they are in Python."""
    by_column = zip(columns, zip(*rows, strict=True), strict=True)
    return all({table.exact.get(column), type(None)}.issuperset(map(type, values)) for column, values in by_column)


def _by_position(groups: Sequence[_Group]) -> list[tuple[int, Write]]:
    """The writes of groups, with their positions, in one order."""
    pairs = [list(zip(group.positions, group.writes, strict=True)) for group in groups]
    return pairs[0] if len(pairs) == 1 else sorted(chain.from_iterable(pairs), key=operator.itemgetter(0))


def _take_least(found: dict[_Key, int], keys: Sequence[_Key], positions: Sequence[int]) -> None:
    """Note the first position of each key, unless there is an earlier one."""
    for key, position in dict(zip(reversed(keys), reversed(positions), strict=True)).items():
        if position < found.get(key, position + 1):
            found[key] = position


def _last(group: _Group) -> Step:
    """What the last update of each key sets."""
    first = group.first
    last = dict(zip(group.keys, [write.values for write in group.writes], strict=True))
    writes = [Write(first.kind, first.table, values, first.key_columns, key) for key, values in last.items()]
    return Step(kind=first.kind, table=first.table, writes=sorted_by_key(writes))


def _sums(group: _Group) -> Step:
    """What the increments of each key add up to."""
    first, block = group.first, group.block
    totals = [sums_by_key(group.keys, deltas) for deltas in block.values]
    if isinstance(group.writes, Rows):
        rows = [(*key, *[sums[key] for sums in totals]) for key in sorted(totals[0])]
        block = block_of(Rows(group.writes.shape, rows))
        return Step(kind=first.kind, table=first.table, writes=block.writes, block=block)
    writes = [
        Write(first.kind, first.table, dict(zip(block.columns, added, strict=True)), first.key_columns, key)
        for key, *added in zip(totals[0], *[sums.values() for sums in totals], strict=True)
    ]
    return Step(kind=first.kind, table=first.table, writes=sorted_by_key(writes))


def _all_equal_themselves(values: Sequence[Any], types: frozenset[type]) -> bool:
    """Whether none is NaN."""
    return types.isdisjoint({float, Decimal}) or all(map(operator.eq, values, values))


def _order(keys: Sequence[Any]) -> list[int] | None:
    """Places of rows in the order of their keys; nothing where they are in it, or have none."""
    try:
        if all(map(operator.le, keys, islice(keys, 1, None))):
            return None
        return sorted(range(len(keys)), key=keys.__getitem__)
    except TypeError:  # of types that do not compare
        return None


def _in_order(writes: Sequence[Write], order: Sequence[int]) -> Sequence[Write]:
    return writes.in_order(order) if isinstance(writes, Rows) else [writes[place] for place in order]
