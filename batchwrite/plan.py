"""What a flush carries out: few steps that stand for the writes of many items. Pure; `planner` makes plans.

A plan may be carried out in place of the items one by one, in order, because of one rule: **where the whole plan
succeeds, the items one by one would have succeeded too, with the same rows at the end.** Where it fails, its
transaction is undone and the items are written by themselves, so a plan may be stricter than they are, never more
lenient. The one licence is that a key's updates are applied net: what happens to it in between is not seen.

A plan is a sequence of segments, carried out one after the other. In a segment the writes are sorted: tables parents
first, in each table inserts, upserts, updates, increments; then deletes, children first. A write for which that order
could be more lenient than the items' own begins a new segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from batchwrite.comparing import are_plain
from batchwrite.recorded import Rows
from batchwrite.write import Kind, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from batchwrite.table import TableInfo

_depth_of = attrgetter("table.depth")
_key_of = attrgetter("key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Writes that one statement can serve, laid out by column.

    Attributes:
        writes: The writes; they agree in kind, in table, and in all that `columns` and `key_columns` name.
        columns: The columns of their values.
        values: The values: a tuple for each of `columns`, with an element a write.
        types: The types that occur in each of `values`.
    """

    writes: Sequence[Write]
    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    types: tuple[frozenset[type], ...]

    @property
    def table(self) -> TableInfo:
        """The table written to."""
        return self.writes[0].table

    def keys(self) -> list[tuple[Any, ...]]:
        """The keys: a tuple for each of the key's columns, with an element a write."""
        if isinstance(self.writes, Rows):
            return list(self.writes.columns[: len(self.writes.shape.key_columns)])
        return list(zip(*[write.key for write in self.writes], strict=True))


def block_of(writes: Sequence[Write]) -> Block:
    """Lays out writes whose values have the same columns."""
    if isinstance(writes, Rows):
        columns = writes.shape.columns
        values = writes.columns[len(writes.shape.key_columns) :]
    else:
        rows = [write.values for write in writes]
        columns = tuple(rows[0])
        values = tuple([tuple([row[column] for row in rows]) for column in columns])
    return Block(
        writes=writes, columns=columns, values=values, types=tuple([frozenset(map(type, each)) for each in values])
    )


def _served_alike(write: Write) -> Any:
    """Equal for writes of one kind and table that one statement can serve.

    Key sets must not be mixed: SQLAlchemy would compile the statement for the first row's, and drop the others' rest.
    """
    columns = frozenset(write.data if write.shape is None else write.shape.columns)
    return columns, write.key_columns, frozenset(write.set_columns), write.missing_ok


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Writes of one kind to one table.

    Attributes:
        kind: What is to be done.
        table: Where.
        writes: The writes. Their keys are all different, and in the one order of keys unless `is_ordered`.
        is_ordered: Whether the writes must be carried out one after the other as they stand, because the rows have
            other unique columns that the writes change, or refer to each other.
        block: All writes as one block, where the planner has laid them out already.
    """

    kind: Kind
    table: TableInfo
    writes: Sequence[Write]
    is_ordered: bool = False
    block: Block | None = None

    def blocks(self) -> Iterator[Block]:
        """The writes in blocks; neighbours only where their order matters."""
        if self.block is not None:
            yield self.block
            return
        for writes in _gathered(self.writes, _served_alike, is_ordered=self.is_ordered):
            yield block_of(writes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Rows that must exist before a segment, or else its order would be more lenient than the items' own.

    A row that refers to one of them comes from an item before the one that creates it. Where the row exists already
    (the creation is an upsert) that is fine; where not, the earlier item must fail.
    """

    table: TableInfo
    columns: tuple[str, ...]
    keys: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Steps to be carried out in order, once all probes have found their rows.

    Attributes:
        steps: The steps.
        probes: What must exist before.
        refusal: Why no order is known to be safe, and the items must be written one by one.
    """

    steps: tuple[Step, ...]
    probes: tuple[Probe, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a chunk's flush carries out: segments, one after the other."""

    segments: tuple[Segment, ...]

    @property
    def refusal(self) -> str | None:
        """Why the items must be written one by one instead, if they must."""
        return next((segment.refusal for segment in self.segments if segment.refusal), None)


def _gathered(writes: Iterable[Write], alike: Callable[[Write], Any], *, is_ordered: bool) -> Iterator[list[Write]]:
    if is_ordered:
        yield from (list(group) for _, group in groupby(writes, key=alike))
        return
    groups: dict[Any, list[Write]] = {}
    for write in writes:
        groups.setdefault(alike(write), []).append(write)
    yield from groups.values()


def in_order(writes: list[Write]) -> list[Write]:
    """One item's writes in the order that they are carried out when it is written by itself.

    As recorded, but that runs of deletes go children first, and the runs between them parents first. Tables that are
    neither's parent, or that refer to each other, keep the recorded order.
    """
    if len(writes) < 2:
        return writes
    if Kind.DELETE not in [write.kind for write in writes]:
        return _sorted_run(writes)
    ordered: list[Write] = []
    run: list[Write] = []
    for write in writes:
        if run and (run[0].kind is Kind.DELETE) != (write.kind is Kind.DELETE):
            ordered += _sorted_run(run)
            run = []
        run.append(write)
    return ordered + _sorted_run(run)


def _sorted_run(run: list[Write]) -> list[Write]:
    return sorted(run, key=_depth_of, reverse=run[0].kind is Kind.DELETE)


def sorted_by_key(writes: Iterable[Write]) -> list[Write]:
    """Writes in the one order of keys, the same in every process, so that locks are taken in that order."""
    comparable, others = _comparable_first(writes)
    return _sorted(comparable) + others


def each_key_once(writes: Iterable[Write]) -> list[Write]:
    """The last write of each key, in the one order of keys, and all of those whose keys Python cannot compare."""
    comparable, others = _comparable_first(writes)
    return _sorted({write.key: write for write in comparable}.values()) + others


def _comparable_first(writes: Iterable[Write]) -> tuple[list[Write], list[Write]]:
    """The writes whose keys Python can compare, and the others, each in their own order."""
    every = list(writes)
    if are_plain(chain.from_iterable(map(_key_of, every))):
        return every, []
    comparable = [write for write in every if are_plain(write.key)]
    return comparable, [write for write in every if not are_plain(write.key)]


def _sorted(writes: Iterable[Write]) -> list[Write]:
    try:
        return sorted(writes, key=_key_of)
    except (TypeError, ArithmeticError):  # types that do not compare with each other
        return sorted(writes, key=lambda write: repr(write.key))


def sorted_by_primary_key(table: TableInfo, writes: Sequence[Write]) -> Sequence[Write]:
    """By primary key where the rows give it: two writers that insert the same keys then wait, not deadlock."""
    columns = table.primary_key
    if not columns:
        return writes
    try:
        keys = [tuple([write.values[column] for column in columns]) for write in writes]
        if not are_plain(chain.from_iterable(keys)):
            return writes
        return [writes[place] for place in sorted(range(len(keys)), key=keys.__getitem__)]
    except (KeyError, TypeError, ArithmeticError):  # generated by the database, or of types that do not compare
        return writes
