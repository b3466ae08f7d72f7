"""Faults of a PostgreSQL server, one after the other, at random moments."""

import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from servers import LocalPostgres
from sqlalchemy import Column, create_engine, select, text

CLIENT = "soak"
"""The application name of those whom the faults are meant for."""
CLIENTS = "FROM pg_stat_activity WHERE application_name = :name AND pid <> pg_backend_pid()"


class RandomFaults:
    """Makes something go wrong every now and then, on a thread of its own, until the end of its block.

    Attributes:
        made: How often what was done.
    """

    def __init__(self, server: LocalPostgres, numbers: random.Random, key: Column[int], keys: int) -> None:
        self.made: Counter[str] = Counter()
        self._server = server
        self._random = numbers
        self._key = key  # whose rows are locked
        self._keys = keys
        self._engine = create_engine(server.url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._kinds = {
            "backends killed": (10, self._kill),
            "statements cancelled": (6, self._cancel),
            "rows locked by somebody else": (6, self._lock),
            "servers stopped at once": (1, self._restart),
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._engine.dispose()

    def _go_on(self) -> None:
        weights = [weight for weight, _ in self._kinds.values()]
        while not self._ended.wait(self._random.uniform(0.1, 1.5)):
            (name,) = self._random.choices(list(self._kinds), weights)
            try:
                self.made[name] += self._kinds[name][1]()
            except Exception as error:  # our own connection met one of the faults
                self.made[f"faults not made: {type(error).__name__}"] += 1

    def _kill(self) -> int:
        return self._tell(f"SELECT count(pg_terminate_backend(pid)) {CLIENTS}")

    def _cancel(self) -> int:
        return self._tell(f"SELECT count(pg_cancel_backend(pid)) {CLIENTS} AND state = 'active'")

    def _tell(self, statement: str) -> int:
        with self._engine.connect() as connection:
            return connection.execute(text(statement), {"name": CLIENT}).scalar_one()

    def _lock(self) -> int:
        """Two rows, in the order that the writer does not take, for a while."""
        high, low = sorted(self._random.sample(range(self._keys), 2), reverse=True)
        with self._engine.begin() as connection:
            for key in (high, low):
                connection.execute(select(self._key).where(self._key == key).with_for_update())
                time.sleep(self._random.uniform(0.05, 0.5))
        return 2

    def _restart(self) -> int:
        self._server.stop("immediate")
        time.sleep(self._random.uniform(0, 1))
        self._server.start()
        return 1
