"""Writing through a repository: what it says is believed, and nothing is written twice or told wrongly."""

import asyncio
import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import OperationalError
from stores import FORMS, Atomic, Idempotent, Refused, Store, Telling

from batchwrite import (
    BatchWriter,
    Coalescer,
    ConfigurationError,
    DeadLetterFile,
    FaultKind,
    Ledger,
    PartialFailure,
    Repository,
    RetryPolicy,
    Status,
)
from batchwrite.aio import AsyncBatchWriter

AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)
NUMBERS = st.lists(st.integers(-3, 12), max_size=20)


def writer_to(store, **options):
    return BatchWriter.for_repository(
        insert_many=store.insert_many, insert_one=store.insert_one, **{"retry": AT_ONCE, **options}
    )


def sequential(entities, store):
    """What a store has taken, and positions of what it has refused, one by one."""
    refused = []
    for place, entity in enumerate(entities):
        try:
            store.insert_one(entity)
        except Refused:
            refused.append(place)
    return store.stored, refused


@given(NUMBERS, st.integers(1, 7), st.sampled_from(["atomic", "idempotent", *FORMS]))
def test_it_writes_what_one_by_one_would_write(entities, size, kind):
    stores = {"atomic": Atomic, "idempotent": Idempotent}
    store = stores[kind]() if kind in stores else Telling(kind)
    options = {kind: True} if kind in stores else {}
    result = writer_to(store, chunk_size=size, **options).run(entities)
    stored, refused = sequential(entities, stores[kind]() if kind in stores else Store())
    assert store.stored == stored
    assert [failure.index for failure in result.failures] == refused
    assert (result.received, result.failed, result.unknown) == (len(entities), len(refused), 0)
    assert result.received == result.written + result.failed
    if kind not in stores:
        assert store.singles == []  # it has said what it has refused: nothing is repeated
        assert result.fallbacks == 0


@given(NUMBERS, st.integers(1, 7))
def test_a_bulk_write_that_may_be_half_done_is_not_repeated(entities, size):
    store = Store()
    result = writer_to(store, chunk_size=size).run(entities)
    _, refused = sequential(entities, Store())
    assert store.singles == []
    if refused:
        assert result.status is Status.UNKNOWN
        assert "atomic=True" in result.abort.message
        assert "idempotent=True" in result.abort.message
        first_of_chunk = refused[0] // size * size
        assert result.written == first_of_chunk
        assert result.unknown == len(entities[first_of_chunk : first_of_chunk + size])
        assert store.stored == entities[: refused[0]]
    else:
        assert result.written == len(entities)
    assert result.received == result.written + result.unknown + result.unattempted


@pytest.mark.parametrize("message", ["secret 4711"])
def test_a_failure_tells_the_class_and_no_values(message):
    def refuse(_entity):
        raise Refused(message)

    result = BatchWriter.for_repository(insert_many=refuse, insert_one=refuse, atomic=True).run([1])
    (failure,) = result.failures
    assert (failure.error_type, failure.message) == ("Refused", "Refused was raised")
    assert failure.detail == message
    assert message not in str(result.to_dict())


def test_what_was_written_one_by_one_is_not_written_again_after_bad_weather():
    store = Atomic()
    deadlocks = iter([True, True])
    code = type("Deadlock", (Exception,), {"sqlstate": "40P01"})

    def insert_one(entity):
        if entity == 3 and next(deadlocks, False):
            raise code("deadlock")
        store.insert_one(entity)

    result = BatchWriter.for_repository(
        insert_many=store.insert_many, insert_one=insert_one, atomic=True, retry=AT_ONCE
    ).run([1, -2, 3, 4])
    assert (result.written, result.failed, result.abort) == (3, 1, None)
    assert store.stored == [1, 3, 4]
    assert store.singles == [1, -2, 3, 4]


def test_weather_that_stays_leaves_in_doubt_what_one_by_one_had_begun():
    store = Atomic()

    def insert_one(entity):
        if entity == 3:
            raise type("Deadlock", (Exception,), {"sqlstate": "40P01"})
        store.insert_one(entity)

    result = BatchWriter.for_repository(
        insert_many=store.insert_many, insert_one=insert_one, atomic=True, retry=AT_ONCE
    ).run([1, -2, 3, 4])
    assert store.stored == [1]
    assert (result.status, result.unknown, result.unattempted) == (Status.UNKNOWN, 4, 0)


