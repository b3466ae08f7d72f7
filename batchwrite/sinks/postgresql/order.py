"""Whether items may be written in another order than their own, where a chunk is written again on the server."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from batchwrite.comparing import are_plain
from batchwrite.planner import make_plan
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from batchwrite.sinks.postgresql.layout import Group, Layout
    from batchwrite.sinks.postgresql.tables import FastTable
    from batchwrite.write import Write


def is_bulk_first(items: Sequence[Sequence[Write]], suspects: Collection[int], layout: Layout) -> bool:
    """Whether those that nothing speaks against may be written before the others: see `fallback`.

    Args:
        items: The writes of all items.
        suspects: Numbers, from 1, of those to be tried by themselves.
        layout: How they are laid out.
    """
    left = [writes for position, writes in enumerate(items) if position not in layout.refused]
    return _is_plain(left, layout) and _keeps_order(items, suspects, layout)


def _is_plain(items: Sequence[Sequence[Write]], layout: Layout) -> bool:
    """Whether one statement a group does what the items do, if it does it at all."""
    for group in layout.groups:
        server = group.table.server
        is_plain = group.kind in {Kind.INSERT, Kind.INCREMENT} or (
            group.kind is Kind.UPSERT and (not group.set_columns or (group.replaces and not _makes_room(group)))
        )
        is_plain = is_plain and not (server.has_triggers or server.has_odd_uniqueness)
        if not is_plain or not all(group.tells_apart(columns) for columns in server.unique):
            return False
    if len(layout.groups) == 1 and layout.groups[0].kind is Kind.INSERT:
        info = layout.groups[0].table.info
        return not (info.is_self_referencing or info.dependent)
    segments = make_plan(items).segments
    return len(segments) == 1 and not segments[0].probes and not segments[0].refusal


def _makes_room(group: Group) -> bool:
    """Whether upserts may set a unique value free, which an item before them has found taken."""
    names = {group.table.server_name(name) for name in group.set_columns}
    return any(not names.isdisjoint(columns) for columns in group.table.server.unique)


def _keeps_order(items: Sequence[Sequence[Write]], suspects: Collection[int], layout: Layout) -> bool:
    """Whether it makes no difference that all but the suspects are written before these, one group after the other.

    The server finds more suspects: any item may be one, and be tried after all those behind it. So of two items that
    make one row, by any unique key, the second is a suspect itself, or the row stands in the way of neither; and no
    row that an item relies on, without making it, is made by an item behind it.

    What a known suspect names, which may well land, must be the same in any order with all that is done behind it.
    """
    if all(group.kind is Kind.INSERT for group in layout.groups):
        return True
    book = _Book(layout.groups)
    try:
        return all(
            book.accept(writes, is_suspect=position + 1 in suspects)
            for position, writes in enumerate(items)
            if position not in layout.refused
        )
    except TypeError:  # a value that cannot be compared with others
        return False


class _Book:
    """What the items so far do, by row.

    Args:
        groups: The groups of the writes.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        upserted = {group.table.regclass for group in groups if group.kind is Kind.UPSERT}
        self._tables = {group.table.info: _Keys.of(group.table, upserted) for group in groups}
        self._suspected: dict[Any, set[Any]] = {}  # what known suspects do
        self._claims: dict[Any, Any] = {}  # how the others make rows
        self._relied_on: set[Any] = set()  # rows that must be there before

    def accept(self, writes: Sequence[Write], *, is_suspect: bool) -> bool:
        """Take the writes of one more item; false where it matters whether those before it are tried later."""
        made: set[Any] = set()
        if not all(are_plain([*write.key, *write.values.values()]) for write in writes):
            return False  # neither what it does nor where can be compared
        for write in writes:
            keys = self._tables[write.table]
            places = list(_places_of(write, keys))
            if not places and write.key_columns:
                return False  # the row that it names is not known
            if write.kind is Kind.INCREMENT:
                relied_on: Sequence[Any] | None = places
            else:
                if not is_suspect and not self._may_make(places, _claim_of(write, keys)):
                    return False
                made.update(places)
                relied_on = _parents_of(write, keys)
            if relied_on is None or not self._keeps_suspects(places, _effect_of(write), is_suspect=is_suspect):
                return False
            self._relied_on.update(place for place in relied_on if place not in made)
        return True

    def _may_make(self, places: Sequence[Any], claim: Any) -> bool:
        """Whether a row stands in the way of no item before, and helps none that relies on an earlier one."""
        return self._relied_on.isdisjoint(places) and all(
            self._claims.setdefault(place, claim) == claim for place in places
        )

    def _keeps_suspects(self, places: Sequence[Any], effect: tuple[Any, ...], *, is_suspect: bool) -> bool:
        """Whether what is done to rows is the same before and after what known suspects do to them."""
        for place in places:
            if is_suspect:
                self._suspected.setdefault(place, set()).add(effect)
            elif place in self._suspected and not _commute(self._suspected[place] | {effect}):
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Keys:
    """How the rows of a table are known; columns by their names in the table, and in the database.

    Attributes:
        table: The table.
        uniques: The columns of each unique key, by both names.
        references: Those of its foreign keys that point at tables with upserts: the parent's name, its columns by
            their names in the database, the table's own columns.
        telling: The columns because of which a row may be refused for what other rows there are.
    """

    table: FastTable
    uniques: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
    references: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]
    telling: frozenset[str]

    @classmethod
    def of(cls, table: FastTable, upserted: Collection[str]) -> _Keys:
        """Those of one table, where some tables get upserts."""
        names = {table.server_name(name): name for name in table.info.columns}
        uniques = [tuple(sorted(unique)) for unique in table.server.unique if unique.issubset(names)]
        references = [
            (parent, sorted(pairs, key=itemgetter(1)))
            for parent, pairs in table.server.references
            if all(own in names for own, _, _ in pairs)
        ]
        columns = [*chain.from_iterable(uniques), *[own for _, pairs in references for own, _, _ in pairs]]
        return cls(
            table,
            uniques=[(tuple([names[column] for column in unique]), unique) for unique in uniques],
            references=[
                (parent, tuple([other for _, other, _ in pairs]), tuple([names[own] for own, _, _ in pairs]))
                for parent, pairs in references
                if parent in upserted
            ],
            telling=frozenset([names[column] for column in columns]),
        )


