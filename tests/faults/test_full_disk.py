"""A full disk: the run waits, gives up with nothing half-written, says what to do, and goes on once there is room.

SQLite writes to a file that may not grow, by a limit of the database's or of its process's own (RLIMIT_FSIZE, as
`ulimit -f` sets it). PostgreSQL has no code for that limit (EFBIG is XX000 from version 16 on), so that it gets a small
file system, which takes root's right to mount one.
"""

import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from provoked import METADATA, THINGS, insert_thing, written
from sqlalchemy import create_engine, event, func, select

from batchwrite import BatchWriter, DeadLetters, Ledger, RetryPolicy, Status

pytestmark = pytest.mark.xdist_group("machine")

AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)
LEDGER = Ledger()
ROOM = 4 * 1024 * 1024
# The first is refused whatever the room, the others take some ten megabytes, and cannot be compressed.
BYTES = random.Random(4711).randbytes(10_000)
COUNT = 1_000
ROWS = [{"id": 0, "checked": 0}, *({"id": number, "data": BYTES} for number in range(1, COUNT + 1))]


def prepared(engine):
    METADATA.create_all(engine)
    LEDGER.create(engine)
    return engine


def load(engine, **options):
    writer = BatchWriter(engine, ledger=LEDGER, dead_letters=DeadLetters(), retry=AT_ONCE, chunk_size=50, **options)
    return writer.run(ROWS, insert_thing, run_id="nightly")


def assert_ended_for_room(engine, result, caplog, sqlstates):
    """Aborted after some tries, whole chunks written, the rest unattempted, and told what to do."""
    assert (result.status, result.abort.reason) == (Status.ABORTED, "capacity")
    assert result.abort.sqlstate in sqlstates
    assert "make room" in result.abort.message
    assert "start the run again" in result.abort.message
    retries = [record for record in caplog.records if getattr(record, "action", "") == "retry"]
    assert [record.kind for record in retries] == ["capacity"] * (AT_ONCE.attempts - 1)
    assert (result.failed, result.unknown) == (1, 0)
    assert 0 < result.written < COUNT
    assert result.unattempted == result.received - result.written - 1
    assert (result.written + 1) % 50 == 0
    assert written(engine) == list(range(1, result.written + 1))
    with engine.connect() as connection:
        assert connection.scalar(select(func.sum(LEDGER.chunks.c["items"]))) == result.written + 1


def assert_goes_on(engine, first):
    again = load(engine)
    assert (again.abort, again.resumed, again.failed) == (None, first.written + 1, 0)
    assert written(engine) == list(range(1, COUNT + 1))
    with engine.connect() as connection:
        assert list(connection.scalars(select(LEDGER.dead_letters.c.item_index))) == [0]
        assert connection.scalar(select(func.sum(func.length(THINGS.c.data)))) == COUNT * len(BYTES)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_sqlite_database_that_may_not_grow(sqlite_engine, caplog, journal):
    most = [ROOM // 4096]

    @event.listens_for(sqlite_engine, "connect")
    def limit(raw, record):
        raw.execute(f"PRAGMA journal_mode = {journal}").fetchall()
        raw.execute(f"PRAGMA max_page_count = {most[0]}").fetchall()

    sqlite_engine.dispose()
    prepared(sqlite_engine)
    first = load(sqlite_engine)
    assert_ended_for_room(sqlite_engine, first, caplog, {"SQLITE_FULL"})
    most[0] = 2**30
    sqlite_engine.dispose()
    assert_goes_on(sqlite_engine, first)


LIMITED = textwrap.dedent("""
    import json, resource, signal, sys
    from test_full_disk import ROOM, create_engine, load
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
    engine = create_engine(sys.argv[1])
    result = load(engine)
    engine.dispose()
    print(json.dumps(result.to_dict()))
""")


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_file_of_sqlite_that_the_system_does_not_let_grow(sqlite_engine, journal):
    """In a process of its own, whose files may not grow: the operating system refuses the write itself."""
    with sqlite_engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA journal_mode = {journal}")
    prepared(sqlite_engine)
    url = sqlite_engine.url.render_as_string(hide_password=False)
    here = Path(__file__).parent
    path = [*sys.path, str(here), str(here.parent)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{LIMITED}", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = json.loads(done.stdout)
    assert (told["status"], told["abort"]["reason"]) == ("aborted", "capacity")
    assert "make room" in told["abort"]["message"]
    assert (told["failed"], told["unknown"]) == (1, 0)
    assert 0 < told["written"] < COUNT
    assert told["unattempted"] == told["received"] - told["written"] - 1
    assert written(sqlite_engine) == list(range(1, told["written"] + 1))
    again = load(sqlite_engine)
    assert (again.abort, again.resumed) == (None, told["written"] + 1)
    assert written(sqlite_engine) == list(range(1, COUNT + 1))


@pytest.fixture
def small_disk(own_postgres):
    """A disk for a tablespace of the server's: a file system in memory, that can be given more room."""
    place = own_postgres.directory / "space"
    place.mkdir()
    owner = own_postgres.data_dir.stat()
    options = f"size={ROOM},uid={owner.st_uid},gid={owner.st_gid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        own_postgres.stop()
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_of_postgresql_that_is_full(own_postgres, small_disk, caplog, workers):
    engine = prepared(create_engine(own_postgres.url))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.exec_driver_sql("ALTER TABLE things SET TABLESPACE small")
    try:
        first = load(engine, workers=workers)
        assert_ended_for_room(engine, first, caplog, {"53100"})
        subprocess.run(["mount", "-o", f"remount,size={16 * ROOM}", small_disk], check=True)
        assert_goes_on(engine, first)
    finally:
        engine.dispose()