@pytest.mark.parametrize(
    ("options", "unknown", "calls"),
    [({}, 2, 1), ({"atomic": True}, 2, 1), ({"idempotent": True}, 0, 3), ({"atomic": True, "idempotent": True}, 0, 3)],
)
def test_a_lost_connection_is_tried_again_only_where_that_does_no_harm(options, unknown, calls):
    seen = []

    def lose(entities):
        seen.append(entities)
        raise ConnectionResetError("gone")

    result = BatchWriter.for_repository(insert_many=lose, insert_one=lose, retry=AT_ONCE, **options).run([1, 2])
    assert result.unknown == unknown
    assert result.abort is not None
    assert len(seen) >= calls


def test_a_deadlock_of_an_atomic_bulk_write_is_tried_again():
    store, deadlocks = Atomic(), iter([True, True])

    def insert_many(entities):
        if next(deadlocks, False):
            raise OperationalError("", {}, type("Deadlock", (Exception,), {"sqlstate": "40P01"})())
        store.insert_many(entities)

    result = BatchWriter.for_repository(
        insert_many=insert_many, insert_one=store.insert_one, atomic=True, retry=AT_ONCE
    ).run([1, 2])
    assert (result.written, store.singles) == (2, [])


def test_throttled_entities_are_sent_again_and_no_others():
    sent = []

    def insert_many(entities):
        sent.append(entities)
        left = [entity for entity in entities if entity["id"] % 2] if len(sent) == 1 else []
        return {"UnprocessedItems": {"orders": [{"PutRequest": {"Item": entity}} for entity in left]} if left else {}}

    entities = [{"id": number} for number in range(6)]
    result = BatchWriter.for_repository(
        insert_many=insert_many, insert_one=lambda _entity: pytest.fail("not asked for"), retry=AT_ONCE
    ).run(entities)
    assert result.written == 6
    assert sent == [entities, entities[1::2]]


def test_the_users_own_word_on_failures_is_believed():
    def insert_many(entities):
        return {"bad": [place for place, entity in enumerate(entities) if entity < 0]}

    result = BatchWriter.for_repository(
        insert_many=insert_many,
        insert_one=lambda _entity: pytest.fail("not asked for"),
        failures_of=lambda _entities, answer: dict.fromkeys(answer["bad"], "it is below 0"),
    ).run([1, -2, 3])
    assert [(failure.index, failure.message) for failure in result.failures] == [(1, "it is below 0")]
    assert result.written == 2


def test_a_word_that_cannot_be_read_leaves_all_in_doubt():
    result = BatchWriter.for_repository(
        insert_many=lambda _entities: None,
        insert_one=lambda _entity: None,
        failures_of=lambda _entities, _answer: 1 / 0,
    ).run([1, 2])
    assert result.unknown == 2
    assert "ZeroDivisionError" in result.abort.message


def test_classify_has_the_last_word():
    def busy(_entities):
        raise Refused("busy")

    seen = []
    result = BatchWriter.for_repository(
        insert_many=busy,
        insert_one=busy,
        atomic=True,
        retry=AT_ONCE,
        classify=lambda error: seen.append(error) or FaultKind.TRANSIENT,
    ).run([1, 2])
    assert (result.unattempted, result.failed) == (2, 0)
    assert len(seen) == 3


def test_an_item_is_one_entity_and_what_map_makes_of_it():
    store = Atomic()

    def map_item(item, out):
        for entity in item:
            out.add(entity)

    result = writer_to(store, atomic=True).run([[1], [2, 3], [], [4]], map_item)
    assert store.stored == [1, 4]
    assert (result.written, result.failed, result.skipped) == (2, 1, 1)
    assert "one entity" in result.failures[0].message
    result = writer_to(store, atomic=True).run([5], lambda item, out: out.insert("orders", {"id": item}))
    assert "add(entity)" in result.failures[0].message


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"on_failure": "stop"}, "chunk_size=1"),
        ({"max_failures": 3}, "chunk_size=1"),
        ({"ledger": Ledger()}, "ledger"),
        ({"defer_foreign_keys": True}, "defer_foreign_keys"),
        ({"chunk_timeout": 3}, "chunk_timeout"),
        ({"atomic": 1}, "atomic"),
        ({"failures_of": 1}, "failures_of"),
        ({"insert_one": None}, "insert_one"),
    ],
)
def test_what_only_a_transaction_can_give_is_refused(options, problem):
    store = Store()
    with pytest.raises(ConfigurationError, match=problem):
        BatchWriter.for_repository(**{"insert_many": store.insert_many, "insert_one": store.insert_one, **options})


