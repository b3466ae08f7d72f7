"""COMMITs that are delayed on their way, and come through while the client already does something else."""

import socket
import threading
from contextlib import suppress

import pytest
from failing_proxy import FailingProxy, Link
from sqlalchemy import Column, Integer, MetaData, NullPool, Table, create_engine, select

from batchwrite import BatchWriter, Ledger, OutcomeStatus, RetryPolicy

METADATA = MetaData()
NUMBERS = Table("numbers", METADATA, Column("number", Integer))  # no key: nothing but the books stands in the way
LEDGER = Ledger()
PLAIN = {"sslmode": "disable", "gssencmode": "disable"}  # the proxy reads what is sent
QUICKLY = RetryPolicy(attempts=5, first_wait=0.01, longest_wait=0.05)


class LateLink(Link):
    """Cuts the client off at COMMIT, and passes on to the server what it has sent when the proxy says so."""

    has_written = False

    def _pass_on(self, batch):
        proxy = self._proxy
        self.has_written |= any("INSERT " in label or "COPY " in label for label in batch.labels)
        if "COMMIT" not in batch.labels or not self.has_written or not proxy.hold():
            super()._pass_on(batch)
            return
        self._client.shutdown(socket.SHUT_RDWR)
        proxy.released.wait()
        with suppress(OSError):
            self._server.sendall(batch.raw())
            self._server.shutdown(socket.SHUT_WR)
            while self._server.recv(65_536):
                pass
        proxy.passed_on.release()


class LateProxy(FailingProxy):
    """Holds the COMMITs of chunks back, the first so many, until `release`; those behind are passed on after these."""

    def __init__(self, target):
        super().__init__(target, kill=lambda _pid: None, link=LateLink)
        self.left = 0
        self.held = 0
        self.released = threading.Event()
        self.passed_on = threading.Semaphore(0)

    def hold(self):
        """Whether a COMMIT is to be held back."""
        if self.left:
            self.left -= 1
            self.held += 1
            return True
        self.release()
        return False

    def release(self):
        """Pass on all that is held back, and return when it has been carried out."""
        self.released.set()
        while self.held:
            self.passed_on.acquire()
            self.held -= 1


@pytest.fixture
def late(postgres_engine):
    METADATA.create_all(postgres_engine)
    LEDGER.create(postgres_engine)
    proxy = LateProxy((postgres_engine.url.host, postgres_engine.url.port))
    engine = create_engine(
        postgres_engine.url.set(host="127.0.0.1", port=proxy.port), poolclass=NullPool, connect_args=PLAIN
    )
    yield proxy, engine, postgres_engine
    proxy.release()
    proxy.close()


def insert_number(number, out):
    out.insert(NUMBERS, {"number": number})


def stored(engine):
    with engine.connect() as connection:
        return sorted(connection.scalars(select(NUMBERS.c.number)))


@pytest.mark.drawn(2)
@pytest.mark.parametrize("count", [8, 120])
@pytest.mark.parametrize("held", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [0, 1])
def test_one_that_comes_through_later_settles_all_parts_of_its_chunk(late, count, held, workers):
    proxy, engine, plain = late
    proxy.left = held
    writer = BatchWriter(engine, ledger=LEDGER, retry=QUICKLY, workers=workers, chunk_size=count)
    result = writer.run(range(2 * count), insert_number, run_id="late")
    assert (result.abort, result.written, result.unknown) == (None, 2 * count, 0)
    assert stored(plain) == list(range(2 * count))


@pytest.mark.drawn(2)
@pytest.mark.parametrize("count", [8, 120])
@pytest.mark.parametrize("ledger", [None, LEDGER], ids=["no ledger", "ledger"])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_may_land_after_an_abort_is_unknown(late, count, ledger, workers):
    proxy, engine, plain = late
    proxy.left = 1_000
    writer = BatchWriter(engine, ledger=ledger, retry=QUICKLY, workers=workers, chunk_size=count)
    stream = writer.stream(range(2 * count), insert_number)
    outcomes = list(stream)
    assert stream.result.abort is not None
    proxy.release()
    may_be_there = {each.item for each in outcomes if each.status is OutcomeStatus.UNKNOWN}
    assert set(stored(plain)) <= may_be_there
    assert stream.result.unknown == len(may_be_there)
    assert may_be_there == set(range(count))  # the second chunk was not sent
