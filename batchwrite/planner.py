"""Makes plans: same-key writes aggregated, writes sorted into segments (see `plan` for the rule they keep). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from batchwrite.columnar import columnar_plan
from batchwrite.comparing import PLAIN_TYPES, are_plain, is_not_itself, plain_key
from batchwrite.folding import folded
from batchwrite.plan import Plan, Probe, Segment, Step, sorted_by_key, sorted_by_primary_key
from batchwrite.sums import exact_sum
from batchwrite.table import Dependence
from batchwrite.write import Kind, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from batchwrite.table import ForeignKeyInfo, TableInfo

_UPSERT = Kind.UPSERT


def make_plan(items: Sequence[Sequence[Write]]) -> Plan:
    """The plan for the writes of items, in input order; each item's writes as `plan.in_order` gives them."""
    return columnar_plan(items) or plan_write_by_write(items)


def plan_write_by_write(items: Sequence[Sequence[Write]]) -> Plan:
    """The plan, with a look at each write: what any writes allow; as `make_plan`."""
    segments: list[Segment] = []
    book = _FactBook()
    building = _SegmentBuilder(book)
    for position, write in enumerate(chain.from_iterable(items)):
        dependence = _dependence_of(write)
        if dependence is Dependence.SESSION:
            return _in_order(items)
        if not building.accept(position, write, dependence):
            segments.append(building.finish())
            building = _SegmentBuilder(book)
            building.accept(position, write, dependence)
    segments.append(building.finish())
    return Plan(segments=tuple(segments))


