"""Connections that are lost, at any moment."""

import pytest
from items import AT_ONCE, METADATA, accounted, counts, ids, on_statement, write_one
from sqlalchemy import (
    create_engine,
)

from batchwrite import (
    BatchWriter,
    Fault,
    FaultKind,
    RetryPolicy,
    Status,
)
from batchwrite.faults import FlushFailed
from batchwrite.sinks.postgresql import bulk
from batchwrite.sinks.postgresql.rules import PostgresqlRules
from batchwrite.sinks.sql import SqlSink


@pytest.mark.parametrize("items", [[1, 2, 3, 4], [1, -2, 3, -4]])
def test_a_connection_killed_between_chunks_costs_nothing(postgres, killer, items):
    def map_item(item, out):
        if abs(item) == 3:
            killer()
        write_one(item, out)

    result = accounted(BatchWriter(postgres, chunk_size=2, retry=AT_ONCE).run(items, map_item), postgres)
    assert result.written == sum(item > 0 for item in items)
    assert result.abort is None


@pytest.mark.parametrize("word", ["BEGIN", "INSERT", "set_config", "DO $batchwrite$", "current_setting"])
def test_a_connection_killed_inside_a_chunk_costs_nothing(postgres, killer, word):
    with on_statement(postgres, word, killer) as done:
        result = BatchWriter(postgres, chunk_size=4, retry=AT_ONCE).run([1, -2, 3, 4, 5], write_one)
    accounted(result, postgres)
    assert (result.written, result.failed) == (4, 1)
    assert done.is_set()


@pytest.mark.parametrize("word", ["INSERT", "SAVEPOINT", "RELEASE", "ROLLBACK TO"])
def test_a_connection_killed_inside_a_chunk_of_the_generic_path_costs_nothing(postgres, killer, word):
    with on_statement(postgres, word, killer) as done:
        writer = BatchWriter(postgres, chunk_size=4, retry=AT_ONCE)
        writer._runs._sink = SqlSink(postgres, PostgresqlRules())
        result = writer.run([1, -2, 3, 4, 5], write_one)
    accounted(result, postgres)
    assert (result.written, result.failed) == (4, 1)
    assert done.is_set()


@pytest.fixture
def killed_at_second_commit(postgres, killer, monkeypatch):
    """The connection is killed when everything is written and COMMIT is about to be sent."""
    monkeypatch.setattr(bulk, "_FEWEST_FOR_COPY", 1)  # after a COPY, COMMIT is sent by itself
    with on_statement(postgres, "COMMIT", killer, number=2):
        yield


@pytest.mark.usefixtures("killed_at_second_commit")
def test_a_commit_without_an_answer_makes_a_chunk_unknown(postgres):
    result = BatchWriter(postgres, chunk_size=2, retry=AT_ONCE).run([1, 2, 3, "x", 5, 6], write_one)
    assert counts(accounted(result, postgres)) == (2, 1, 0, result.received - 4, 1)
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

    result = BatchWriter(engine, chunk_size=2, retry=AT_ONCE, workers=0).run(range(6), map_item)
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

    # With no chunk on its way when the server goes: its COMMIT might get no answer. With waits, until it is back.
    patient = RetryPolicy(attempts=30, first_wait=0.2, longest_wait=0.5)
    result = accounted(BatchWriter(engine, chunk_size=2, retry=patient, workers=0).run(range(6), map_item), engine)
    assert result.written == 6
    engine.dispose()


def test_a_chunk_in_doubt_is_not_written_in_halves_without_books(monkeypatch):
    """No server can be made to leave a doubt and a code at the same moment: the sink's answers are made up."""
    writer = BatchWriter("sqlite://", retry=AT_ONCE)
    faults = [
        Fault(kind=FaultKind.LOST, error_type="OperationalError", message="lost"),
        Fault(kind=FaultKind.IN_DOUBT, error_type="QueryCanceled", message="no answer", sqlstate="57014"),
    ]
    written = []

    def write(items, books=None):
        written.append(len(items))
        raise FlushFailed(faults[len(written) - 1])

    monkeypatch.setattr(writer._sink, "write", write)
    result = writer.run([1, 2], write_one)
    assert (written, result.unknown, result.status) == ([2, 2], 2, Status.UNKNOWN)
