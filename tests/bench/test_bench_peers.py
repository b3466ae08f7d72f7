"""Every peer, on a real server: it writes the rows that it was given, or is told to be not installed."""

from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import text

from batchwrite.bench import ours, retail, sqlite, updates
from batchwrite.bench.peers import COMMIT, CORE, SAVEPOINT, Peer
from batchwrite.bench.peers_postgresql import COPY, EVERY_PEER
from batchwrite.bench.place import SCHEMA, opened_place
from batchwrite.bench.rows import lines
from batchwrite.bench.table_task import RowsOfOneTable
from batchwrite.bench.tables import NotWrittenError, lines_table
from batchwrite.bench.task import Bench, Settings
from batchwrite.bench.timing import compare, missing, timed
from batchwrite.bench.workloads import ROUND_TRIPS, latency, orders_with_lines, wide_rows
from batchwrite.errors import ConfigurationError

pytestmark = pytest.mark.slow

COUNT = 400


@pytest.fixture
def place(postgres_engine):
    with opened_place(postgres_engine.url) as opened:
        yield opened


@pytest.fixture
def sqlite_place(sqlite_engine):
    with opened_place(sqlite_engine.url) as opened:
        yield opened


def measured(comparison):
    """Every contender's rows; those that could not be measured must have a reason that is no failure."""
    found = compare("test", comparison, 1, lambda _text: None)
    assert [each.reason for each in found.absent if each.is_failure] == []
    return {each.contender: each for each in found.measurements}


@pytest.mark.parametrize("peer", EVERY_PEER, ids=lambda peer: peer.name)
def test_a_peer_writes_the_rows_or_is_not_installed(place, peer):
    comparison = RowsOfOneTable(place=place, count=COUNT).comparison("clean rows", [peer])
    contender = comparison.contenders[-1]
    reason = missing(contender)
    if reason is None:
        timed(contender)  # raises where rows are missing
        timed(contender)  # and again: nothing is left over from the first run
    else:
        assert reason.startswith("not installed: ")
        assert [
            each.reason for each in compare("test", comparison, 1, lambda _text: None).absent if not each.is_failure
        ]


def test_a_package_that_is_missing_is_told_and_is_no_failure(place):
    peer = Peer(name="from the future", opened=losing_one, needs=("no_such_package",))
    comparison = RowsOfOneTable(place=place, count=COUNT).comparison("clean rows", [peer])
    found = compare("test", comparison, 1, lambda _text: None)
    assert {each.contender: each.reason for each in found.absent}["from the future"] == "not installed: no_such_package"
    assert not any(each.is_failure for each in found.absent)


@contextmanager
def losing_one(place, table, rows):
    with CORE.opened(place, table, rows[1:]) as write:
        yield write


@contextmanager
def changing_one(place, table, rows):
    with CORE.opened(place, table, [rows[0] | {"quantity": 1_000}, *rows[1:]]) as write:
        yield write


@pytest.mark.parametrize("opened", [losing_one, changing_one])
def test_a_peer_that_does_not_write_what_it_was_given_is_found_out(place, opened):
    comparison = RowsOfOneTable(place=place, count=COUNT).comparison("clean rows", [Peer(name="liar", opened=opened)])
    with pytest.raises(NotWrittenError, match=r"where .* should be"):
        timed(comparison.contenders[-1])


def test_of_bad_rows_the_good_ones_land_and_only_these(place):
    rows = RowsOfOneTable(
        place=place,
        count=COUNT,
        make_table=partial(lines_table, is_checked=True),
        make_rows=partial(lines, bad_share=0.1),
    )
    found = measured(rows.comparison("10 % bad rows", [COPY, SAVEPOINT, COMMIT]))
    assert (found[COPY.name].rows, found[ours.NAME].rows) == (360, 360)
    assert {SAVEPOINT.name, COMMIT.name} < set(found)


@pytest.mark.parametrize("comparisons", [orders_with_lines, wide_rows, updates.comparisons, retail.comparisons])
def test_other_workloads_write_what_they_should(place, comparisons):
    bench = Bench(place=place, settings=Settings(rows=COUNT, runs=1, quick=True))
    for comparison in comparisons(bench):
        assert ours.NAME in measured(comparison)


def test_latency_counts_round_trips(place):
    comparisons = latency(Bench(place=place, settings=Settings(rows=20, runs=1, quick=True)))
    found = measured(next(comparisons))
    comparisons.close()
    assert found[SAVEPOINT.name].extras[ROUND_TRIPS] >= 3 * 20
    assert 1 <= found[COPY.name].extras[ROUND_TRIPS] <= 10


def test_sqlite_is_written_beside_the_module_of_the_standard_library(sqlite_place):
    for comparison in sqlite.comparisons(Bench(place=sqlite_place, settings=Settings(rows=COUNT, runs=1))):
        assert {ours.NAME, sqlite.EXECUTEMANY, CORE.name} <= set(measured(comparison))


def test_the_reference_of_the_retail_file_agrees_with_the_sample():
    landing = retail.landing_lines(retail.read(None, retail.ALL_LINES))
    assert len(landing) == 5_974
    assert sum(int(line.quantity) for line in landing) == 77_723


def test_the_schema_is_gone_afterwards(postgres_engine):
    with opened_place(postgres_engine.url) as place:
        place.metadata()
    with postgres_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}) == 0


def test_what_a_killed_bench_left_behind_is_replaced(postgres_engine):
    with opened_place(postgres_engine.url), postgres_engine.begin() as connection:
        comment = connection.scalar(text(f"SELECT obj_description('{SCHEMA}'::regnamespace)"))
    with postgres_engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA} CREATE TABLE left_over (id int)"))
        connection.execute(text(f"COMMENT ON SCHEMA {SCHEMA} IS '{comment}'"))
    with opened_place(postgres_engine.url):
        pass


def test_somebody_elses_schema_is_left_alone(postgres_engine):
    with postgres_engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA} CREATE TABLE theirs (id int)"))
    with pytest.raises(ConfigurationError, match="has not made"), opened_place(postgres_engine.url):
        pass
    with postgres_engine.connect() as connection:
        assert connection.scalar(text(f"SELECT count(*) FROM {SCHEMA}.theirs")) == 0


def test_two_benches_do_not_share_a_database(postgres_engine):
    with (
        opened_place(postgres_engine.url),
        pytest.raises(ConfigurationError, match="another bench"),
        opened_place(postgres_engine.url),
    ):
        pass