def _in_order(items: Sequence[Sequence[Write]]) -> Plan:
    """Each write by itself: one may depend on which other was carried out right before it."""
    steps = [Step(kind=write.kind, table=write.table, writes=(write,)) for write in chain.from_iterable(items)]
    return Plan(segments=tuple([Segment(steps=(step,)) for step in steps]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What holds for every write of one kind that names the same columns.

    Attributes:
        is_moving: Whether the columns change by which rows are known.
        claims_nothing: Whether unique columns stay as they are: then writes of keys that name different rows may be
            carried out in any order.
    """

    is_moving: bool
    claims_nothing: bool

    @classmethod
    def of(cls, table: TableInfo, key_columns: tuple[str, ...], changed: Collection[str]) -> _Facts:
        """The facts about writes that may change some columns of the rows that a key's columns name."""
        return cls(
            is_moving=not table.identity_columns.isdisjoint(changed) or any(name in changed for name in key_columns),
            claims_nothing=table.unique_columns.isdisjoint(changed),
        )


class _FactBook:
    """The facts about the writes of a chunk; they are worked out once, and not for each write."""

    def __init__(self) -> None:
        self._facts: dict[Any, _Facts] = {}

    def about(self, write: Write) -> _Facts:
        """The facts about a write."""
        kind = write.kind
        # Kinds themselves are slow to look up by; what else is not an upsert is told apart by its columns.
        columns = write.shape or (write.table, *write.values)
        alike = (columns, write.key_columns, write.set_columns, kind is _UPSERT)
        facts = self._facts.get(alike)
        if facts is None:
            changed = () if kind is Kind.INSERT or kind is Kind.DELETE else _changed_columns(write)
            facts = self._facts[alike] = _Facts.of(write.table, write.key_columns, changed)
        return facts


def _dependence_of(write: Write) -> Dependence:
    """What a value of a write depends on, so that what it does depends on its exact moment."""
    table, data = write.table, write.data
    is_new = write.kind is Kind.INSERT or write.kind is Kind.UPSERT
    if table.dependent and is_new and not table.dependent.issubset(write.values):
        return Dependence.SESSION
    values = data.values() if isinstance(data, dict) else data
    if are_plain(values):
        return Dependence.NOTHING
    return max(map(table.dependence_of, values))


def _changed_columns(write: Write) -> Collection[str]:
    """The columns that a write may change in a row that exists."""
    return write.set_columns if write.kind is Kind.UPSERT else write.values


@dataclass(slots=True)
class _KeyState:
    """What a segment does to one key: upsert, then updates, then deltas, then delete."""

    table: TableInfo
    position: int
    upsert: Write | None = None
    updates: dict[str, Any] = field(default_factory=dict)
    deltas: dict[str, Any] = field(default_factory=dict)
    delete: Write | None = None

    def merge(self, write: Write) -> bool:
        """Take one more write to the key; false where it has to come after all that is here."""
        if self.delete is not None or (self.table.counting and (self.upsert or self.updates or self.deltas)):
            return False
        if self.table.touched and write.kind is not Kind.DELETE and not self._keeps_touched(write):
            return False
        if write.kind is Kind.UPSERT:
            return self._merge_upsert(write)
        if write.kind is Kind.UPDATE:
            return self._merge_update(write.values)
        if write.kind is Kind.INCREMENT:
            return self._merge_increment(write.values)
        self.delete = write
        return True

    def _keeps_touched(self, write: Write) -> bool:
        """Whether columns with an `onupdate` still have their values from the last write that touches the row.

        Of `update(a=3)` and `update(n=1)`, where `a` has an `onupdate`, the second sets `a` as well; put together, they
        would leave it at 3. Updates are carried out before increments, so that one that comes after must not name it.
        """
        touched = self.table.touched
        named = touched.intersection(_changed_columns(write))
        before = touched.intersection([*self.updates, *self.deltas])
        is_too_early = bool(named and self.deltas) and write.kind is not Kind.INCREMENT
        return before <= named and not is_too_early

    def _merge_upsert(self, write: Write) -> bool:
        if self.upsert is None and not self.updates and not self.deltas:
            self.upsert = write
            return True
        if not write.table.could_be_inserted(write.values):
            return False  # databases refuse such an upsert even where the row exists
        if self.updates or self.deltas:
            # The row exists, or else those have failed: what is left of the upsert is an update.
            return self._merge_update({column: write.values[column] for column in write.set_columns})
        assert self.upsert is not None  # noqa: S101 - the first branch has set it
        if not write.table.could_be_inserted(self.upsert.values):
            return False
        if not write.set_columns:
            return True  # the row is there already
        if self._hides(self.upsert.values, write.values, write.set_columns):
            return False
        if self.table.touched:
            return False  # the second changes what the first has inserted, and so touches it
        later = {column: write.values[column] for column in write.set_columns}
        self.upsert = self.upsert._replace(
            data=self.upsert.values | later,
            set_columns=tuple(dict.fromkeys(self.upsert.set_columns + write.set_columns)),
            shape=None,
        )
        return True

    def _merge_update(self, values: Mapping[str, Any]) -> bool:
        if not self.deltas.keys().isdisjoint(values) or self._hides(self.updates, values, values):
            return False
        self.updates.update(values)
        return True

    def _hides(self, earlier: Mapping[str, Any], later: Mapping[str, Any], columns: Iterable[str]) -> bool:
        """Whether new values would cover up earlier ones that the database may refuse for more than their own sake."""
        for column in columns:
            if column not in earlier:
                continue
            value = earlier[column]
            if (value is None and column in self.table.not_null) or not are_plain((value,)) or is_not_itself(value):
                return True
            if column in self.table.referring and not (are_plain((later[column],)) and value == later[column]):
                return True
        return False

    def _merge_increment(self, deltas: Mapping[str, Any]) -> bool:
        sums = {}
        for column, delta in deltas.items():
            total = delta
            if column in self.deltas:
                is_converted = column in self.table.converting
                total = None if is_converted else exact_sum(self.deltas[column], delta)
            if total is None:
                return False
            sums[column] = total
        self.deltas.update(sums)
        return True


class _Uncomparable:
    """Stands for a key that Python cannot compare; equal to no other."""

    __slots__ = ("key",)

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key


class _TableState:
    """What a segment does to one table."""

    def __init__(self, table: TableInfo) -> None:
        self.table = table
        self.inserts: list[tuple[int, Write]] = []
        self.keys: dict[tuple[Any, ...] | _Uncomparable, _KeyState] = {}
        # Columns and types of the keys: only keys of one identity can be told apart, or known to be the same.
        self._identity: tuple[tuple[str, ...], tuple[type, ...]] | None = None
        self._is_exact = False  # whether keys of that identity name the same row exactly where they are equal
        self._ordered_kind: Kind | None = None
        self._by_folded: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # keys that are not exact, by what they fold to

    @property
    def is_ordered(self) -> bool:
        return self._ordered_kind is not None or self.table.is_self_referencing or self.table.keeps_order

    def accept(self, position: int, write: Write, facts: _Facts) -> bool:
        """Take one write; false where it has to come after all that is here."""
        if self.table.keeps_order and not self._is_of_one_kind(write):
            return False
        if write.kind is Kind.INSERT:
            if self.keys and not self._is_other_row(write.values):
                return False
            self.inserts.append((position, write))
            return True
        identity = (write.key_columns, tuple(map(type, write.key)))
        is_comparable = PLAIN_TYPES.issuperset(identity[1])
        if self._identity is None:
            self._is_exact = self.table.tells_apart(*identity)
        elif self._identity != identity:
            return False
        if not self._keeps_unique_order(write, facts, is_comparable=is_comparable):
            return False
        self._identity = identity
        key = write.key if is_comparable else _Uncomparable(write.key)
        state = self.keys.get(key)
        if state is None:
            state = self.keys[key] = _KeyState(self.table, position)
        return state.merge(write)

    def _is_of_one_kind(self, write: Write) -> bool:
        """Whether a write is of the kind of all that is here; of keyed ones, each is of another key."""
        if write.kind is Kind.INSERT:
            return not self.keys
        if self.inserts or (self.keys and self._ordered_kind is not write.kind):
            return False
        self._ordered_kind = write.kind
        return True

    def _is_other_row(self, values: Mapping[str, Any]) -> bool:
        """Whether a new row is certainly none of those that keys here name: it is inserted before their turn."""
        assert self._identity is not None  # noqa: S101 - there are keys
        columns, types = self._identity
        key = tuple(values.get(column) for column in columns)
        if tuple(map(type, key)) != types:
            return False
        if self._is_exact:
            return key not in self.keys
        form = folded(self.table, columns, key) if self._ordered_kind is None else None
        return form is not None and form not in self._by_folded

    def _keeps_unique_order(self, write: Write, facts: _Facts, *, is_comparable: bool) -> bool:
        """Whether nothing can go wrong with unique columns that change, or with keys that name the same row.

        Unique values are to be claimed and set free in the items' own order; and keys that differ in Python may name
        one row where the database compares otherwise. Then the table may get writes of this one kind only in a
        segment, each with another key (or one that nobody compares), which are carried out as they came.
        """
        if self._ordered_kind is None:
            if facts.claims_nothing and is_comparable and (self._is_exact or self._tells_apart(write)):
                return True
            if self.keys:
                return False
            self._ordered_kind = write.kind
        return write.kind is self._ordered_kind and not (is_comparable and write.key in self.keys)

    def _tells_apart(self, write: Write) -> bool:
        """Whether a key is certainly none of the others here, or one of them as it stands."""
        form = folded(self.table, write.key_columns, write.key)
        return form is not None and self._by_folded.setdefault(form, write.key) == write.key

    def steps(self) -> Iterator[Step]:
        """The steps before any delete, in order."""
        if self.inserts:
            writes: Sequence[Write] = [write for _, write in self.inserts]
            writes = writes if self.is_ordered else sorted_by_primary_key(self.table, writes)
            yield Step(kind=Kind.INSERT, table=self.table, writes=writes, is_ordered=self.is_ordered)
        yield from self._keyed_step(Kind.UPSERT, (state.upsert for state in self.keys.values()))
        for kind, part in ((Kind.UPDATE, "updates"), (Kind.INCREMENT, "deltas")):
            yield from self._keyed_step(kind, self._writes_of(kind, part))

    def deletes(self) -> Iterator[Step]:
        """The step that deletes, if any."""
        return self._keyed_step(Kind.DELETE, (state.delete for state in self.keys.values()))

    def _writes_of(self, kind: Kind, part: str) -> Iterator[Write]:
        if self._identity is None:
            return
        columns, _ = self._identity
        for key, state in self.keys.items():
            values = getattr(state, part)
            if values:
                yield Write(kind, self.table, values, columns, key.key if isinstance(key, _Uncomparable) else key)

    def _keyed_step(self, kind: Kind, writes: Iterable[Write | None]) -> Iterator[Step]:
        chosen = [write for write in writes if write is not None]
        if chosen:
            ordered = chosen if self.is_ordered else sorted_by_key(chosen)
            yield Step(kind=kind, table=self.table, writes=ordered, is_ordered=self.is_ordered)

    def creations(self, columns: tuple[str, ...]) -> _Creations:
        """What the segment may create, by the rows' values in some columns."""
        made = _Creations()
        upserts = [(state.position, state.upsert) for state in self.keys.values() if state.upsert is not None]
        for position, write in [*self.inserts, *upserts]:
            values = write.values
            if all(column in values for column in columns):  # or else generated, so that no item can refer to it
                made.add(position, [values[column] for column in columns])
        return made

    def referring_rows(self, columns: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, Any], frozenset[str]]]:
        """Position and values of every row that may refer to another, and which columns may hold what is not given."""
        generated = self.table.generated
        for position, write in self.inserts:
            yield position, write.values, generated
        for state in self.keys.values():
            if state.upsert is not None:
                yield state.position, state.upsert.values, generated
            if not state.updates.keys().isdisjoint(columns):
                yield state.position, state.updates, frozenset(columns)


