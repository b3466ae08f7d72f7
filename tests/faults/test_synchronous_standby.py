"""A COMMIT that waits for a synchronous standby is never cancelled by us, and one that others cancel leaves a doubt.

Cancelled, it keeps what it has committed, unreplicated: the server answers as if nothing had been, with a warning.
After a failover it would be gone.
"""

import asyncio
import threading
import time

import pytest
from servers import LocalPostgres, local_bin_dir
from sqlalchemy import ARRAY, Column, Integer, MetaData, NullPool, String, Table, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from batchwrite import BatchWriter, Ledger, RetryPolicy
from batchwrite.aio import AsyncBatchWriter

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("machine")]

METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", Integer, primary_key=True, autoincrement=False))
LISTS = Table(
    "lists",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("words", ARRAY(String)),  # which SQLAlchemy writes
)
LEDGER = Ledger()
QUICKLY = RetryPolicy(attempts=3, first_wait=0.1, longest_wait=0.2)
_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def server():
    with LocalPostgres(local_bin_dir()) as server:
        yield server


@pytest.fixture
def alone(server):
    """An engine for looking and cancelling, which waits for no standby; the server's own is away."""
    engine = create_engine(
        server.url.update_query_dict({"options": "-c synchronous_commit=local"}),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    METADATA.create_all(engine)
    LEDGER.create(engine)
    with engine.connect() as connection:
        tables = ", ".join(table.name for table in [*METADATA.sorted_tables, *LEDGER.metadata.sorted_tables])
        connection.exec_driver_sql(f"TRUNCATE {tables}")
    wait_for(engine, "nobody")
    yield engine
    wait_for(engine, "")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM ({_WAITING}) AS waiting")
    engine.dispose()


def wait_for(engine, name):
    """Have COMMITs wait for a standby of some name, or for none."""
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER SYSTEM SET synchronous_standby_names TO '{name}'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    while True:
        with engine.connect() as connection:
            if connection.exec_driver_sql("SHOW synchronous_standby_names").scalar() == name:
                return


class Cancelling:
    """Cancels so many COMMITs that wait for a standby, and does something after the last."""

    def __init__(self, engine, count=1_000, afterwards=lambda: None):
        self._engine, self._left, self._afterwards = engine, count, afterwards
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._is_over.set()
        self._thread.join()

    def _work(self):
        while self._left and not self._is_over.wait(0.05):
            with self._engine.connect() as connection:
                found = connection.exec_driver_sql(f"SELECT pg_cancel_backend(pid) FROM ({_WAITING}) AS waiting").all()
                self._left -= bool(found)
        self._afterwards()


def insert_thing(number, out):
    out.insert(THINGS, {"id": number})


def insert_list(number, out):
    out.insert(LISTS, {"id": number, "words": ["a"]})


def run_awaited(server, count, **options):
    async def run():
        engine = create_async_engine(server.url, poolclass=NullPool)
        result = await AsyncBatchWriter(engine, **options).run(range(count), insert_thing)
        await engine.dispose()
        return result

    return asyncio.run(run())


def run_with(write):
    def run(server, count, **options):
        engine = create_engine(server.url, poolclass=NullPool)
        return BatchWriter(engine, **options).run(range(count), write)

    return run


PATHS = {
    "one message": (run_with(insert_thing), 5),
    "COPY": (run_with(insert_thing), 200),
    "SQLAlchemy": (run_with(insert_list), 5),
    "awaited": (run_awaited, 5),
    "awaited COPY": (run_awaited, 200),
}
each_path = pytest.mark.parametrize("path", PATHS)  # of each test the default run takes one


@pytest.mark.drawn(1)
@each_path
def test_a_deadline_leaves_a_commit_alone_that_waits(alone, server, path):
    run, count = PATHS[path]
    result = run(server, count, chunk_timeout=1, retry=QUICKLY)
    assert (result.written, result.unknown, result.abort.reason) == (0, count, "in_doubt")
    with alone.connect() as connection:
        assert connection.exec_driver_sql(_WAITING).all() != []  # as without us: it is for the standby to end it


@pytest.mark.drawn(1)
@each_path
def test_a_commit_that_somebody_cancels_is_in_doubt(alone, server, path):
    run, count = PATHS[path]
    with Cancelling(alone):
        result = run(server, count, retry=QUICKLY)
    assert (result.written, result.unknown, result.abort.reason) == (0, count, "in_doubt")
    assert "failover" in result.abort.message


def test_a_timeout_of_the_servers_makes_nothing_certain(alone, server):
    """PostgreSQL does not count a COMMIT's wait against it; a server that does would warn as if it were cancelled."""
    with alone.connect() as connection:
        connection.exec_driver_sql("ALTER ROLE postgres SET statement_timeout = '500ms'")
    try:
        result = run_with(insert_thing)(server, 200, chunk_timeout=1.5, retry=QUICKLY)
    finally:
        with alone.connect() as connection:
            connection.exec_driver_sql("ALTER ROLE postgres RESET statement_timeout")
    assert (result.written, result.unknown, result.abort.reason) == (0, 200, "in_doubt")


@pytest.mark.drawn(1)
@each_path
def test_with_a_ledger_it_is_written_once_the_standby_has_it(alone, server, path):
    """The entry alone, which is there at once, would be lost with the rows."""
    run, count = PATHS[path]
    with Cancelling(alone, count=2, afterwards=lambda: wait_for(alone, "")):
        result = run(server, count, retry=RetryPolicy(first_wait=0.1), ledger=LEDGER)
    assert (result.written, result.unknown, result.abort) == (count, 0, None)


@pytest.mark.drawn(1)
@each_path
def test_with_a_ledger_it_is_unknown_while_the_standby_stays_away(alone, server, path):
    run, count = PATHS[path]
    with Cancelling(alone):
        result = run(server, count, retry=QUICKLY, ledger=LEDGER)
    assert (result.written, result.unknown) == (0, count)
    assert "failover" in result.abort.message


def test_what_a_trigger_says_at_commit_is_no_doubt(postgres_engine):
    METADATA.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE WARNING 'late'; RETURN NULL; END $$;"
                "CREATE CONSTRAINT TRIGGER warns AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION warn()"
            )
        )
    for count in (5, 200):
        result = BatchWriter(postgres_engine).run(range(1_000 * count, 1_001 * count), insert_thing)
        assert (result.written, result.abort) == (count, None)


def test_a_lock_that_is_waited_for_before_commit_is_still_cancelled(postgres_engine):
    """COMMIT goes along with a few rows: what comes before it is cancelled, and nothing is in doubt."""
    METADATA.create_all(postgres_engine)
    with postgres_engine.connect() as holder:
        holder.execute(THINGS.insert(), {"id": 3})
        begun = time.monotonic()
        result = BatchWriter(postgres_engine, chunk_timeout=0.5, retry=QUICKLY).run(range(5), insert_thing)
        holder.rollback()
    assert (result.written, result.unknown, result.unattempted) == (0, 0, 5)
    assert time.monotonic() - begun < 10
