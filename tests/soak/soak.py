"""A run under random faults, by hand: `python tests/soak/soak.py --minutes 10`.

A stream of items with one bad one in a hundred is written to a server of its own, with a ledger, while its backends are
killed, its statements cancelled, its rows locked by somebody else and the server itself stopped at once and started
again. What ends a run is started again under the same run id. In the end the tables must be those of the items that the
result counts as written. Prints the figures that stand in `docs/reliability.md`.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, MetaData, Table, create_engine, func, select, text

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import LocalPostgres, local_bin_dir

from batchwrite import BatchWriter, Collector, DeadLetters, Ledger, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

METADATA = MetaData()
# Without a primary key: a row that is written twice is there twice.
EVENTS = Table(
    "events",
    METADATA,
    Column("item", BigInteger, nullable=False, index=True),
    Column("amount", Integer, CheckConstraint("amount > 0", name="amount_above_zero"), nullable=False),
)
ACCOUNTS = Table(
    "accounts", METADATA, Column("id", Integer, primary_key=True), Column("total", BigInteger, nullable=False)
)
KEYS = 500
APPLICATION = "soak"
OURS = "FROM pg_stat_activity WHERE application_name = :name AND pid <> pg_backend_pid()"


def amount_of(number: int) -> int:
    """One in a hundred is refused."""
    return -1 if number % 100 == 37 else number % 9 + 1


def record(number: int, out: Collector) -> None:
    out.insert(EVENTS, {"item": number, "amount": amount_of(number)})
    out.increment(ACCOUNTS, {"id": number * 7919 % KEYS}, total=amount_of(number))


class Numbers:
    """The items: as many as there is time for; where a run goes on, it goes on behind."""

    def __init__(self, until: float) -> None:
        self._until = until

    def __iter__(self) -> Iterator[int]:
        return iter(self.from_item(0))

    def from_item(self, index: int) -> Iterator[int]:
        number = index
        while time.monotonic() < self._until or number == index:
            yield number
            number += 1


class Faults(threading.Thread):
    """Makes something go wrong every now and then."""

    def __init__(self, server: LocalPostgres, seed: int) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._random = random.Random(seed)
        self._engine = create_engine(server.url)
        self._ended = threading.Event()
        self.made: Counter[str] = Counter()

    def run(self) -> None:
        kinds = [self.kill, self.cancel, self.lock, self.restart]
        while not self._ended.wait(self._random.uniform(0.1, 1.5)):
            (kind,) = self._random.choices(kinds, weights=[10, 6, 6, 1])
            try:
                if kind():
                    self.made[kind.__name__] += 1
            except Exception as error:
                self.made[f"not made: {type(error).__name__}"] += 1

    def end(self) -> None:
        self._ended.set()
        self.join()
        self._engine.dispose()

    def kill(self) -> bool:
        return self._tell(f"SELECT count(pg_terminate_backend(pid)) {OURS}")

    def cancel(self) -> bool:
        return self._tell(f"SELECT count(pg_cancel_backend(pid)) {OURS} AND state = 'active'")

    def lock(self) -> bool:
        """Two rows in the order that the writer does not take, for a while."""
        with self._engine.begin() as connection:
            high, low = sorted(self._random.sample(range(KEYS), 2), reverse=True)
            for key in (high, low):
                connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == key).with_for_update())
                time.sleep(self._random.uniform(0.05, 0.5))
        return True

    def restart(self) -> bool:
        self._server.stop("immediate")
        time.sleep(self._random.uniform(0, 1))
        self._server.start()
        return True

    def _tell(self, statement: str) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.scalar(text(statement), {"name": APPLICATION}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print("seed", options.seed)
    with LocalPostgres(local_bin_dir()) as server:
        url = server.url.update_query_dict({"application_name": APPLICATION})
        engine = create_engine(url)
        METADATA.create_all(engine)
        ledger = Ledger()
        ledger.create(engine)
        with engine.begin() as connection:
            connection.execute(ACCOUNTS.insert(), [{"id": key, "total": 0} for key in range(KEYS)])
        faults = Faults(server, options.seed)
        faults.start()
        counts = _written(engine, ledger, options.minutes * 60)
        faults.end()
        for kind, number in sorted(faults.made.items()):
            print(f"{number:>9,} {kind}")
        with engine.connect() as connection:
            lost_or_twice = _compared(connection, ledger, counts)
        engine.dispose()
    return lost_or_twice


def _written(engine: Engine, ledger: Ledger, seconds: float) -> Counter[str]:
    """Run, and run again, until the time has passed; what the results count."""
    counts: Counter[str] = Counter()
    policy = RetryPolicy(attempts=8, first_wait=0.1, longest_wait=1)
    items = Numbers(time.monotonic() + seconds)
    while True:
        writer = BatchWriter(
            engine, chunk_size=500, retry=policy, ledger=ledger, dead_letters=DeadLetters(), chunk_timeout=20
        )
        result = writer.run(items, record, run_id="soak")
        counts.update(starts=1, written=result.written, failed=result.failed, unknown=result.unknown)
        counts.update(chunks=result.chunks, fallbacks=result.fallbacks)
        if result.abort is None:
            return counts
        print("ended by", result.abort.reason, result.abort.message)


def _compared(connection: Connection, ledger: Ledger, counts: Counter[str]) -> int:
    """Print what the tables say, and give what is not as it should be."""
    items = counts["written"] + counts["failed"]
    good = [number for number in range(items) if amount_of(number) > 0]
    rows, distinct = connection.execute(
        select(func.count(), func.count(EVENTS.c.item.distinct())).select_from(EVENTS)
    ).one()
    totals: dict[int, int] = dict.fromkeys(range(KEYS), 0)
    for number in good:
        totals[number * 7919 % KEYS] += amount_of(number)
    found: dict[int, Any] = {row.id: row.total for row in connection.execute(select(ACCOUNTS))}
    letters = connection.scalar(select(func.count()).select_from(ledger.dead_letters))
    told = {
        "items": items,
        **counts,
        "rows": rows,
        "lost": len(good) - distinct,
        "twice": rows - distinct,
        "accounts that differ": sum(found[key] != total for key, total in totals.items()),
        "dead letters missing": items - len(good) - (letters or 0),
    }
    for name, number in told.items():
        print(f"{number:>9,} {name}")
    return int(any(told[name] for name in ("lost", "twice", "accounts that differ", "dead letters missing", "unknown")))


if __name__ == "__main__":
    sys.exit(main())