class _Creations:
    """Rows that a segment may create.

    Attributes:
        firsts: Position of the first write that may create a row, by the row's key.
        last: Position of the last write that may create one; -1 for none.
        last_unknown: Likewise, of one whose key Python cannot compare.
    """

    def __init__(self) -> None:
        self.firsts: dict[tuple[Any, ...], int] = {}
        self.last = self.last_unknown = -1

    def add(self, position: int, values: Sequence[Any]) -> None:
        """Take one more row, by its values in the columns of the key."""
        self.last = max(self.last, position)
        key = plain_key(values)
        if key is None:
            self.last_unknown = max(self.last_unknown, position)
        else:
            self.firsts[key] = min(position, self.firsts.get(key, position))


class _SegmentBuilder:
    """Gathers writes for as long as their sorted order is safe.

    Args:
        book: Where facts about the writes are kept.
    """

    def __init__(self, book: _FactBook) -> None:
        self._book = book
        self._tables: dict[TableInfo, _TableState] = {}
        self._deleted: dict[Any, set[TableInfo]] = {}
        self._is_sealed = False

    def accept(self, position: int, write: Write, dependence: Dependence) -> bool:
        """Take one write; false where it must begin a new segment."""
        if self._is_sealed or not self._keeps_delete_order(write):
            return False
        facts = self._book.about(write)
        if facts.is_moving or dependence:  # such a write has a segment of its own
            if self._tables:
                return False
            self._is_sealed = True
        state = self._tables.get(write.table)
        if state is None:
            state = self._tables[write.table] = _TableState(write.table)
        if not state.accept(position, write, facts):
            return False
        if write.kind is Kind.DELETE:
            self._deleted.setdefault(write.table.family, set()).add(write.table)
        return True

    def _keeps_delete_order(self, write: Write) -> bool:
        """Whether nothing that a delete sets free, or takes along by a cascade, is touched before its turn."""
        if not self._deleted:
            return True
        table = write.table
        others = self._deleted.get(table.family, set()) - {table}
        if write.kind is Kind.DELETE:
            return all(table.depth < other.depth for other in others)
        is_deleted = table in self._deleted.get(table.family, ())
        return not others and not (is_deleted and table.is_self_referencing)

    def finish(self) -> Segment:
        """The segment of all that was accepted."""
        states = sorted(self._tables.values(), key=lambda state: state.table.order)
        steps = [step for state in states for step in state.steps()]
        steps += [step for state in reversed(states) for step in state.deletes()]
        probes: list[Probe] = []
        for state in states:
            for foreign_key in state.table.foreign_keys:
                parent = next((other for other in states if other.table.handle is foreign_key.parent), None)
                if parent is None:
                    continue
                needed = _created_too_late(state, foreign_key, parent)
                if needed is None:
                    reason = f"what {state.table.name} refers to in {parent.table.name} is not known beforehand"
                    return Segment(steps=tuple(steps), refusal=reason)
                if needed:
                    probes.append(Probe(table=parent.table, columns=foreign_key.parent_columns, keys=tuple(needed)))
        return Segment(steps=tuple(steps), probes=tuple(probes))