def test_a_run_stops_at_the_first_failure_where_chunks_are_of_one():
    store = Atomic()
    result = writer_to(store, atomic=True, chunk_size=1, on_failure="stop").run([1, -2, 3])
    assert (store.stored, result.written, result.failed) == ([1], 1, 1)


def test_letters_of_a_repository_are_kept_in_a_file(tmp_path):
    store = Atomic()
    letters = DeadLetterFile(tmp_path / "letters.jsonl")
    writer_to(store, atomic=True, dead_letters=letters).run([1, -2, 3])
    assert (tmp_path / "letters.jsonl").read_text().count("\n") == 1


def test_it_is_called_in_the_callers_thread_alone():
    threads = set()

    def insert(_entities):
        threads.add(threading.current_thread())

    BatchWriter.for_repository(insert_many=insert, insert_one=insert, chunk_size=2, workers=4).run(range(20))
    assert threads == {threading.current_thread()}


def test_runs_that_share_a_writer_do_not_forget_what_the_others_have_written():
    busy = type("Busy", (Exception,), {"sqlstate": "40001"})
    stored, seen, meeting = [], set(), threading.Barrier(2)

    def insert_many(entities):
        run = entities[0][0]
        if run in seen:
            stored.extend(entities)
            return
        seen.add(run)
        stored.append(entities[0])
        meeting.wait(10)
        raise PartialFailure({1: busy()})

    writer = BatchWriter.for_repository(
        insert_many=insert_many, insert_one=stored.append, retry=RetryPolicy(first_wait=0.05)
    )
    runs = [threading.Thread(target=writer.run, args=([run + "1", run + "2"],)) for run in "ab"]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(stored) == ["a1", "a2", "b1", "b2"]


def lazily(entities):
    yield from entities


async def lazily_later(entities):
    yield entities


@pytest.mark.parametrize("method", [lazily, lazily_later])
def test_methods_that_do_their_work_later_are_refused(method):
    with pytest.raises(ConfigurationError, match="iterator"):
        BatchWriter.for_repository(insert_many=method, insert_one=print)
    hidden = partial(method)  # which does not look like one
    result = BatchWriter.for_repository(insert_many=lambda entities: hidden([*entities]), insert_one=print).run([1])
    assert (result.unknown, result.written) == (1, 0)


def test_a_bulk_method_may_use_up_its_list():
    stored = []

    def insert_many(entities):
        refused = []
        for place in range(len(entities)):
            entity = entities.pop(0)
            if entity == 2:
                refused.append({"index": place, "error": "bad"})
            else:
                stored.append(entity)
        return refused

    result = BatchWriter.for_repository(insert_many=insert_many, insert_one=print).run([1, 2, 3])
    assert (stored, result.written, result.failed) == ([1, 3], 2, 1)


@pytest.mark.parametrize("failures", [{99: "no"}, {"0": "no"}, {-1: "no"}])
def test_failures_of_entities_that_were_not_given_leave_all_in_doubt(failures):
    result = BatchWriter.for_repository(
        insert_many=lambda _entities: None, insert_one=print, failures_of=lambda _entities, _answer: failures
    ).run([1, 2])
    assert (result.unknown, result.written) == (2, 0)
    assert "position" in result.abort.message
    assert "Ledger" not in result.abort.message


def test_an_exception_of_which_nothing_is_said_is_one():
    def fail(_entities):
        raise ConnectionResetError

    result = BatchWriter.for_repository(
        insert_many=fail, insert_one=print, failures_of=lambda _entities, _answer: {}
    ).run([1])
    assert (result.unknown, result.written) == (1, 0)


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("secret")


