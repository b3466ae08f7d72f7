"""Whether items may be written in another order than their own, where a chunk is written again on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchwrite.planner import make_plan
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from batchwrite.sinks.postgresql.layout import Layout
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
            group.kind is Kind.UPSERT and (not group.set_columns or group.replaces)
        )
        is_plain = is_plain and not (server.has_triggers or server.has_odd_uniqueness)
        if not is_plain or not all(group.tells_apart(columns) for columns in server.unique):
            return False
    if len(layout.groups) == 1 and layout.groups[0].kind is Kind.INSERT:
        return not layout.groups[0].table.info.is_self_referencing
    segments = make_plan(items).segments
    return len(segments) == 1 and not segments[0].probes and not segments[0].refusal


def _keeps_order(items: Sequence[Sequence[Write]], suspects: Collection[int], layout: Layout) -> bool:
    """Whether it makes no difference that all but the suspects are written before these, one group after the other.

    What items name that a suspect before them names, by any unique key, must be the same in any order; of two that
    insert one key the later is a suspect itself. And no row may be added to before the item that may make it.
    """
    if all(group.kind is Kind.INSERT for group in layout.groups):
        return True
    uniques = {group.table.info: group.table.unique_keys() for group in layout.groups}
    named: dict[Any, set[Any]] = {}  # what suspects do, by row
    made: set[Any] = set()  # rows that others may make
    added: set[Any] = set()  # rows that are added to before that
    try:
        for position, writes in enumerate(items):
            for write in writes if position not in layout.refused else ():
                places = list(_places_of(write, uniques[write.table]))
                if not places and write.key_columns:
                    return False  # the row that it names is not known
                if write.kind is Kind.INCREMENT:
                    added.update(place for place in places if place not in made)
                elif not added.isdisjoint(places):
                    return False
                elif position + 1 not in suspects:
                    made.update(places)
                for place in places:
                    if position + 1 in suspects:
                        named.setdefault(place, set()).add(_effect_of(write))
                    elif place in named and not _commute(named[place] | {_effect_of(write)}):
                        return False
    except TypeError:  # a value that cannot be compared with others
        return False
    return True


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


def _places_of(write: Write, uniques: Sequence[tuple[str, ...]]) -> Iterator[tuple[Any, ...]]:
    """What tells the row that a write names from others: its table, and its values in the columns of a unique key."""
    is_keyed = write.kind is Kind.INCREMENT
    given = dict(zip(write.key_columns, write.key, strict=True)) if is_keyed else write.values
    for columns in uniques:
        if all(column in given for column in columns):
            values = [given[column] for column in columns]
            # Of rows that are inserted it is known that their values tell them apart: see `Group.tells_apart`.
            if not is_keyed or write.table.tells_apart(columns, map(type, values)):
                yield (write.table, columns, *values)
