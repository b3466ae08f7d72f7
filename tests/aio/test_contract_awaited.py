"""What is asked of `BatchWriter`, asked of `AsyncBatchWriter`: the same tests, through a face that awaits.

All of tests/writer is run once more on every database (by the default run on one), but for what a test of the event
loop's own has to say: signals (see test_cancellation), engines (see test_async_writer), what takes the library apart.
"""

import pytest
import test_limits
import test_listeners
import test_names
import test_run
import test_stream_and_collect
from awaited import Awaited
from items import METADATA

# What these have to say is about something else than writing, and said of asyncio elsewhere.
SAID_ELSEWHERE = (
    *("interrupt", "ctrl_c", "stream", "retries_are_told"),  # signals, and what ends connections: see test_cancellation
    *("no_database", "url_gives", "would_never_run"),  # what it is made of: see test_async_writer
    *("opened_once", "needs_an_open_batch", "do_not_nest", "run_inside_map"),  # misuse that does not look the same
)
MODULES = [
    test_limits,
    test_listeners,
    test_names,
    test_run,
    test_stream_and_collect,
]
for module in MODULES:
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test) and not any(word in name for word in SAID_ELSEWHERE):
            assert name not in globals(), f"two tests are called {name}"
            globals()[name] = test


pytestmark = [pytest.mark.one_database, pytest.mark.slow]


@pytest.fixture(autouse=True, scope="module")
def awaited():
    with pytest.MonkeyPatch.context() as patch:
        for each in MODULES:
            patch.setattr(each, "BatchWriter", Awaited)
        yield


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine
