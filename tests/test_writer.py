"""A run from end to end: every item accounted for, however the run ends, on SQLite and on PostgreSQL."""

import contextlib
import itertools
import json
import signal
import threading
from dataclasses import dataclass

import pytest
from generated import contents
from hypothesis import given
from hypothesis import strategies as st
from reference import write_sequentially
from sqlalchemy import (
    CHAR,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    NullPool,
    StaticPool,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)

from batchwrite import (
    BatchFailed,
    BatchWriter,
    ConfigurationError,
    OutcomeStatus,
    RetryPolicy,
    RunInterrupted,
    SourceError,
    Stage,
    Status,
)

METADATA = MetaData()
ITEMS = Table(
    "items",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, CheckConstraint("n >= 0", name="ck_n"), nullable=False),
)
AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine


def write_one(number, out):
    """Items below 0 are refused by the database, texts by map, None is skipped."""
    if number is None:
        out.skip("nothing there")
    elif isinstance(number, str):
        raise ValueError(number)
    else:
        out.insert(ITEMS, {"id": abs(number), "n": number})


def ids(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(ITEMS.c.id).order_by(ITEMS.c.id)))


def counts(result):
    return (result.written, result.failed, result.skipped, result.unattempted, result.unknown)


def accounted(result, engine):
    """The result, once its counts are seen to be whole and to agree with the database."""
    assert result.received == sum(counts(result))
    if not result.unknown:
        assert result.written == len(ids(engine))
    assert result.failed == sum(result.failure_counts.values())
    json.dumps(result.to_dict())
    return result


# ---- run


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


def test_input_is_read_no_further_ahead_than_a_chunk(database):
    ahead = []

    def source():
        for number in range(10):
            ahead.append(number - len(ids(database)))
            yield number

    BatchWriter(database, chunk_size=3).run(source(), write_one)
    assert max(ahead) == 2


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


def test_map_may_look_at_the_database(database):
    def map_item(item, out):
        assert len(ids(database)) == item
        write_one(item, out)

    assert BatchWriter(database, chunk_size=1).run(range(3), map_item).written == 3


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


# ---- limits of failures


@dataclass
class Expected:
    written: int = 0
    failed: int = 0
    skipped: int = 0


def expected_of(items, most):
    """What a run that stops at the item that exceeds the limit has done."""
    expected = Expected()
    for number in items:
        if number is None:
            expected.skipped += 1
        elif isinstance(number, str) or number < 0:
            expected.failed += 1
        else:
            expected.written += 1
        if expected.failed > most:
            break
    return expected


KINDS = st.lists(st.sampled_from(["good", "good", "refused", "raises", "skipped"]), max_size=25)


def numbered(kinds):
    made = {"good": lambda n: n, "refused": lambda n: -n, "raises": str, "skipped": lambda n: None}
    return [made[kind](number) for number, kind in enumerate(kinds, 1)]


@given(kinds=KINDS, most=st.integers(0, 4), chunk_size=st.integers(1, 12))
def test_max_failures_is_exact_to_the_item_and_independent_of_the_chunk(
    shared_engine, created, kinds, most, chunk_size
):
    items = numbered(kinds)
    expected = expected_of(items, most)
    with created(shared_engine, METADATA):
        result = BatchWriter(shared_engine, chunk_size=chunk_size, max_failures=most).run(items, write_one)
        accounted(result, shared_engine)
    assert (result.written, result.failed, result.skipped) == (expected.written, expected.failed, expected.skipped)
    assert (result.status is Status.ABORTED) == (expected.failed > most)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 100])
def test_a_map_failure_after_a_refused_item_ends_the_run_before_the_next(database, chunk_size):
    writer = BatchWriter(database, max_failures=1, chunk_size=chunk_size)
    result = accounted(writer.run([-1, "x", 3], write_one), database)
    assert (result.written, result.failed) == (0, 2)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
@pytest.mark.parametrize("bad", [-3, "3"])
def test_on_failure_stop_ends_the_run_at_the_first(database, chunk_size, bad):
    writer = BatchWriter(database, on_failure="stop", chunk_size=chunk_size)
    result = accounted(writer.run([1, 2, bad, 4, 5], write_one), database)
    assert (result.status, result.written, result.failed) == (Status.ABORTED, 2, 1)
    assert result.abort.reason == "failure_limit"
    assert ids(database) == [1, 2]


def test_a_limit_is_exact_although_commit_finds_what_is_wrong(engine, created):
    metadata = MetaData()
    key = ForeignKey("node.id", deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    rows = [{"id": 1, "p": 99}, {"id": 2}, {"id": 2}, {"id": 3}, {"id": 3}, {"id": 4}]
    with created(engine, metadata):
        writer = BatchWriter(engine, max_failures=3)
        result = writer.run(rows, lambda row, out: out.insert(node, row))
    assert counts(result) == (3, 3, 0, 0, 0)
    assert [failure.index for failure in result.failures] == [0, 2, 4]


def test_a_share_of_failures_ends_the_run_after_the_chunk(database):
    writer = BatchWriter(database, chunk_size=4, max_failure_ratio=0.25)
    result = accounted(writer.run([1, -2, 3, 4, -5, -6, 7, 8, 9], write_one), database)
    assert counts(result) == (5, 3, 0, 0, 0)
    assert result.abort.reason == "failure_limit"


def test_a_share_of_1_never_ends_a_run(database):
    writer = BatchWriter(database, chunk_size=2, max_failure_ratio=1)
    assert writer.run([-1, -2, -3, 4], write_one).status is Status.PARTIAL_SUCCESS


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("chunk_size", [2, 100])
def test_failures_kept_are_bounded_and_the_counts_exact(database, kept, chunk_size):
    writer = BatchWriter(database, keep_failures=kept, chunk_size=chunk_size)
    result = accounted(writer.run([-1, 2, "x", -4, -5], write_one), database)
    assert result.failed == 4
    assert [failure.index for failure in result.failures] == [0, 2, 3, 4][:kept]
    assert sorted(result.failure_counts.values()) == [1, 3]


def test_reasons_kept_are_bounded(database):
    def map_item(item, out):
        raise type(f"Error{item}", (Exception,), {})

    result = BatchWriter(database).run(range(1_500), map_item)
    assert len(result.failure_counts) <= 1_001
    assert sum(result.failure_counts.values()) == result.failed == 1_500


# ---- what ends a run early


class Boom(Exception):
    """Raised by a source."""


def failing_after(items, error):
    yield from items
    raise error


def test_a_source_that_raises_ends_the_run_with_its_result(database):
    with pytest.raises(SourceError) as caught:
        BatchWriter(database, chunk_size=2).run(failing_after([1, 2, 3], Boom("x")), write_one)
    assert isinstance(caught.value.__cause__, Boom)
    result = accounted(caught.value.result, database)
    assert counts(result) == (2, 0, 0, 1, 0)
    assert (result.status, result.abort.reason, result.abort.error_type) == (Status.ABORTED, "source", "Boom")


@pytest.mark.parametrize("error", [StopIteration(), RuntimeError("x"), MemoryError()])
def test_a_source_may_raise_anything(database, error):
    class Source:
        def __init__(self):
            self.left = [1, 2]

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise error
            return self.left.pop()

    writer = BatchWriter(database)
    if isinstance(error, StopIteration):
        assert writer.run(Source(), write_one).written == 2
        return
    with pytest.raises(SourceError) as caught:
        writer.run(Source(), write_one)
    assert counts(caught.value.result) == (0, 0, 0, 2, 0)


def test_a_keyboard_interrupt_in_map_ends_the_run_with_its_result(database):
    def map_item(item, out):
        if item == 3:
            raise KeyboardInterrupt
        write_one(item, out)

    with pytest.raises(RunInterrupted) as caught:
        BatchWriter(database, chunk_size=2).run([0, 1, 2, 3, 4], map_item)
    result = accounted(caught.value.result, database)
    assert counts(result) == (2, 0, 0, 2, 0)
    assert result.abort.reason == "interrupted"


def test_a_keyboard_interrupt_in_the_source_ends_the_run_with_its_result(database):
    with pytest.raises(RunInterrupted) as caught:
        BatchWriter(database, chunk_size=2).run(failing_after([1, 2, 3], KeyboardInterrupt()), write_one)
    assert counts(accounted(caught.value.result, database)) == (2, 0, 0, 1, 0)


@contextlib.contextmanager
def on_statement(engine, word, action):
    """Do something before the first statement that contains a word."""
    done = threading.Event()

    def before(connection, cursor, statement, parameters, context, executemany):
        if word in statement and not done.is_set():
            done.set()
            action()

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield done
    finally:
        event.remove(engine, "before_cursor_execute", before)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def interrupt_twice():
    interrupt()
    interrupt()


@pytest.mark.parametrize("items", [[1, 2, 3, 4], [1, -2, 3, 4]])
def test_ctrl_c_in_the_middle_of_a_flush_lets_the_chunk_end(database, items):
    with on_statement(database, "INSERT", interrupt) as done, pytest.raises(RunInterrupted) as caught:
        BatchWriter(database, chunk_size=2).run(items, write_one)
    assert done.is_set()
    result = accounted(caught.value.result, database)
    assert (result.received, result.unattempted) == (2, 0)
    assert result.abort.reason == "interrupted"


@pytest.mark.parametrize("items", [[1, 2, 3, 4], [1, -2, 3, 4]])
def test_ctrl_c_twice_in_the_middle_of_a_flush_undoes_the_chunk(database, items):
    with on_statement(database, "INSERT", interrupt_twice), pytest.raises(RunInterrupted) as caught:
        BatchWriter(database, chunk_size=2).run(items, write_one)
    result = accounted(caught.value.result, database)
    assert counts(result) == (0, 0, 0, 2, 0)


def test_ctrl_c_in_the_fallback_lets_the_chunk_end(database):
    with on_statement(database, "SAVEPOINT", interrupt), pytest.raises(RunInterrupted) as caught:
        BatchWriter(database, chunk_size=2).run([1, -2, 3, 4], write_one)
    assert counts(accounted(caught.value.result, database)) == (1, 1, 0, 0, 0)


def test_ctrl_c_while_the_last_chunk_is_flushed_still_ends_the_run(database):
    with on_statement(database, "INSERT", interrupt), pytest.raises(RunInterrupted) as caught:
        BatchWriter(database).run([1, 2], write_one)
    assert counts(accounted(caught.value.result, database)) == (2, 0, 0, 0, 0)


def test_the_handler_of_ctrl_c_is_restored(database):
    before = signal.getsignal(signal.SIGINT)
    with on_statement(database, "INSERT", interrupt), pytest.raises(RunInterrupted):
        BatchWriter(database).run([1], write_one)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_at_commit_is_raised_and_the_chunk_unknown(database):
    """As a second Ctrl-C may come while COMMIT waits for its answer."""

    def at_commit(connection):
        raise KeyboardInterrupt

    event.listen(database, "commit", at_commit)
    try:
        with pytest.raises(RunInterrupted) as caught:
            BatchWriter(database, chunk_size=2).run([1, 2, 3], write_one)
    finally:
        event.remove(database, "commit", at_commit)
    result = caught.value.result
    assert counts(result) == (0, 0, 0, 0, 2)
    assert (result.status, result.abort.reason) == (Status.UNKNOWN, "interrupted")


def test_system_exit_goes_through(database):
    def map_item(item, out):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        BatchWriter(database).run([1], map_item)


# ---- stream


def test_a_stream_gives_one_outcome_an_item_in_order(database):
    stream = BatchWriter(database, chunk_size=2).stream([1, -2, None, "x", 5], write_one)
    assert [(outcome.index, outcome.item, str(outcome.status)) for outcome in stream] == [
        (0, 1, "written"),
        (1, -2, "failed"),
        (2, None, "skipped"),
        (3, "x", "failed"),
        (4, 5, "written"),
    ]
    assert counts(accounted(stream.result, database)) == (2, 2, 1, 0, 0)


def test_an_outcome_of_written_is_committed(database):
    for outcome in BatchWriter(database, chunk_size=2).stream(range(6), write_one):
        assert outcome.item in ids(database)


def test_a_stream_does_nothing_before_it_is_iterated_over(database):
    items = iter([1])
    stream = BatchWriter(database).stream(items, write_one)
    assert next(items) == 1
    assert stream.result.received == 0


@given(kinds=KINDS, chunk_size=st.integers(1, 6), stop_after=st.integers(0, 25), most=st.none() | st.integers(0, 3))
def test_outcomes_and_counts_agree_even_if_the_stream_is_stopped(
    shared_engine, created, kinds, chunk_size, stop_after, most
):
    with created(shared_engine, METADATA):
        stream = BatchWriter(shared_engine, chunk_size=chunk_size, max_failures=most).stream(numbered(kinds), write_one)
        outcomes = []
        for outcome in stream:
            outcomes.append(outcome)
            if len(outcomes) == stop_after:
                stream.stop()
        result = accounted(stream.result, shared_engine)
    assert [outcome.index for outcome in outcomes] == list(range(result.received))
    for name in ("written", "failed", "skipped", "unattempted"):
        assert sum(outcome.status == name for outcome in outcomes) == getattr(result, name)


def test_a_stream_that_is_not_read_to_its_end_counts_the_rest(database):
    stream = BatchWriter(database, chunk_size=2).stream(range(10), write_one)
    next(stream)
    assert counts(accounted(stream.result, database)) == (2, 0, 0, 0, 0)
    del stream
    assert ids(database) == [0, 1]


def test_a_closed_stream_is_aborted_by_its_caller(database):
    stream = BatchWriter(database, chunk_size=2).stream(range(10), write_one)
    next(stream)
    stream.__iter__().close()
    assert stream.result.abort.reason == "caller"


def test_a_stream_raises_after_the_outcomes_of_all_items_received(database):
    stream = BatchWriter(database, chunk_size=2).stream(failing_after([1, 2, 3], Boom()), write_one)
    outcomes = []
    with pytest.raises(SourceError):
        outcomes.extend(stream)
    assert [str(outcome.status) for outcome in outcomes] == ["written", "written", "unattempted"]


def test_a_keyboard_interrupt_in_the_consumer_leaves_right_counts(database):
    stream = BatchWriter(database, chunk_size=2).stream(range(10), write_one)
    with contextlib.suppress(KeyboardInterrupt):
        for outcome in stream:
            if outcome.index == 2:
                raise KeyboardInterrupt
    assert counts(accounted(stream.result, database)) == (4, 0, 0, 0, 0)


def test_ctrl_c_between_outcomes_is_delivered(database):
    stream = BatchWriter(database, chunk_size=2).stream(range(10), write_one)
    interrupts = (interrupt() for _ in stream)
    with pytest.raises(KeyboardInterrupt):
        next(interrupts)
    assert accounted(stream.result, database).written == 2


# ---- collect


def test_a_batch_takes_items_one_by_one(database):
    with BatchWriter(database, chunk_size=2).collect() as batch:
        for number in (1, -2, 3):
            with batch.item(number) as out:
                write_one(number, out)
    result = accounted(batch.result, database)
    assert counts(result) == (2, 1, 0, 0, 0)
    assert result.failures[0].item == -2


def test_an_exception_in_an_items_block_is_that_items_failure(database):
    with BatchWriter(database).collect() as batch:
        with batch.item("a") as out:
            out.insert(ITEMS, {"id": 1, "n": 1})
            raise ValueError
        with batch.item("b") as out:
            out.insert(ITEMS, {"id": 2, "n": 1})
    assert counts(accounted(batch.result, database)) == (1, 1, 0, 0, 0)
    assert batch.result.failures[0].stage is Stage.MAP


def batch_of_three_then_boom(batch):
    for number in (1, 2, 3):
        with batch.item(number) as out:
            write_one(number, out)
    raise Boom


def test_an_exception_between_items_ends_the_batch(database):
    batch = BatchWriter(database, chunk_size=2).collect()
    with pytest.raises(Boom), batch:
        batch_of_three_then_boom(batch)
    assert counts(accounted(batch.result, database)) == (2, 0, 0, 1, 0)
    assert batch.result.abort.reason == "caller"


def test_items_do_not_nest(database):
    with BatchWriter(database).collect() as batch, batch.item(1) as out:
        out.insert(ITEMS, {"id": 1, "n": 1})
        with pytest.raises(ConfigurationError), batch.item(2):
            pass
    assert counts(accounted(batch.result, database)) == (1, 0, 0, 0, 0)


def test_an_item_needs_an_open_batch(database):
    batch = BatchWriter(database).collect()
    with pytest.raises(ConfigurationError), batch.item(1):
        pass
    with batch:
        pass
    with pytest.raises(ConfigurationError), batch.item(1):
        pass


def test_a_batch_is_opened_once(database):
    batch = BatchWriter(database).collect()
    with batch, batch.item(1) as out:
        write_one(1, out)
    with pytest.raises(ConfigurationError), batch:
        pass


def test_a_batch_over_its_limit_takes_no_more(database):
    with BatchWriter(database, on_failure="stop").collect() as batch:
        with batch.item(1):
            raise ValueError
        with pytest.raises(BatchFailed) as caught, batch.item(2):
            pass
    assert caught.value.result.abort.reason == "failure_limit"
    assert counts(accounted(batch.result, database)) == (0, 1, 0, 0, 0)


def test_an_interrupt_in_an_item_ends_the_batch_even_where_it_is_caught(database):
    with BatchWriter(database, chunk_size=1).collect() as batch:
        with batch.item(0) as out:
            out.insert(ITEMS, {"id": 5, "n": 1})
        with contextlib.suppress(KeyboardInterrupt), batch.item(1) as out:
            out.insert(ITEMS, {"id": 1, "n": 1})
            raise KeyboardInterrupt
        with pytest.raises(BatchFailed, match="interrupted"), batch.item(2):
            pass
    assert ids(database) == [5]
    assert counts(batch.result) == (1, 0, 0, 1, 0)
    assert batch.result.abort.reason == "interrupted"


def test_a_keyboard_interrupt_ends_a_batch(database):
    batch = BatchWriter(database).collect()
    with contextlib.suppress(KeyboardInterrupt), batch, batch.item(1) as out:
        write_one(1, out)
        raise KeyboardInterrupt
    assert counts(accounted(batch.result, database)) == (0, 0, 0, 1, 0)
    assert batch.result.abort.reason == "interrupted"


def test_ctrl_c_while_a_batch_writes_its_rest_is_delivered_and_said(database):
    batch = BatchWriter(database).collect()
    with on_statement(database, "INSERT", interrupt), pytest.raises(KeyboardInterrupt), batch, batch.item(1) as out:
        write_one(1, out)
    assert counts(accounted(batch.result, database)) == (1, 0, 0, 0, 0)
    assert batch.result.abort.reason == "interrupted"


def test_the_collector_of_an_item_that_has_ended_takes_no_more(database):
    with BatchWriter(database).collect() as batch:
        with batch.item(1) as early:
            early.insert(ITEMS, {"id": 1, "n": 1})
        with contextlib.suppress(Exception):
            early.insert(ITEMS, {"id": 7, "n": 1})
        with batch.item(2) as out:
            out.insert(ITEMS, {"id": 2, "n": -1})
        with batch.item(3) as out:
            out.insert(ITEMS, {"id": 3, "n": 1})
    assert ids(database) == [1, 3]
    assert batch.result.written == 2


# ---- weather


def kill_others(engine):
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.fixture
def killer(postgres):
    """Kills all other connections to the database."""
    other = create_engine(postgres.url, poolclass=NullPool)
    yield lambda: kill_others(other)
    other.dispose()


@pytest.mark.parametrize("items", [[1, 2, 3, 4], [1, -2, 3, -4]])
def test_a_connection_killed_between_chunks_costs_nothing(postgres, killer, items):
    def map_item(item, out):
        if abs(item) == 3:
            killer()
        write_one(item, out)

    result = accounted(BatchWriter(postgres, chunk_size=2, retry=AT_ONCE).run(items, map_item), postgres)
    assert result.written == sum(item > 0 for item in items)
    assert result.abort is None


@pytest.mark.parametrize("word", ["INSERT", "SAVEPOINT", "RELEASE", "ROLLBACK TO"])
def test_a_connection_killed_inside_a_chunk_costs_nothing(postgres, killer, word):
    with on_statement(postgres, word, killer) as done:
        result = BatchWriter(postgres, chunk_size=4, retry=AT_ONCE).run([1, -2, 3, 4, 5], write_one)
    accounted(result, postgres)
    assert (result.written, result.failed) == (4, 1)
    assert done.is_set() or word in {"SAVEPOINT", "RELEASE", "ROLLBACK TO"}


def test_savepoints_are_seen_by_the_test_above(postgres):
    """SQLAlchemy sends SAVEPOINT as a statement like any other; or else the kills above would not happen."""
    with on_statement(postgres, "SAVEPOINT", lambda: None) as done:
        BatchWriter(postgres).run([1, -2], write_one)
    assert done.is_set()


def execute_script(engine, script):
    with engine.begin() as connection:
        connection.exec_driver_sql(script)


@pytest.fixture
def killed_at_second_commit(postgres, killer):
    """The connection is killed when everything is written and COMMIT is about to be sent."""
    commits = itertools.count(1)
    event.listen(postgres, "commit", lambda _connection: killer() if next(commits) == 2 else None)


@pytest.mark.usefixtures("killed_at_second_commit")
def test_a_commit_without_an_answer_makes_a_chunk_unknown(postgres):
    result = BatchWriter(postgres, chunk_size=2, retry=AT_ONCE).run([1, 2, 3, "x", 5, 6], write_one)
    assert counts(accounted(result, postgres)) == (2, 1, 0, 0, 1)
    assert (result.status, result.abort.reason) == (Status.UNKNOWN, "in_doubt")
    assert result.chunks == 1


@pytest.mark.usefixtures("killed_at_second_commit")
def test_a_stream_says_which_items_are_unknown(postgres):
    outcomes = list(BatchWriter(postgres, chunk_size=2).stream([1, 2, 3, None], write_one))
    assert [str(outcome.status) for outcome in outcomes] == ["written", "written", "unknown", "skipped"]


def test_a_server_that_is_gone_leaves_the_rest_unattempted(own_postgres):
    engine = create_engine(own_postgres.url)
    METADATA.create_all(engine)

    def map_item(item, out):
        if item == 2:
            own_postgres.stop("immediate")
        write_one(item, out)

    result = BatchWriter(engine, chunk_size=2, retry=AT_ONCE).run(range(6), map_item)
    assert counts(result) == (2, 0, 0, 2, 0)
    assert (result.status, result.abort.reason) == (Status.ABORTED, "lost")
    own_postgres.start()
    assert ids(engine) == [0, 1]
    engine.dispose()


def test_a_server_that_comes_back_in_time_costs_nothing(own_postgres):
    engine = create_engine(own_postgres.url)
    METADATA.create_all(engine)

    def map_item(item, out):
        if item == 2:
            own_postgres.stop("immediate")
            own_postgres.start()
        write_one(item, out)

    result = accounted(BatchWriter(engine, chunk_size=2, retry=AT_ONCE).run(range(6), map_item), engine)
    assert result.written == 6
    engine.dispose()


# ---- engines


@pytest.mark.parametrize("name", ["sqlite_engine", "postgres_engine"])
@pytest.mark.parametrize("items", [[1, 2, 3], [1, -2, 3]])
def test_an_engine_without_a_pool_serves(request, name, items):
    pooled = request.getfixturevalue(name)
    METADATA.create_all(pooled)
    engine = create_engine(pooled.url, poolclass=NullPool)
    result = accounted(BatchWriter(engine, chunk_size=2).run(items, write_one), engine)
    assert result.written == sum(item > 0 for item in items)


def committing_engines(given):
    """Engines that commit every statement, by either way of asking for it."""
    yield create_engine(given.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    yield given.execution_options(isolation_level="AUTOCOMMIT")


def test_an_engine_that_commits_every_statement_is_refused(postgres):
    for engine in committing_engines(postgres):
        result = accounted(BatchWriter(engine).run([1, -2, 3], write_one), postgres)
        assert "AUTOCOMMIT" in result.abort.message
        assert counts(result) == (0, 0, 0, 3, 0)


def test_on_sqlite_an_engine_that_commits_every_statement_serves_as_the_chunk_begins_by_itself(sqlite_engine):
    METADATA.create_all(sqlite_engine)
    for number, engine in enumerate(committing_engines(sqlite_engine)):
        result = BatchWriter(engine).run([number + 10, -2, -3, "x"], write_one)
        assert counts(result) == (1, 3, 0, 0, 0)
    with on_statement(sqlite_engine, "INSERT", interrupt_twice), contextlib.suppress(RunInterrupted):
        BatchWriter(sqlite_engine.execution_options(isolation_level="AUTOCOMMIT")).run([1], write_one)
    assert ids(sqlite_engine) == [10, 11]


@pytest.fixture
def memory():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def test_a_database_in_memory_serves(memory):
    result = accounted(BatchWriter(memory, chunk_size=2).run([1, -2, 3, -4, 5], write_one), memory)
    assert counts(result) == (3, 2, 0, 0, 0)


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("items", [[1, 2, 3], [1, -2, 3]])
def test_an_engine_that_begins_by_itself_serves(tmp_path, begin, items):
    """The recipe of SQLAlchemy's manual for SAVEPOINT on SQLite."""
    engine = create_engine(f"sqlite:///{tmp_path / 'recipe.db'}")

    @event.listens_for(engine, "connect")
    def do_connect(dbapi_connection, connection_record):
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def do_begin(connection):
        connection.exec_driver_sql(begin)

    METADATA.create_all(engine)
    result = accounted(BatchWriter(engine, chunk_size=2).run(items, write_one), engine)
    assert result.written == sum(item > 0 for item in items)
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection.isolation_level is None
    engine.dispose()


@pytest.mark.parametrize("level", ["", "DEFERRED", "IMMEDIATE", None])
@pytest.mark.parametrize("items", [[1, 2], [-1, 2]])
def test_the_drivers_own_way_of_beginning_is_restored(memory, level, items):
    raw = memory.raw_connection()
    raw.dbapi_connection.isolation_level = level
    raw.close()
    accounted(BatchWriter(memory).run(items, write_one), memory)
    raw = memory.raw_connection()
    assert raw.dbapi_connection.isolation_level == level
    assert not raw.dbapi_connection.in_transaction
    raw.close()


def test_the_drivers_own_way_of_beginning_is_restored_when_the_run_is_interrupted(memory):
    with on_statement(memory, "INSERT", interrupt_twice), pytest.raises(RunInterrupted):
        BatchWriter(memory).run([1], write_one)
    raw = memory.raw_connection()
    assert raw.dbapi_connection.isolation_level == ""
    assert not raw.dbapi_connection.in_transaction
    raw.close()


def test_no_connection_is_held_between_chunks(database):
    def map_item(item, out):
        assert database.pool.checkedout() == 0
        write_one(item, out)

    assert BatchWriter(database, chunk_size=2).run([1, -2, 3, -4, 5], map_item).written == 3


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_stricter_isolation_serves(postgres, level):
    engine = postgres.execution_options(isolation_level=level)
    assert counts(accounted(BatchWriter(engine).run([1, -2, 3], write_one), postgres)) == (2, 1, 0, 0, 0)


def test_writers_may_run_in_other_threads(database):
    results = []

    def work(start):
        results.append(BatchWriter(database, chunk_size=5).run([*range(start, start + 20), -start], write_one))

    threads = [threading.Thread(target=work, args=(start,)) for start in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counts(result) for result in results] == [(20, 1, 0, 0, 0)] * 3


# ---- names, keys, tables


ODD = ["order", "a b", "x%y", 'quo"te', "per%%cent", "%(name)s", "semi;colon", "colon:x", "paren(x)", "Größe"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_tables_and_columns_serve(engine, created, name):
    metadata = MetaData()
    table = Table(
        name,
        metadata,
        Column(name, Integer, primary_key=True, autoincrement=False),
        Column(name + "2", Integer, nullable=False),
    )

    def map_item(item, out):
        key = {name: item}
        out.insert(table, {name: item, name + "2": None if item == 2 else 1})
        out.upsert(table, {name: item, name + "2": 5})
        out.increment(table, key, {name + "2": 1})
        out.increment(table, key, {name + "2": 2})
        out.insert(table, {name: item + 100, name + "2": 1})
        out.update(table, {name: item + 100}, {name + "2": 2})
        out.delete(table, {name: item + 100})

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        rows = contents(engine, metadata)[name]
    assert rows == [(1, 8), (3, 8)]
    (failure,) = result.failures
    assert (failure.index, failure.table, failure.column) == (1, name, name + "2")


def test_a_column_may_have_a_key_that_is_not_its_name(engine, created):
    metadata = MetaData()
    table = Table(
        "t",
        metadata,
        Column("order", Integer, key="number", primary_key=True, autoincrement=False),
        Column("from", Integer, key="start", nullable=False),
    )

    def map_item(item, out):
        out.insert(table, {"number": item, "start": item})
        out.upsert(table, {"number": item, "start": 10})
        out.increment(table, {"number": item}, start=1)
        out.update(table, {"number": item}, start=None if item == 2 else 7)

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        rows = contents(engine, metadata)["t"]
    assert rows == [(1, 7), (3, 7)]
    assert [failure.index for failure in result.failures] == [1]


def test_a_table_in_a_schema_serves(postgres_engine, created):
    execute_script(postgres_engine, 'CREATE SCHEMA "odd schema"; CREATE SCHEMA other')
    metadata = MetaData()
    one = Table("t", metadata, Column("id", Integer, primary_key=True), schema="odd schema")
    parent = ForeignKey("odd schema.t.id")
    two = Table("t", metadata, Column("id", Integer, primary_key=True), Column("p", parent), schema="other")

    def map_item(item, out):
        out.insert(two, {"id": item, "p": item})
        out.upsert(one, {"id": item} if item != 2 else {"id": None})

    with created(postgres_engine, metadata):
        result = BatchWriter(postgres_engine).run([1, 2, 3], map_item)
        rows = contents(postgres_engine, metadata)
    assert rows == {"odd schema.t": [(1,), (3,)], "other.t": [(1, 1), (3, 3)]}
    assert [failure.table for failure in result.failures] == ["odd schema.t"]


def test_a_failure_in_a_schema_names_the_table_with_its_schema(postgres_engine, created):
    execute_script(postgres_engine, "CREATE SCHEMA s")
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), schema="s")
    with created(postgres_engine, metadata):
        result = BatchWriter(postgres_engine).run([1, 1], lambda item, out: out.insert(table, {"id": item}))
    (failure,) = result.failures
    assert (failure.table, failure.column, failure.constraint) == ("s.t", "id", "t_pkey")


def test_composite_keys_serve(engine, created):
    metadata = MetaData()
    parent = Table("a", metadata, Column("x", Integer, primary_key=True), Column("y", String(5), primary_key=True))
    child = Table(
        "b",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("x", Integer),
        Column("y", String(5)),
        Column("n", Integer, default=0),
        ForeignKeyConstraint(["x", "y"], ["a.x", "a.y"]),
    )

    def map_item(item, out):
        out.insert(child, {"id": item, "x": item, "y": "k"})
        if item != 2:
            out.upsert(parent, {"x": item, "y": "k"})
        out.increment(child, {"id": item}, n=1)

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        rows = contents(engine, metadata)
    assert rows == {"a": [(1, "k"), (3, "k")], "b": [(1, 1, "k", 1), (3, 3, "k", 1)]}
    assert [failure.index for failure in result.failures] == [1]


def test_a_table_may_refer_to_itself(engine, created):
    metadata = MetaData()
    tree = Table(
        "tree",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("p", ForeignKey("tree.id")),
    )
    rows = [{"id": 5}, {"id": 1, "p": 5}, {"id": 2, "p": 3}, {"id": 3}, {"id": 4, "p": 3}]
    with created(engine, metadata):
        result = BatchWriter(engine).run(rows, lambda row, out: out.insert(tree, row))
    assert [failure.index for failure in result.failures] == [2]


def test_tables_may_refer_to_each_other(engine, created):
    metadata = MetaData()
    one = Table("one", metadata, Column("id", Integer, primary_key=True), Column("p", Integer))
    two = Table("two", metadata, Column("id", Integer, primary_key=True), Column("p", ForeignKey("one.id")))
    with created(engine, metadata):
        if engine.dialect.name == "postgresql":
            execute_script(engine, "ALTER TABLE one ADD FOREIGN KEY (p) REFERENCES two")
            one.append_constraint(ForeignKeyConstraint(["p"], ["two.id"], name="one_p_fkey", use_alter=True))

        def map_item(item, out):
            out.insert(one, {"id": item})
            out.insert(two, {"id": item, "p": item if item != 2 else 99})
            out.update(one, {"id": item}, p=item)

        result = BatchWriter(engine).run([1, 2, 3], map_item)
        with engine.connect() as connection:
            assert connection.execute(select(one).order_by(one.c.id)).all() == [(1, 1), (3, 3)]
    assert [failure.index for failure in result.failures] == [1]


def test_big_numbers_are_exact(engine, created):
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", BigInteger, primary_key=True, autoincrement=False), Column("n", BigInteger)
    )
    big = 2**63 - 1

    def map_item(item, out):
        out.insert(table, {"id": item, "n": big})
        out.increment(table, {"id": item}, n=-1)

    with created(engine, metadata):
        result = BatchWriter(engine).run([big, -big - 1, 2**63, 5], map_item)
        rows = contents(engine, metadata)["t"]
    assert sorted(rows) == [(-big - 1, big - 1), (5, big - 1), (big, big - 1)]
    assert [failure.index for failure in result.failures] == [2]