def test_exceptions_of_any_kind_are_classified():
    def in_a_circle(_entities):
        error = Refused("x")
        raise error from error

    def unprintable(_entities):
        raise Unprintable

    for method in (in_a_circle, unprintable):
        result = BatchWriter.for_repository(insert_many=method, insert_one=method, atomic=True).run([1])
        assert result.failed == 1


# ---- awaited


class Awaited:
    """A store whose methods are to be awaited."""

    def __init__(self, store):
        self._store = store

    async def insert_many(self, entities):
        await asyncio.sleep(0)
        return self._store.insert_many(entities)

    async def insert_one(self, entity):
        await asyncio.sleep(0)
        self._store.insert_one(entity)


def test_a_repository_that_is_awaited():
    store = Atomic()
    awaited = Awaited(store)
    writer = AsyncBatchWriter.for_repository(
        insert_many=awaited.insert_many, insert_one=awaited.insert_one, atomic=True, chunk_size=3
    )
    result = asyncio.run(writer.run([1, 2, -3, 4, 4]))
    assert store.stored == [1, 2, 4]
    assert (result.written, result.failed) == (3, 2)


def test_a_plain_repository_will_do_for_an_async_writer():
    store = Atomic()
    writer = AsyncBatchWriter.for_repository(insert_many=store.insert_many, insert_one=store.insert_one, atomic=True)
    assert asyncio.run(writer.run([1, -2])).written == 1


def test_a_repository_that_is_awaited_needs_an_async_writer():
    awaited = Awaited(Atomic())
    with pytest.raises(ConfigurationError, match="AsyncBatchWriter"):
        BatchWriter.for_repository(insert_many=awaited.insert_many, insert_one=awaited.insert_one)
    result = BatchWriter(
        # One that does not look as if it were to be awaited.
        Repository(insert_many=lambda entities: awaited.insert_many([*entities]), insert_one=print, atomic=True)
    ).run([1])
    assert (result.unattempted, result.abort.reason) == (1, "fatal")
    assert "AsyncBatchWriter" in result.abort.message


def test_cancelled_in_the_middle_of_a_bulk_write_it_is_in_doubt():
    async def forever(_entities):
        await asyncio.sleep(60)

    async def cancelled():
        writer = AsyncBatchWriter.for_repository(insert_many=forever, insert_one=forever, atomic=True)
        task = asyncio.create_task(writer.run([1, 2]))
        for _ in range(2):
            await asyncio.sleep(0.05)
            task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value.result

    assert asyncio.run(cancelled()).unknown == 2


# ---- shared, and over a real database


def test_a_repository_is_shared_by_many():
    store = Telling("list")
    with Coalescer(writer_to(store)) as coalescer:
        futures = [coalescer.submit(number) for number in [1, -2, 3, 3]]
    assert [future.result().status for future in futures] == ["written", "failed", "written", "failed"]
    assert store.stored == [1, 3]


METADATA = MetaData()
ORDERS = Table(
    "orders_of_a_repository",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer),
    CheckConstraint("n >= 0", name="ck_orders_n"),
)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 5)), max_size=15), st.integers(1, 6))
def test_over_a_real_database_it_writes_what_one_by_one_would_write(shared_engine, emptied, rows, size):
    def insert_many(entities):
        with shared_engine.begin() as connection:
            connection.execute(insert(ORDERS), entities)

    def insert_one(entity):
        insert_many([entity])

    entities = [{"id": key, "n": n} for key, n in rows]
    with emptied(METADATA):
        writer = BatchWriter.for_repository(
            insert_many=insert_many, insert_one=insert_one, atomic=True, chunk_size=size, retry=AT_ONCE
        )
        result = writer.run(entities)
        with shared_engine.connect() as connection:
            stored = {row.id: row.n for row in connection.execute(select(ORDERS))}
    expected, refused = {}, []
    for place, (key, n) in enumerate(rows):
        if n < 0 or key in expected:
            refused.append(place)
        else:
            expected[key] = n
    assert stored == expected
    assert [failure.index for failure in result.failures] == refused
    assert result.abort is None
    assert all(failure.sqlstate for failure in result.failures)
