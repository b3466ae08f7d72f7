"""Poison: an item that costs the connection whenever it is written looks like weather, and must fail alone."""

import socket
import threading
from contextlib import suppress

import pytest
from provoked import KILL, THINGS, increment_thing, insert_thing, written
from sqlalchemy import NullPool, create_engine, select, text

from batchwrite import BatchWriter, DeadLetters, Ledger, RetryPolicy, Stage

AT_ONCE = RetryPolicy(first_wait=0, longest_wait=0)
LEDGER = Ledger()

POISON = f"""
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {KILL}; RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW WHEN (NEW.small = 7) EXECUTE FUNCTION die();
"""


@pytest.fixture(params=[False, True], ids=["no ledger", "ledger"])
def books(request, postgres):
    """Options of a writer with or without books."""
    if not request.param:
        return {}
    LEDGER.create(postgres)
    return {"ledger": LEDGER, "dead_letters": DeadLetters()}


@pytest.fixture
def poisoned(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(POISON)
    return postgres


def rows_with(poison, count=12):
    return [{"id": number} | ({"small": 7} if number in poison else {}) for number in range(1, count + 1)]


@pytest.mark.parametrize("poison", [{1}, {5}, {12}, {4, 5}, {1, 12}], ids=str)
@pytest.mark.parametrize("bad", [set(), {3, 6}], ids=["good mates", "bad mates"])
def test_poison_fails_alone(poisoned, books, poison, bad):
    rows = rows_with(poison)
    for row in rows:
        if row["id"] in bad:
            row["checked"] = 0
    result = BatchWriter(poisoned, retry=AT_ONCE, **books).run(rows, insert_thing)
    assert (result.abort, result.unknown, result.unattempted) == (None, 0, 0)
    assert {failure.index + 1 for failure in result.failures} == poison | bad
    assert written(poisoned) == [row["id"] for row in rows if row["id"] not in poison | bad]
    told = [failure for failure in result.failures if failure.index + 1 in poison]
    assert {(failure.stage, failure.error_type) for failure in told} == {(Stage.WRITE, "ConnectionLost")}
    if books:
        with poisoned.connect() as connection:
            letters = list(connection.scalars(select(LEDGER.dead_letters.c.item_index)))
            items = connection.execute(
                text("SELECT sum(items), sum(written), sum(failed) FROM batchwrite_chunks")
            ).one()
        assert sorted(index + 1 for index in letters) == sorted(poison | bad)
        assert tuple(items) == (12, result.written, result.failed)


@pytest.mark.parametrize("chunk_size", [1, 2, 5])
def test_poison_fails_alone_whatever_the_chunk(poisoned, books, chunk_size):
    result = BatchWriter(poisoned, retry=AT_ONCE, chunk_size=chunk_size, **books).run(rows_with({3, 8}), insert_thing)
    assert (result.abort, result.written) == (None, 10)
    assert [failure.index + 1 for failure in result.failures] == [3, 8]


def test_poison_is_seen_by_a_stream_in_its_turn(poisoned, books):
    stream = BatchWriter(poisoned, retry=AT_ONCE, **books).stream(rows_with({5}), insert_thing)
    outcomes = list(stream)
    assert [outcome.index for outcome in outcomes] == list(range(12))
    assert [outcome.index for outcome in outcomes if outcome.failure is not None] == [4]


def test_a_run_that_met_poison_can_be_started_again(poisoned):
    LEDGER.create(poisoned)
    rows = rows_with({5})
    BatchWriter(poisoned, retry=AT_ONCE, ledger=LEDGER).run(rows, insert_thing, run_id="x")
    again = BatchWriter(poisoned, retry=AT_ONCE, ledger=LEDGER, chunk_size=4).run(rows, insert_thing, run_id="x")
    assert (again.resumed, again.received) == (12, 0)


def test_a_statement_that_is_always_cancelled_is_isolated_and_then_ends_the_run(postgres):
    """Cancelled may be anybody's doing: it makes no item fail, but those before it land."""
    with postgres.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION USING ERRCODE = '57014'; END $$;"
            "CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW WHEN (NEW.small = 7) EXECUTE FUNCTION slow()"
        )
    result = BatchWriter(postgres, retry=AT_ONCE).run(rows_with({5}), insert_thing)
    assert (result.failed, result.abort.reason, result.abort.sqlstate) == (0, "transient", "57014")
    assert written(postgres) == list(range(1, result.written + 1))
    assert result.written < 5


# ---- losses that are somebody else's doing


def kill_when_blocked(url, times, done):
    """Kill so many times who waits for the lock that the caller holds, and then give it up."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as holder, engine.connect() as killer:
        holder.execute(THINGS.update().where(THINGS.c.id == 1).values(small=100))
        done.set()
        killed = 0
        while killed < times:
            killer.execute(text("SELECT pg_stat_clear_snapshot(), pg_sleep(0.005)"))
            killed += len(
                killer.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    )
                ).all()
            )
        holder.rollback()
    engine.dispose()


@pytest.mark.parametrize("items", [[1], [1, 2], [1, 2, 3, 4]], ids=len)
@pytest.mark.parametrize("bad", [[], [99]], ids=["good mates", "bad mates"])
def test_three_losses_that_somebody_else_has_caused_make_no_item_fail(postgres, books, items, bad):
    with postgres.begin() as connection:
        connection.execute(THINGS.insert(), [{"id": number, "small": 0} for number in range(1, 5)])
    ready = threading.Event()
    killer = threading.Thread(target=kill_when_blocked, args=(postgres.url, 3, ready))
    killer.start()
    assert ready.wait(30)
    result = BatchWriter(postgres, retry=AT_ONCE, **books).run([*items, *bad], increment_thing)
    killer.join()
    assert (result.abort, result.unknown) == (None, 0)
    assert (result.written, result.failed) == (len(items), len(bad))
    with postgres.connect() as connection:
        assert list(connection.scalars(select(THINGS.c.small).where(THINGS.c.id.in_(items)))) == [1] * len(items)


# ---- what never gets an answer, and says nothing


class Censor:
    """A port of 127.0.0.1 in front of a server: what holds a certain text ends the connection, and is not passed on."""

    def __init__(self, port, text):
        self._port, self._text = port, text
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets, self._threads = [self._listener], []
        self._start(self._accept)

    def _start(self, target, *arguments):
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def close(self):
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    self._start(self._pass, source, target)

    def _pass(self, source, target):
        with suppress(OSError):
            while (data := source.recv(1 << 20)) and self._text not in data:
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def censored(postgres):
    censor = Censor(postgres.url.port, b"zap")
    engine = create_engine(postgres.url.set(host="127.0.0.1", port=censor.port), connect_args={"sslmode": "disable"})
    yield engine
    engine.dispose()
    censor.close()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("count", [6, 250], ids=["small", "copy"])
def test_poison_that_gets_no_answer_fails_alone_by_the_books(postgres, censored, count, workers):
    """COMMIT is on its way with the small ones: that it was not carried out, the ledger tells."""
    LEDGER.create(postgres)
    rows = [{"id": number, "short": "zap" if number == 4 else "x"} for number in range(1, count + 1)]
    result = BatchWriter(censored, retry=AT_ONCE, ledger=LEDGER, workers=workers).run(rows, insert_thing)
    assert (result.abort, result.unknown, result.written) == (None, 0, count - 1)
    assert [(failure.index, failure.error_type) for failure in result.failures] == [(3, "ConnectionLost")]
    assert written(postgres) == [number for number in range(1, count + 1) if number != 4]