def _created_too_late(
    child: _TableState, foreign_key: ForeignKeyInfo, parent: _TableState
) -> list[tuple[Any, ...]] | None:
    """Keys that a write refers to and only a later one creates; nothing where references cannot be known."""
    created = parent.creations(foreign_key.parent_columns)
    columns = foreign_key.columns
    is_other = _tells_from(created.firsts, parent.table, child.table, foreign_key)
    needed: dict[tuple[Any, ...], None] = {}
    for position, values, unknown in child.referring_rows(columns):
        if position >= created.last:
            continue
        left_out = [column for column in columns if column not in values]
        if not unknown.isdisjoint(left_out):
            return None
        if left_out or any(values[column] is None for column in columns):
            continue  # NULL in part: it refers to nothing
        key = plain_key([values[column] for column in columns])
        if key is None or position < created.last_unknown:  # an expression, or what cannot be compared
            return None
        # Where values that differ here may be equal there, a row never seen may be one that is created later.
        is_known = created.firsts[key] <= position if key in created.firsts else is_other(key)
        if not is_known:
            needed[key] = None
    return list(needed)


def _tells_from(
    created: Collection[tuple[Any, ...]], parent: TableInfo, child: TableInfo, foreign_key: ForeignKeyInfo
) -> Callable[[tuple[Any, ...]], bool]:
    """Tells whether a key is certainly the key of no row that is created."""
    columns, parent_columns = foreign_key.columns, foreign_key.parent_columns
    types = tuple([child.exact.get(column) for column in columns])
    if None not in types and all(parent.tells_apart(parent_columns, map(type, key)) for key in created):
        return lambda key: tuple(map(type, key)) == types
    forms = {folded(parent, parent_columns, key) for key in created}
    if None in forms:
        return lambda _key: False
    return lambda key: (form := folded(child, columns, key)) is not None and form not in forms
