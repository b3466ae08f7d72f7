"""What ends a run early: the input, the caller, Ctrl-C."""

import signal

import pytest
from items import Boom, accounted, counts, failing_after, interrupt, interrupt_twice, on_statement, write_one
from sqlalchemy import (
    event,
)

from batchwrite import (
    BatchWriter,
    RunInterrupted,
    SourceError,
    Status,
)


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
    word = "DO $batchwrite$" if database.dialect.name == "postgresql" else "SAVEPOINT"
    with on_statement(database, word, interrupt), pytest.raises(RunInterrupted) as caught:
        BatchWriter(database, chunk_size=2).run([1, -2, 3, 4, 5, 6], write_one)
    result = accounted(caught.value.result, database)
    assert counts(result)[:2] in {(1, 1), (3, 1)}  # the chunk behind it may be on its way already


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
    assert (result.unknown, result.written, result.failed) == (2, 0, 0)
    assert (result.status, result.abort.reason) == (Status.UNKNOWN, "interrupted")


def test_system_exit_goes_through(database):
    def map_item(item, out):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        BatchWriter(database).run([1], map_item)
