"""How often a chunk waits for the server, counted by a proxy."""

import pytest
from orders import BAD, good, insert_line, rows_with_bad
from sqlalchemy import create_engine

from batchwrite import BatchWriter
from batchwrite.bench.proxy import DelayProxy


@pytest.fixture
def counted(database):
    """An engine behind a proxy, its connection open and its tables known, and the proxy."""
    with DelayProxy((database.url.host, database.url.port), 0) as proxy:
        engine = create_engine(database.url.set(host="127.0.0.1", port=proxy.port), pool_size=8)
        yield engine, proxy
        engine.dispose()


def trips_of(counted, rows):
    """Round trips of one chunk, once the writer knows its tables."""
    engine, proxy = counted
    writer = BatchWriter(engine, chunk_size=10_000)
    assert writer.run([good(10_000)], insert_line).written == 1
    before = proxy.round_trips
    result = writer.run(rows, insert_line)
    return proxy.round_trips - before, result


def test_a_clean_chunk_by_copy_takes_three(counted):
    trips, result = trips_of(counted, [good(number) for number in range(1_000)])
    assert result.written == 1_000
    assert trips <= 3


def test_a_small_clean_chunk_takes_one(counted):
    trips, result = trips_of(counted, [good(number) for number in range(20)])
    assert result.written == 20
    assert trips <= 1


@pytest.mark.parametrize("every", [500, 50, 10, 2])
def test_a_chunk_that_falls_back_takes_at_most_six_more(counted, every):
    rows, expected = rows_with_bad(500, every, kinds=BAD[:5])
    trips, result = trips_of(counted, rows)
    assert result.failed == len(expected)
    assert trips <= 3 + 6
