"""The server stopped at once, and started again, while a run goes on: it goes on to its end, and all is there once."""

import random
import threading

import pytest
from orders_and_stock import METADATA, contents, fill, modelled, record
from sqlalchemy import create_engine
from started_client import stream

from batchwrite import BatchWriter, Ledger, RetryPolicy

pytestmark = pytest.mark.xdist_group("machine")

_STOPS = 6
_COUNT = 3_000

# Until it is back, however long that takes on a busy machine.
_PATIENT = RetryPolicy(attempts=1_000, first_wait=0.05, longest_wait=0.3, total_seconds=120)


class Stopper:
    """Stops a server at random moments behind certain items, and starts it again, on a thread of its own."""

    def __init__(self, server, moments):
        self._server = server
        self._moments = moments
        self._thread = None
        self.stops = 0

    def items(self, items):
        """The items; at some of them the server is about to be stopped, once it runs again."""
        for position, item in enumerate(items):
            if position % (_COUNT // (_STOPS + 1)) == _COUNT // (_STOPS + 1) - 1 and self.stops < _STOPS:
                self.join()
                self.stops += 1
                self._thread = threading.Thread(target=self._stop, args=(self._moments.uniform(0, 0.03),))
                self._thread.start()
            yield item

    def join(self):
        if self._thread is not None:
            self._thread.join()

    def _stop(self, delay):
        threading.Event().wait(delay)  # into the flush of whatever comes now
        self._server.stop("immediate")
        self._server.start()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_server_that_is_stopped_again_and_again_costs_nothing(own_postgres, workers, seed):
    engine, ledger = create_engine(own_postgres.url), Ledger()
    METADATA.create_all(engine)
    ledger.create(engine)
    with engine.begin() as connection:
        fill(connection)
    stopper = Stopper(own_postgres, random.Random(seed))
    items = list(stream(seed, _COUNT))
    writer = BatchWriter(engine, chunk_size=40, workers=workers, ledger=ledger, retry=_PATIENT)
    result = writer.run(stopper.items(items), record)
    stopper.join()
    rows, failed, skipped = modelled(items)
    assert result.abort is None
    assert (result.failed, result.skipped, result.unknown) == (len(failed), len(skipped), 0)
    assert stopper.stops == _STOPS
    engine.dispose()
    with engine.connect() as connection:
        assert contents(connection) == rows
    engine.dispose()
