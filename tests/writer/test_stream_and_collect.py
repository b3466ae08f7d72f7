"""Outcomes one by one, and a batch without a map function."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from items import (
    ITEMS,
    KINDS,
    METADATA,
    Boom,
    accounted,
    counts,
    failing_after,
    ids,
    interrupt,
    numbered,
    on_statement,
    write_one,
)

from batchwrite import (
    BatchFailed,
    BatchWriter,
    ConfigurationError,
    SourceError,
    Stage,
)

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
    shared_engine, emptied, kinds, chunk_size, stop_after, most
):
    with emptied(METADATA):
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
    stream = BatchWriter(database, chunk_size=2, workers=0).stream(range(10), write_one)
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
    stream = BatchWriter(database, chunk_size=2, workers=0).stream(range(10), write_one)
    with contextlib.suppress(KeyboardInterrupt):
        for outcome in stream:
            if outcome.index == 2:
                raise KeyboardInterrupt
    assert counts(accounted(stream.result, database)) == (4, 0, 0, 0, 0)


def test_ctrl_c_between_outcomes_is_delivered(database):
    stream = BatchWriter(database, chunk_size=2, workers=0).stream(range(10), write_one)
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
