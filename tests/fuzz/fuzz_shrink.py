"""Makes a case smaller for as long as it shows the same kind of finding."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from fuzz_case import Alteration, FuzzCase, FuzzItem, FuzzTable, FuzzWrite, Manner


def shrunk(case: FuzzCase, still_fails: Callable[[FuzzCase], bool], seconds: float = 30) -> FuzzCase:
    """The smallest case that is found within some seconds."""
    end = time.monotonic() + seconds
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in smaller(case):
            if time.monotonic() > end:
                return case
            if still_fails(candidate):
                case, is_smaller = candidate, True
                break
    return case


def smaller(case: FuzzCase) -> Iterator[FuzzCase]:
    """Cases with something less, the largest cuts first."""
    yield from _with_fewer_items(case)
    yield from _with_plainer_manner(case)
    if case.planted:
        yield replace(case, planted=())
    for place in range(len(case.settings)):
        yield replace(case, settings=_without(case.settings, place))
    yield from _with_fewer_tables(case)
    yield from _with_less_of_tables(case)
    yield from _with_fewer_writes(case)
    yield from _with_fewer_columns(case)
    for place in range(len(case.planted)):
        yield replace(case, planted=_without(case.planted, place))
    yield from _with_fewer_values(case)


def _without(parts: tuple, place: int, count: int = 1) -> tuple:
    return parts[:place] + parts[place + count :]


def _with_fewer_items(case: FuzzCase) -> Iterator[FuzzCase]:
    count = len(case.items)
    width = max(1, count // 2)
    while width:
        for place in range(0, count, width):
            if width < count:
                yield replace(case, items=_without(case.items, place, width))
        width //= 2


def _with_plainer_manner(case: FuzzCase) -> Iterator[FuzzCase]:
    manner, plain = case.manner, Manner()
    for name in ("way", "workers", "has_ledger", "fewest_for_copy", "window"):
        if getattr(manner, name) != getattr(plain, name):
            yield replace(case, manner=replace(manner, **{name: getattr(plain, name)}))
    for size in (1, 2, len(case.items)):
        if size < manner.chunk_size:
            yield replace(case, manner=replace(manner, chunk_size=size))


def _with_fewer_tables(case: FuzzCase) -> Iterator[FuzzCase]:
    used = {write.table for item in case.items if not isinstance(item, Alteration) for write in item}
    for table in case.tables:
        is_parent = any(other.parent == table.name for other in case.tables)
        if table.name not in used and not is_parent:
            yield replace(
                case,
                tables=tuple(other for other in case.tables if other is not table),
                planted=tuple(pair for pair in case.planted if pair[0] != table.name),
            )


def _with_less_of_tables(case: FuzzCase) -> Iterator[FuzzCase]:
    for place, table in enumerate(case.tables):
        for less in _less(table):
            yield replace(case, tables=(*case.tables[:place], less, *case.tables[place + 1 :]))


def _less(table: FuzzTable) -> Iterator[FuzzTable]:
    if table.ddl and not table.is_made_by_ddl:
        yield replace(table, ddl=())
    for name in ("parts", "after"):
        parts = getattr(table, name)
        for place in range(len(parts)):
            yield replace(table, **{name: _without(parts, place)})
    for name, source in table.columns.items():
        plain = source.partition(", ")[0]
        if name not in {"id", "p"} and plain != source and plain.count("(") == plain.count(")"):
            yield replace(table, columns={**table.columns, name: plain})


def _with_fewer_writes(case: FuzzCase) -> Iterator[FuzzCase]:
    for place, item in enumerate(case.items):
        if not isinstance(item, Alteration) and len(item) > 1:
            for number in range(len(item)):
                yield _with_item(case, place, _without(item, number))


def _with_item(case: FuzzCase, place: int, item: FuzzItem) -> FuzzCase:
    return replace(case, items=(*case.items[:place], item, *case.items[place + 1 :]))


def _with_fewer_columns(case: FuzzCase) -> Iterator[FuzzCase]:
    """Without a column of a table, and without what writes give for it."""
    for place, table in enumerate(case.tables):
        if table.is_made_by_ddl:
            continue
        for column in table.columns:
            if column == "id":
                continue
            less = replace(
                table,
                columns={name: source for name, source in table.columns.items() if name != column},
                parent=None if column == "p" else table.parent,
            )
            yield replace(
                case,
                tables=(*case.tables[:place], less, *case.tables[place + 1 :]),
                planted=tuple((n, _but(row, column) if n == table.name else row) for n, row in case.planted),
                items=tuple(_item_without(item, table.name, column) for item in case.items),
            )


def _item_without(item: FuzzItem, table: str, column: str) -> FuzzItem:
    if isinstance(item, Alteration):
        return item
    return tuple(_write_without(write, column) if write.table == table else write for write in item)


def _write_without(write: FuzzWrite, column: str) -> FuzzWrite:
    return replace(write, key=_but(write.key, column), values=_but(write.values, column))


def _but(row, column):
    return {name: source for name, source in row.items() if name != column}


def _with_fewer_values(case: FuzzCase) -> Iterator[FuzzCase]:
    for place, item in enumerate(case.items):
        if isinstance(item, Alteration):
            continue
        for number, write in enumerate(item):
            for less in _less_of_write(write):
                yield _with_item(case, place, (*item[:number], less, *item[number + 1 :]))


def _less_of_write(write: FuzzWrite) -> Iterator[FuzzWrite]:
    if write.options:
        yield replace(write, options={})
    if write.method == "add":
        yield replace(write, method="insert")
    for column in write.values:
        if column != "id":
            yield replace(write, values=_but(write.values, column))
    for name in ("key", "values"):
        row = getattr(write, name)
        for column, source in row.items():
            if source not in _PLAIN:
                for plain in _PLAIN:
                    yield replace(write, **{name: {**row, column: plain}})


_PLAIN = ("1", "2", "'a'")
