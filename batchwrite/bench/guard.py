"""What CI guards: for each kind of work one comparison, of ours and one peer, whose ratio is the same from run to run.

Therefore there are many short rounds instead of a few long ones, and the peer gets so many rows that it takes about as
long as ours: what takes a moment is at the mercy of that moment.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from batchwrite.bench import ours, sqlite, updates
from batchwrite.bench.peers import CORE, Peer, connected_engine
from batchwrite.bench.peers_postgresql import COPY
from batchwrite.bench.rows import lines
from batchwrite.bench.server import process_of
from batchwrite.bench.table_task import RowsOfOneTable
from batchwrite.bench.tables import lines_table, make_anew
from batchwrite.bench.undisturbed import undisturbed
from batchwrite.bench.workloads import Workload, bad_rows_name
from batchwrite.sinks.ledger import Ledger
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from sqlalchemy import MetaData, Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row
    from batchwrite.bench.task import Bench
    from batchwrite.bench.timing import Comparison, Comparisons, Write

ROWS, RUNS = 10_000, 15
_KEYS = 1_000
_ITEMS_OF_A_RUN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """How much a comparison is of.

    Attributes:
        rows: Share of a workload's rows.
        peer: How many times as many the peer gets.
    """

    rows: float = 1.0
    peer: float

    def of(self, rows: RowsOfOneTable) -> RowsOfOneTable:
        """As many rows as that."""
        return replace(rows, count=max(2, round(rows.count * self.rows)))


# The peers' shares are those that gave both about the same time when this was written.
_CLEAN, _LEDGER = _Load(peer=1.5), _Load(rows=0.5, peer=4)
_INCREMENTS, _SHORT_RUNS = _Load(peer=6), _Load(rows=0.05, peer=5)
_SQLITE_CLEAN, _SQLITE_SHORT_RUNS = _Load(peer=2), _Load(rows=0.1, peer=2)
# Of many bad rows there are few, since the time that they take grows with the square of those in a chunk.
_BAD = {
    0.001: _Load(rows=0.5, peer=3),
    0.01: _Load(peer=2),
    0.1: _Load(rows=0.2, peer=8),
    0.5: _Load(rows=0.05, peer=40),
}
_SQLITE_BAD = {0.01: _Load(rows=0.5, peer=6), 0.1: _Load(rows=0.15, peer=20)}


def on_postgresql(bench: Bench) -> Comparisons:
    """Clean and bad rows, a ledger, increments, and short runs."""
    rows = RowsOfOneTable(place=bench.place, count=bench.settings.rows)
    yield _duel("PostgreSQL, clean rows", rows, _CLEAN, COPY)
    yield _with_ledger("PostgreSQL, with a ledger", rows)
    checked = replace(rows, make_table=partial(lines_table, is_checked=True))
    for share, load in _BAD.items():
        bad = replace(checked, make_rows=partial(lines, bad_share=share))
        yield _duel(f"PostgreSQL, {bad_rows_name(share)}", bad, load, COPY)
    increments = updates.comparison(bench, _KEYS, "", skewed=False, copied=_INCREMENTS.peer)
    yield _of_two(f"PostgreSQL, {updates.name(_KEYS)}", increments)
    yield _short_runs("PostgreSQL", rows, _SHORT_RUNS)


def on_sqlite(bench: Bench) -> Comparisons:
    """Clean and bad rows, and short runs."""
    stored = partial(lines_table, is_plain=True)
    rows = RowsOfOneTable(place=bench.place, count=bench.settings.rows, make_table=stored, make_rows=sqlite.plain_lines)
    yield _duel("SQLite, clean rows", rows, _SQLITE_CLEAN, sqlite.AS_THEY_ARE)
    for share, load in _SQLITE_BAD.items():
        bad = replace(rows, make_rows=partial(sqlite.plain_lines, bad_share=share))
        yield _duel(f"SQLite, {bad_rows_name(share)}", bad, load, sqlite.AS_THEY_ARE)
    yield _short_runs("SQLite", rows, _SQLITE_SHORT_RUNS)


def workloads(names: Collection[str] | None = None) -> list[Workload]:
    """All that is guarded, or the comparisons of these names; where it can be, with times that leave others out."""
    return [replace(each, comparisons=partial(_undisturbed, each, names)) for each in WORKLOADS]


def _undisturbed(workload: Workload, names: Collection[str] | None, bench: Bench) -> Comparisons:
    place = bench.place
    process = process_of(place.url) if place.is_postgresql else None
    is_known = process is not None or not place.is_postgresql
    for comparison in workload.comparisons(bench):
        if names is None or comparison.name in names:
            yield undisturbed(comparison, process) if is_known else comparison


def _duel(name: str, rows: RowsOfOneTable, load: _Load, peer: Peer) -> Comparison:
    peer = replace(peer, share=load.peer)
    return _of_two(name, load.of(rows).comparison("", (peer,), peer.name))


def _of_two(name: str, comparison: Comparison, mine: str = ours.NAME) -> Comparison:
    """One of ours, and the peer that it is compared with."""
    two = {mine, comparison.baseline}
    contenders = [each for each in comparison.contenders if each.name in two]
    return replace(comparison, name=name, contenders=contenders, runs=None)


def _with_ledger(name: str, rows: RowsOfOneTable) -> Comparison:
    ledger = Ledger(schema=rows.place.schema)
    duel = _duel(name, replace(rows, options={"ledger": ledger}), _LEDGER, COPY)

    def with_its_tables(fresh: Callable[[], None], metadata: MetaData) -> None:
        fresh()
        make_anew(rows.place, metadata)

    contenders = [
        replace(each, fresh=partial(with_its_tables, each.fresh, ledger.metadata)) for each in duel.contenders
    ]
    return replace(duel, contenders=contenders)


def _short_runs(database: str, rows: RowsOfOneTable, load: _Load) -> Comparison:
    theirs = replace(_THEIR_SHORT_RUNS, share=load.peer)
    comparison = load.of(rows).comparison("", (_OUR_SHORT_RUNS, theirs), theirs.name)
    return _of_two(f"{database}, runs of {_ITEMS_OF_A_RUN} items", comparison, _OUR_SHORT_RUNS.name)


@contextmanager
def _our_short_runs(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    first, *others = _runs_of(rows)
    with connected_engine(place.url) as engine, BatchWriter(engine) as writer:
        # A writer lives for long: what it asks of the server once is not a run's.
        ours.run(writer, first, ours.inserting(table), len(first))

        def write() -> None:
            for items in others:
                ours.run(writer, items, ours.inserting(table), len(items))

        yield write


@contextmanager
def _their_short_runs(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    first, *others = _runs_of(rows)
    with connected_engine(place.url) as engine:

        def write_run(items: Sequence[Row]) -> None:
            with engine.begin() as connection:
                connection.execute(table.insert(), items)

        def write() -> None:
            for items in others:
                write_run(items)

        write_run(first)
        yield write


def _runs_of(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for begin in range(0, len(rows), _ITEMS_OF_A_RUN):
        yield rows[begin : begin + _ITEMS_OF_A_RUN]


_OUR_SHORT_RUNS = Peer(name=f"{ours.NAME}, a run each {_ITEMS_OF_A_RUN} rows", opened=_our_short_runs)
_THEIR_SHORT_RUNS = Peer(name=f"{CORE.name}, a transaction each {_ITEMS_OF_A_RUN} rows", opened=_their_short_runs)

WORKLOADS = (
    Workload(name="guard", title="what CI guards, on PostgreSQL", comparisons=on_postgresql),
    Workload(
        name="guard-sqlite",
        title="what CI guards, on SQLite",
        comparisons=on_sqlite,
        on_sqlite=True,
        on_postgresql=False,
    ),
)
