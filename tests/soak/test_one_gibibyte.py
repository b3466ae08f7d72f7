"""A value of 1 GiB, which PostgreSQL does not take: it fails by itself. Takes two minutes, and 12 GiB of memory."""

import resource
import time

import psutil
import pytest
from databases import watched
from figures import tell
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, func, select

from batchwrite import BatchWriter, DeadLetters, Ledger

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("machine")]

BIG = Table("big", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), Column("value", Text))


MEMORY = 12  # GiB: 11.1 of the client's, and what the server keeps in memory


@pytest.fixture
def room():
    """Room for it, so that the system does not look for somebody to end."""
    free = psutil.virtual_memory().available / 2**30
    assert free > MEMORY, f"{free:.1f} GiB of memory are free, and {MEMORY} are needed"


@pytest.fixture
def database(room, own_postgres):
    with watched(create_engine(own_postgres.url)) as engine:
        BIG.create(engine)
        yield engine


@pytest.fixture
def ledger(database):
    made = Ledger()
    made.create(database)
    return made


def rows():
    """Three items. The second is made when it is asked for: the test does not hold it."""
    yield {"id": 1, "value": "x"}
    yield {"id": 2, "value": "x" * 1024**3}
    yield {"id": 3, "value": "x"}


def test_a_value_of_one_gibibyte_fails_by_itself(database, ledger):
    began = time.monotonic()
    writer = BatchWriter(database, ledger=ledger, dead_letters=DeadLetters())
    result = writer.run(rows(), lambda row, out: out.insert(BIG, row))
    seconds = time.monotonic() - began
    failed = {failure.index: failure.message for failure in result.failures}
    letters = ledger.dead_letters.c
    with database.connect() as connection:
        landed = connection.execute(select(BIG.c.id, func.length(BIG.c.value)).order_by(BIG.c.id)).all()
        kept = {row.item_index: row.item for row in connection.execute(select(letters.item_index, letters.item))}
    figures = {
        "seconds": f"{seconds:.0f}",
        "items landed": ", ".join(str(row.id) for row in landed),
        "items failed": ", ".join(f"{index + 1} ({message})" for index, message in failed.items()),
        "dead letters": ", ".join(f"{index + 1} ({str(item)[:100]})" for index, item in kept.items()),
        "most memory of the client": f"{most_memory():.1f} GiB",
    }
    tell(database, figures)
    assert landed == [(1, 1), (3, 1)]
    assert list(failed) == list(kept) == [1]


def most_memory() -> float:
    """The most memory that this process has had, in GiB (where the system counts KiB, as Linux does)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
