"""A stream of items written while backends, statements and the server are killed: none is lost, none is there twice.

Each item is a row and an increment; one in a hundred is bad. What ends a run is started again under the same run id.
"""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from databases import watched
from figures import tell
from random_faults import CLIENT, RandomFaults
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    select,
)

from batchwrite import BatchResult, BatchWriter, DeadLetters, Ledger, RetryPolicy

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("machine")]

METADATA = MetaData()
# Without a primary key: a row that is written twice is there twice.
EVENTS = Table(
    "events",
    METADATA,
    Column("item", BigInteger, nullable=False),
    Column("amount", Integer, CheckConstraint("amount > 0", name="amount_above_zero"), nullable=False),
)
ACCOUNTS = Table(
    "accounts", METADATA, Column("id", Integer, primary_key=True), Column("total", BigInteger, nullable=False)
)
ACCOUNT_COUNT = 500
POLICY = RetryPolicy(attempts=8, first_wait=0.1, longest_wait=1)
LAST_START = 60.0  # seconds behind the end of the stream: then the server is up, and nothing goes wrong any more


def is_bad(number: int) -> bool:
    return number % 100 == 37


def amount_of(number: int) -> int:
    return -1 if is_bad(number) else number % 9 + 1


def account_of(number: int) -> int:
    return number * 7919 % ACCOUNT_COUNT


def record(number, out):
    out.insert(EVENTS, {"item": number, "amount": amount_of(number)})
    out.increment(ACCOUNTS, {"id": account_of(number)}, total=amount_of(number))


class Numbers:
    """The items: as many as there is time for. A run that goes on has at least one more."""

    def __init__(self, until: float) -> None:
        self._until = until

    def __iter__(self) -> Iterator[int]:
        return self.from_item(0)

    def from_item(self, index: int) -> Iterator[int]:
        yield index
        while time.monotonic() < self._until:
            index += 1
            yield index


@pytest.fixture
def client(own_postgres):
    """An engine that the faults are meant for, with the tables."""
    with watched(create_engine(own_postgres.url.update_query_dict({"application_name": CLIENT}))) as engine:
        METADATA.create_all(engine)
        with engine.begin() as connection:
            connection.execute(ACCOUNTS.insert(), [{"id": key, "total": 0} for key in range(ACCOUNT_COUNT)])
        yield engine


@pytest.fixture
def ledger(client):
    made = Ledger()
    made.create(client)
    return made


def starts(engine: Engine, ledger: Ledger, seconds: float) -> Iterator[BatchResult]:
    """Starts the run, and starts it again, until it ends by itself."""
    until = time.monotonic() + seconds
    letters = DeadLetters()
    writer = BatchWriter(engine, chunk_size=500, retry=POLICY, ledger=ledger, dead_letters=letters, chunk_timeout=20)
    while True:
        result = writer.run(Numbers(until), record, run_id="soak")
        yield result
        if result.abort is None:
            return
        print("ended by", result.abort.reason, result.abort.message, flush=True)
        assert time.monotonic() < until + LAST_START, "it does not come to its end though nothing goes wrong any more"


def compared(connection: Connection, ledger: Ledger, items: int) -> dict[str, int]:
    """What the tables have and should not have, or have not and should, behind so many items; each must be 0."""
    item = EVENTS.c.item
    counts = select(func.count(), func.count(item.distinct()), func.coalesce(func.max(item), -1))
    rows, distinct, last = connection.execute(counts).one()
    bad = set(filter(is_bad, range(items)))
    letters = connection.scalars(select(ledger.dead_letters.c.item_index)).all()
    return {
        "items lost": items - len(bad) - distinct,
        "items written twice": rows - distinct,
        "items written though nothing counts them": max(0, last + 1 - items),
        "sums that differ": sums_that_differ(connection, items),
        "dead letters missing or too many": len(bad ^ set(letters)) + len(letters) - len(set(letters)),
    }


def sums_that_differ(connection: Connection, items: int) -> int:
    expected = dict.fromkeys(range(ACCOUNT_COUNT), 0)
    for number in range(items):
        if not is_bad(number):
            expected[account_of(number)] += amount_of(number)
    found = {row.id: row.total for row in connection.execute(select(ACCOUNTS))}
    return sum(found.get(key) != total for key, total in expected.items())


def test_nothing_is_lost_or_there_twice_whatever_is_killed(own_postgres, client, ledger, soak_minutes, draw):
    numbers = draw.random("faults of the soak")
    with RandomFaults(own_postgres, numbers, ACCOUNTS.c.id, ACCOUNT_COUNT) as faults:
        results = list(starts(client, ledger, soak_minutes * 60))
    items = results[-1].resumed + results[-1].written + results[-1].failed
    counted = Counter()
    for result in results:
        counted.update(written=result.written, failed=result.failed, unknown=result.unknown)
    with client.connect() as connection:
        differences = compared(connection, ledger, items)
    made = {name: faults.made[name] for name in sorted(faults.made)}
    figures = {"items": items, **counted, **made, "starts of the run": len(results), **differences}
    tell(client, figures, f"{soak_minutes:g} minutes", f"--draw-seed={draw.seed}")
    assert differences == dict.fromkeys(differences, 0)
    # What is unknown when a run ends, the next start finds out.
    assert 0 <= items - counted["written"] - counted["failed"] <= counted["unknown"]
    assert results[-1].unknown == 0
    assert faults.made["backends killed"] > 0