def test_an_increment_past_the_largest_number_is_refused_and_does_not_become_a_fraction(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("n", BigInteger))
    big = 2**63 - 1
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "n": big})
        result = BatchWriter(engine).run([1], lambda item, out: out.increment(table, {"id": 1}, n=1))
        assert contents(engine, metadata)["t"] == [(1, big)]
    assert counts(result) == (0, 1, 0, 0, 0)


def test_many_keys_at_once_stay_below_the_limit_of_parameters(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
    table.append_column(Column("n", Integer, nullable=False))
    size = 40_000

    def map_item(item, out):
        out.upsert(table, {"a": item, "b": item, "n": 0})
        out.increment(table, {"a": item, "b": item}, n=1)

    with created(engine, metadata):
        result = BatchWriter(engine, chunk_size=size, chunk_rows=10**6, chunk_seconds=None).run(range(size), map_item)
        with engine.connect() as connection:
            assert connection.execute(select(func.count(), func.sum(table.c.n)).select_from(table)).one() == (
                size,
                size,
            )
    assert result.chunks == 1


# ---- rules of the database that Python does not see: a key that Python holds for another may be the same row


def case_blind(engine):
    """A column type in which the texts `a` and `a ` or `A` are one key."""
    return (String(5, collation="NOCASE"), "A") if engine.dialect.name == "sqlite" else (CHAR(5), "a ")


@pytest.mark.parametrize("first", ["update", "increment"])
def test_a_change_of_a_row_that_only_a_later_item_creates_fails_under_any_spelling_of_its_key(engine, created, first):
    kind, twin = case_blind(engine)
    metadata = MetaData()
    table = Table("t", metadata, Column("id", kind, primary_key=True), Column("n", Integer, nullable=False))

    def map_item(item, out):
        if item == "change":
            getattr(out, first)(table, {"id": twin}, n=5)
        else:
            out.insert(table, {"id": "a", "n": 0})

    with created(engine, metadata):
        expected = write_sequentially(engine, ["change", "insert"], map_item)
    with created(engine, metadata):
        outcomes = [str(outcome.status) for outcome in BatchWriter(engine).stream(["change", "insert"], map_item)]
    assert expected == ["failed Missing", "written"]
    assert outcomes == ["failed", "written"]


def test_a_reference_to_a_row_that_only_a_later_item_creates_fails_under_any_spelling(engine, created):
    kind, twin = case_blind(engine)
    metadata = MetaData()
    parent = Table("parent", metadata, Column("id", kind, primary_key=True))
    child = Table(
        "child", metadata, Column("id", Integer, primary_key=True), Column("p", kind, ForeignKey(parent.c.id))
    )

    def map_item(item, out):
        if item == "child":
            out.insert(child, {"id": 1, "p": twin})
        else:
            out.insert(parent, {"id": "a"})

    with created(engine, metadata):
        expected = write_sequentially(engine, ["child", "parent"], map_item)
    with created(engine, metadata):
        outcomes = [str(outcome.status) for outcome in BatchWriter(engine).stream(["child", "parent"], map_item)]
    assert expected[0].startswith("failed")
    assert outcomes == ["failed", "written"]


# ---- deferred constraints that are none of ours


def engine_as(engine, role):
    return create_engine(engine.url.set(username=role, password="x"), poolclass=NullPool)  # noqa: S106 - a test's role


def test_a_deferred_constraint_in_a_schema_out_of_reach_does_not_matter(postgres):
    execute_script(
        postgres,
        "CREATE ROLE bw_writer_reach LOGIN PASSWORD 'x'; GRANT ALL ON items TO bw_writer_reach;"
        "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int PRIMARY KEY, p int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    )
    engine = engine_as(postgres, "bw_writer_reach")
    try:
        result = BatchWriter(engine, retry=AT_ONCE).run([1, -2, 3], write_one)
    finally:
        execute_script(postgres, "DROP OWNED BY bw_writer_reach; DROP ROLE bw_writer_reach")
    assert counts(accounted(result, postgres)) == (2, 1, 0, 0, 0)


def test_a_role_that_may_only_insert_and_read_can_insert_if_absent(postgres):
    execute_script(
        postgres,
        "CREATE ROLE bw_writer_insert LOGIN PASSWORD 'x'; GRANT INSERT, SELECT ON items TO bw_writer_insert",
    )
    engine = engine_as(postgres, "bw_writer_insert")

    def map_item(item, out):
        out.upsert(ITEMS, {"id": abs(item), "n": item}, set=())

    try:
        result = BatchWriter(engine, retry=AT_ONCE).run([1, -2, 3, 4], map_item)
    finally:
        execute_script(postgres, "DROP OWNED BY bw_writer_insert; DROP ROLE bw_writer_insert")
    assert counts(accounted(result, postgres)) == (3, 1, 0, 0, 0)


@pytest.mark.parametrize("name", ["fk%x", 'quo"te', "semi;colon", "%s"])
def test_a_deferred_constraint_may_have_an_odd_name(postgres_engine, created, name):
    metadata = MetaData()
    key = ForeignKey("node.id", name=name, deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    rows = [{"id": 1, "p": 1}, {"id": 2, "p": 99}, {"id": 3, "p": 1}]
    with created(postgres_engine, metadata):
        result = BatchWriter(postgres_engine).run(rows, lambda row, out: out.insert(node, row))
    assert [(failure.index, failure.constraint) for failure in result.failures] == [(1, name)]
    assert result.failures[0].stage is Stage.COMMIT


def test_a_deferred_constraint_that_is_made_after_the_first_run_is_blamed_on_its_item(postgres_engine, created):
    metadata = MetaData()
    key = ForeignKey("node.id", deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    METADATA.create_all(postgres_engine)
    writer = BatchWriter(postgres_engine)
    assert writer.run([1], write_one).written == 1
    rows = [{"id": 1, "p": 1}, {"id": 2, "p": 99}, {"id": 3, "p": 1}]
    with created(postgres_engine, metadata):
        result = writer.run(rows, lambda row, out: out.insert(node, row))
    assert counts(result) == (2, 1, 0, 0, 0)
