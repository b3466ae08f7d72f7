"""Several chunks on their way: in order, once, and nobody waits for ever."""

import os
import signal
import threading
import time

import pytest
from orders import BAD, LINES, PARENTS, good, ids, insert_and_take, insert_line, rows_with_bad, taken, verdicts
from sqlalchemy import NullPool, StaticPool, create_engine, select

from batchwrite import BatchWriter, OutcomeStatus, RunInterrupted, attendant
from batchwrite.errors import ConfigurationError


@pytest.fixture(params=[0, 1, 2, 4])
def workers(request):
    return request.param


@pytest.mark.parametrize("map_item", [insert_line, insert_and_take])
@pytest.mark.parametrize("every", [0, 9])
def test_outcomes_come_in_order_and_agree_with_the_table(database, workers, map_item, every):
    rows, expected = rows_with_bad(600, every)
    stream = BatchWriter(database, chunk_size=100, workers=workers).stream(rows, map_item)
    outcomes = list(stream)
    assert [outcome.index for outcome in outcomes] == list(range(len(rows)))
    failed = {outcome.index for outcome in outcomes if outcome.status is OutcomeStatus.FAILED}
    assert failed == set(expected)
    landed = [row["id"] for row, outcome in zip(rows, outcomes, strict=True) if outcome.status == "written"]
    assert landed == ids(database)
    assert taken(database) == (len(landed) if map_item is insert_and_take else 0)


def test_the_end_of_a_run_waits_for_no_look(database, workers, monkeypatch):
    monkeypatch.setattr(attendant, "_SECONDS_BETWEEN_LOOKS", 60.0)
    began = time.monotonic()
    assert BatchWriter(database, workers=workers).run(map(good, range(10)), insert_line).written == 10
    assert time.monotonic() - began < 30


def test_of_chunks_that_claim_one_key_the_earlier_lands_although_the_later_comes_first(database, workers):
    """The second chunk holds the key that the first comes to at its end, and waits to be committed after it."""
    rows = [good(number) for number in range(4_000)]
    rows[1_999] |= {"code": "wanted"}
    rows[2_000] |= {"code": "wanted"}
    result = BatchWriter(database, chunk_size=2_000, workers=workers).run(rows, insert_line)
    assert verdicts(result) == {2_000: ("23505", "one_code")}
    assert len(ids(database)) == 3_999


@pytest.mark.parametrize("workers", [2, 4])
def test_a_chunk_in_the_middle_of_its_rows_lets_go_of_what_the_first_waits_for(database, workers):
    """The second is larger than what the connection holds, and nobody sends its rest while the first is waited for."""
    rows = [good(number) | {"code": f"{number:012}"} for number in range(30_000)]
    rows[14_999] |= {"code": "wanted"}
    rows[15_000] |= {"code": "wanted"}
    result = BatchWriter(database, chunk_size=15_000, workers=workers).run(rows, insert_line)
    assert verdicts(result) == {15_000: ("23505", "one_code")}


def test_many_chunks_that_claim_each_others_keys(database, workers):
    rows = [good(number) | {"code": f"c{(number * 7) % 1_000}"} for number in range(3_000)]
    result = BatchWriter(database, chunk_size=150, workers=workers).run(rows, insert_line)
    assert ids(database) == list(range(1_000))
    assert result.failed == 2_000


def test_a_child_finds_its_parent_of_the_chunk_before(database, workers):
    def map_item(number, out):
        if number % 200 < 100:
            out.insert(PARENTS, {"sku": f"new-{number}", "stock": 1})
        else:
            out.insert(LINES, good(number) | {"sku": f"new-{number - 100}"})

    result = BatchWriter(database, chunk_size=100, workers=workers).run(range(1_000), map_item)
    assert (result.written, result.failed) == (1_000, 0)


def test_changes_of_one_row_in_different_chunks_keep_their_order(database, workers):
    def map_item(number, out):
        out.upsert(PARENTS, {"sku": "sku-1", "stock": number})

    assert BatchWriter(database, chunk_size=5, workers=workers).run(range(100), map_item).written == 100
    with database.connect() as connection:
        assert connection.scalar(select(PARENTS.c.stock).where(PARENTS.c.sku == "sku-1")) == 99


def test_nothing_is_written_behind_the_failure_that_ends_a_run(database, workers):
    rows, expected = rows_with_bad(1_000, 90)
    result = BatchWriter(database, chunk_size=40, workers=workers, max_failures=2).run(rows, insert_line)
    assert (result.failed, result.written) == (3, 267)
    assert ids(database) == [number for number in range(270) if number not in expected]
    assert result.unattempted == result.received - 270


def test_a_map_function_that_waits_for_a_lock_of_the_chunk_on_its_way_gets_it(database, workers):
    """Somebody has to commit the chunk while the map function waits, or both wait for ever."""

    def map_item(number, out):
        if number == 100:
            with database.begin() as connection:
                connection.exec_driver_sql("SET LOCAL lock_timeout = '20s'")
                connection.execute(PARENTS.update().where(PARENTS.c.sku == "sku-1").values(stock=PARENTS.c.stock + 1))
        out.increment(PARENTS, {"sku": "sku-1"}, stock=-1)

    assert BatchWriter(database, chunk_size=100, workers=workers).run(range(150), map_item).written == 150
    assert taken(database) == 149


def test_no_thread_and_no_connection_is_left(database, workers):
    before = threading.active_count()
    BatchWriter(database, chunk_size=50, workers=workers).run(map(good, range(500)), insert_line)
    assert threading.active_count() == before
    assert database.pool.checkedout() == 0


@pytest.mark.parametrize(
    "pool", [{"pool_size": 1, "max_overflow": 0}, {"poolclass": NullPool}, {"poolclass": StaticPool}], ids=str
)
def test_whatever_the_pool(database, workers, pool):
    engine = create_engine(database.url, **pool)

    def map_item(row, out):
        if row["id"] % 50 == 3:
            with engine.connect() as connection:
                connection.execute(select(PARENTS.c.sku)).all()
        insert_line(row, out)

    rows, expected = rows_with_bad(300, 40, kinds=BAD[:5])
    result = BatchWriter(engine, chunk_size=50, workers=workers).run(rows, map_item)
    engine.dispose()
    assert verdicts(result) == expected


@pytest.mark.parametrize("workers", [-1, 65, True, 1.5, "2", None])
def test_a_number_of_workers_that_is_none_is_refused(database, workers):
    with pytest.raises(ConfigurationError, match="workers must be a whole number from 0 to 64"):
        BatchWriter(database, workers=workers)


def test_a_second_ctrl_c_ends_the_attendants_waiting_too(database):
    """The attendant waits for a lock that is not given up, and the caller for the attendant."""

    def press():
        for _ in range(2):
            threading.Event().wait(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    def rows():
        yield good(1)
        threading.Event().wait(0.3)  # the attendant has begun to settle the first chunk by then
        yield good(2)

    with database.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE lines IN EXCLUSIVE MODE")
        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(RunInterrupted) as caught:
            BatchWriter(database, chunk_size=1).run(rows(), insert_line)
        presser.join()
        assert (caught.value.result.written, caught.value.result.unknown) == (0, 0)
    assert ids(database) == []
