"""A run from end to end: every item accounted for."""

import pytest
from generated import contents
from items import ITEMS, METADATA, accounted, counts, ids, write_one
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    insert,
    select,
)

from batchwrite import (
    BatchWriter,
    ConfigurationError,
    OutcomeStatus,
    Stage,
    Status,
)


def test_good_items_are_written(database):
    result = accounted(BatchWriter(database, chunk_size=3).run(range(10), write_one), database)
    assert result.status is Status.SUCCESS
    assert (counts(result), result.chunks, result.fallbacks) == ((10, 0, 0, 0, 0), 4, 0)
    assert ids(database) == list(range(10))


def test_bad_items_are_named_and_the_others_land(database):
    result = accounted(BatchWriter(database).run([1, -2, 3, "x", None, 5], write_one), database)
    assert result.status is Status.PARTIAL_SUCCESS
    assert counts(result) == (3, 2, 1, 0, 0)
    assert [(failure.index, failure.item, failure.stage) for failure in result.failures] == [
        (1, -2, Stage.WRITE),
        (3, "x", Stage.MAP),
    ]
    assert (result.failures[0].table, result.failures[0].constraint) == ("items", "ck_n")
    assert (result.failures[0].attempts, result.failures[1].attempts) == (1, 0)


def test_of_two_items_with_one_key_the_earlier_wins(database):
    result = accounted(BatchWriter(database).run([(1, 10), (1, 20)], write_pair), database)
    assert [failure.index for failure in result.failures] == [1]
    with database.connect() as connection:
        assert connection.scalar(select(ITEMS.c.n)) == 10


def write_pair(pair, out):
    out.insert(ITEMS, {"id": pair[0], "n": pair[1]})


def test_no_items_are_a_success(database):
    result = BatchWriter(database).run([], write_one)
    assert (result.status, result.received, result.chunks) == (Status.SUCCESS, 0, 0)


def test_nothing_landed_is_failed(database):
    assert BatchWriter(database).run([-1, -2], write_one).status is Status.FAILED


def test_an_item_that_writes_nothing_is_skipped(database):
    stream = BatchWriter(database).stream([1], lambda item, out: None)
    assert [(outcome.status, outcome.reason) for outcome in stream] == [(OutcomeStatus.SKIPPED, "nothing to write")]


def test_an_item_that_is_skipped_writes_nothing(database):
    def map_item(item, out):
        out.insert(ITEMS, {"id": item, "n": 1})
        out.skip("not wanted")

    result = accounted(BatchWriter(database).run([1], map_item), database)
    assert counts(result) == (0, 0, 1, 0, 0)


def test_what_map_recorded_before_it_raised_is_not_written(database):
    def map_item(item, out):
        out.insert(ITEMS, {"id": item, "n": 1})
        if item == 1:
            raise ValueError

    result = accounted(BatchWriter(database).run([1, 2], map_item), database)
    assert ids(database) == [2]
    assert counts(result) == (1, 1, 0, 0, 0)


def test_map_is_called_once_an_item_in_order_even_when_chunks_fall_back(database):
    seen = []

    def map_item(item, out):
        seen.append(item)
        write_one(item, out)

    BatchWriter(database, chunk_size=2).run([1, -2, 3, -4, 5], map_item)
    assert seen == [1, -2, 3, -4, 5]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_input_is_read_no_further_ahead_than_a_chunk_beside_those_on_their_way(database, workers):
    ahead = []

    def source():
        for number in range(10):
            ahead.append(number - len(ids(database)))
            yield number

    BatchWriter(database, chunk_size=3, workers=workers).run(source(), write_one)
    assert max(ahead) <= 2 + 3 * workers


def test_an_item_is_whole_across_tables(engine, created):
    metadata = MetaData()
    orders = Table("orders", metadata, Column("id", Integer, primary_key=True))
    lines = Table(
        "lines",
        metadata,
        Column("order_id", ForeignKey("orders.id"), primary_key=True),
        Column("line", Integer, CheckConstraint("line < 3"), primary_key=True),
    )
    stock = Table("stock", metadata, Column("id", Integer, primary_key=True), Column("n", Integer))

    def map_order(order, out):
        number, size = order
        out.insert(orders, {"id": number})
        for line in range(size):
            out.insert(lines, {"order_id": number, "line": line})
            out.increment(stock, {"id": 1}, n=-1)

    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(stock), {"id": 1, "n": 10})
        result = BatchWriter(engine).run([(1, 2), (2, 4), (3, 3)], map_order)
        rows = contents(engine, metadata)
    assert [failure.index for failure in result.failures] == [1]
    assert rows == {
        "orders": [(1,), (3,)],
        "lines": [(1, 0), (1, 1), (3, 0), (3, 1), (3, 2)],
        "stock": [(1, 5)],
    }


def test_a_writer_can_be_used_again(database):
    writer = BatchWriter(database)
    assert writer.run([1, -2], write_one).written == 1
    result = writer.run([3], write_one)
    assert (result.received, result.written, result.failures) == (1, 1, ())


def test_a_run_inside_map_is_a_run_of_its_own(database):
    writer = BatchWriter(database)

    def map_item(item, out):
        assert writer.run([item + 100], write_one).written == 1
        write_one(item, out)

    assert counts(writer.run([1, 2], map_item)) == (2, 0, 0, 0, 0)
    assert ids(database) == [1, 2, 101, 102]


def test_map_finds_all_chunks_before_in_the_database_without_workers(database):
    def map_item(item, out):
        assert len(ids(database)) == item
        write_one(item, out)

    assert BatchWriter(database, chunk_size=1, workers=0).run(range(3), map_item).written == 3


def test_a_url_gives_the_writer_an_engine_of_its_own(tmp_path):
    url = f"sqlite:///{tmp_path / 'own.db'}"
    engine = create_engine(url)
    METADATA.create_all(engine)
    with BatchWriter(url) as writer:
        assert writer.run([1], write_one).written == 1
    assert ids(engine) == [1]
    engine.dispose()


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 0},
        {"chunk_rows": 0},
        {"chunk_bytes": 0},
        {"chunk_seconds": 0},
        {"on_failure": "explode"},
        {"on_failure": "stop", "max_failures": 3},
        {"max_failures": -1},
        {"max_failures": 1.5},
        {"max_failure_ratio": 1.1},
        {"max_failure_ratio": float("nan")},
        {"keep_failures": -1},
    ],
)
def test_an_argument_out_of_range_is_refused(sqlite_engine, options):
    with pytest.raises(ConfigurationError):
        BatchWriter(sqlite_engine, **options)


@pytest.mark.parametrize("database", [None, 5, "", "no url", "sqlite", "nodialect://x", "sqlite+nodriver://"])
def test_what_is_no_database_is_refused(database):
    with pytest.raises(ConfigurationError):
        BatchWriter(database)


@pytest.mark.parametrize("map_item", [None, 5, "name"])
def test_a_map_that_cannot_be_called_is_refused_before_anything_is_read(database, map_item):
    items = iter([1])
    with pytest.raises(ConfigurationError):
        BatchWriter(database).run(items, map_item)
    assert next(items) == 1


async def map_later(item, out):
    out.insert(ITEMS, {"id": item, "n": item})


def map_lazily(item, out):
    yield out.insert(ITEMS, {"id": item, "n": item})


@pytest.mark.parametrize("map_item", [map_later, map_lazily])
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_map_that_would_never_run_is_refused_and_not_taken_for_one_that_writes_nothing(sqlite_engine, map_item):
    METADATA.create_all(sqlite_engine)
    with pytest.raises(ConfigurationError):
        BatchWriter(sqlite_engine).run([1], map_item)