def _claim_of(write: Write, keys: _Keys) -> tuple[Any, ...]:
    """How a write makes a row: one that is there stands in the way of none with an equal claim.

    An insert is refused for any row with its key. An upsert goes by it, and would not be asked for what only a new row
    is asked for: its parents, and its other unique keys.
    """
    if write.kind is Kind.INSERT:
        return (write.kind,)
    return (write.kind, {column: value for column, value in write.values.items() if column in keys.telling})


def _effect_of(write: Write) -> tuple[Any, ...]:
    """What a write does to a row: equal effects are the same."""
    if write.kind is Kind.UPSERT:
        return (write.kind, write.set_columns, *write.values.items())
    return (write.kind,)


def _commute(effects: set[tuple[Any, ...]]) -> bool:
    """Whether it is the same in which order some things are done to one row: adding, and making it where it is not."""
    others = effects - {(Kind.INCREMENT,)}
    if len(others) > 1 or (Kind.INSERT,) in others:
        return False
    return len(others) == len(effects) or not any(set_columns for _, set_columns, *_ in others)


def _places_of(write: Write, keys: _Keys) -> Iterator[tuple[Any, ...]]:
    """What tells the row that a write names from others: its table, and its values in the columns of a unique key."""
    is_keyed = write.kind is Kind.INCREMENT
    given = dict(zip(write.key_columns, write.key, strict=True)) if is_keyed else write.values
    for columns, names in keys.uniques:
        if all(column in given for column in columns):
            values = [given[column] for column in columns]
            # Of rows that are inserted it is known that their values tell them apart: see `Group.tells_apart`.
            is_known = write.table.tells_apart(columns, map(type, values)) if is_keyed else None not in values
            if is_known:
                yield (keys.table.regclass, names, *values)


def _parents_of(write: Write, keys: _Keys) -> list[tuple[Any, ...]] | None:
    """The rows that a new row refers to, told as by `_places_of`; nothing where that is not known."""
    found = []
    for parent, names, columns in keys.references:
        values = [write.values.get(column) for column in columns]
        if not all(type(value) in keys.table.told_apart(column) for column, value in zip(columns, values, strict=True)):
            return None
        if None not in values:
            found.append((parent, names, *values))
    return found
