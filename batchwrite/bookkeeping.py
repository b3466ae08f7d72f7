"""What a writer's runs keep books of, and where: ledger, dead letters and idempotency keys together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from batchwrite.errors import ConfigurationError
from batchwrite.ledger import Bookkeeper
from batchwrite.letters import DeadLetterFile, DeadLetters, storable
from batchwrite.sinks.ledger import MOST_OF_A_RUN_ID, MOST_OF_A_SCOPE, Ledger, SqlLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batchwrite.ledger import Entry
    from batchwrite.letters import Letter
    from batchwrite.retry import RetryPolicy
    from batchwrite.sinks.sql import SqlSink
    from batchwrite.tally import ChunkReport


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """By what an item is known that must not be written twice.

    Attributes:
        of: Gives an item's key (a text, a number, or a tuple of such), or `None` for an item that has none.
        scope: What the keys belong to, at most 100 characters: equal keys of two scopes are two keys.
        retention: Keys of items that landed longer ago are forgotten when a run starts; `None` for never.
    """

    of: Callable[[Any], object]
    scope: str = ""
    retention: timedelta | None = None

    def __post_init__(self) -> None:
        if not callable(self.of):
            raise ConfigurationError("key must be a function of an item, or an IdempotencyKey")
        if not isinstance(self.scope, str) or len(self.scope) > MOST_OF_A_SCOPE:
            raise ConfigurationError(f"the scope of keys is a text of at most {MOST_OF_A_SCOPE} characters")
        if self.scope != storable(self.scope):
            raise ConfigurationError("the scope of keys is a text without zero characters and halves of characters")
        if self.scope != self.scope.rstrip(" "):
            raise ConfigurationError("the scope of keys does not end with a space, which databases may pass over")
        if self.retention is not None and not (isinstance(self.retention, timedelta) and self.retention > timedelta()):
            raise ConfigurationError("the retention of keys is a timedelta above 0, or None")


def check_run_id(run_id: str) -> None:
    """Make sure that the ledger can hold a run's name.

    Raises:
        ConfigurationError: It cannot.
    """
    if not (isinstance(run_id, str) and 0 < len(run_id) <= MOST_OF_A_RUN_ID):
        raise ConfigurationError(f"a run_id is a text of 1 to {MOST_OF_A_RUN_ID} characters")
    if run_id != storable(run_id):
        raise ConfigurationError("a run_id is a text without zero characters and halves of characters")
    if run_id != run_id.rstrip(" "):
        raise ConfigurationError("a run_id does not end with a space, which databases may pass over")


class Books:
    """The books of one writer.

    Args:
        sink: Where they are written, with the chunks; nothing where chunks are no transactions.
        ledger: Their tables, if they have any.
        dead_letters: What keeps failed items, if something does.
        key: The items' idempotency keys, if they have any.
        retry: How often letters are asked for.

    Raises:
        ConfigurationError: They do not go together.
    """

    def __init__(
        self,
        sink: SqlSink | None,
        ledger: Ledger | None,
        dead_letters: DeadLetters | None,
        key: IdempotencyKey | None,
        retry: RetryPolicy,
    ) -> None:
        if ledger is not None and not isinstance(ledger, Ledger):
            raise ConfigurationError(f"ledger must be a Ledger, not a {type(ledger).__name__}")
        if dead_letters is not None and not isinstance(dead_letters, DeadLetters):
            raise ConfigurationError(f"dead_letters must be DeadLetters, not a {type(dead_letters).__name__}")
        if ledger is None and dead_letters is not None and not isinstance(dead_letters, DeadLetterFile):
            raise ConfigurationError("DeadLetters are kept in a table of the ledger: give one, or a DeadLetterFile")
        if ledger is not None and sink is None:
            raise ConfigurationError("a ledger is committed with the rows that it tells of, which no repository can do")
        if ledger is None and key is not None:
            raise ConfigurationError("idempotency keys are kept in the ledger: key= needs one")
        self._sink: Any = sink  # needed for a ledger alone
        self._ledger = ledger
        self._key = key
        self._retry = retry
        self._file = dead_letters if isinstance(dead_letters, DeadLetterFile) else None
        self.dead_letters = dead_letters
        self._has_tables = False  # whether they are known to be there

    def bookkeeper(self, run_id: str | None) -> Bookkeeper | None:
        """What keeps the books of a run; nothing where there is no ledger.

        Args:
            run_id: The run's name, if it has been given one.

        Raises:
            ConfigurationError: The name cannot be used, or the ledger's tables are not there.
            FlushFailed: The ledger cannot be reached.
        """
        ledger = self._ledger
        if ledger is None:
            if run_id is not None:
                raise ConfigurationError("a run_id needs a ledger: BatchWriter(…, ledger=Ledger())")
            return None
        if run_id is not None:
            check_run_id(run_id)
        if not self._has_tables:
            self._sink.require(ledger)
            self._has_tables = True
        scope = "" if self._key is None else self._key.scope
        if self._key is not None and self._key.retention is not None:
            self._sink.forget_keys(ledger, scope, self._key.retention)
        box = None if self._file is not None else self.dead_letters
        return Bookkeeper(SqlLedger(ledger, self._sink.read), run_id or uuid4().hex, box, scope)

    def listener(self, run_id: str) -> Callable[[ChunkReport], None] | None:
        """What is to be told of each chunk of a run once it is settled, if anything is."""
        return None if self._file is None else partial(self._file.keep, run_id)

    def mender(self, run_id: str) -> Callable[[Entry, Sequence[Any]], None] | None:
        """What is to be told of each chunk that an earlier start has committed, to add letters that a crash has cost.

        Nothing where letters are in a table: there they are committed with their chunk.
        """
        file = self._file
        if file is None:
            return None

        def mend(entry: Entry, items: Sequence[Any]) -> None:
            try:
                known = file.known(run_id) if entry.failures else set()
                failures = [each for each in entry.failures_of(items) if each.index not in known]
                file.append(file.letter(run_id, failure) for failure in failures)
            except OSError as error:
                text = f"letters are missing in the file of the dead letters, and cannot be added: {error.strerror}"
                raise ConfigurationError(text) from error

        return mend

    def letters(self, run_id: str, sleep: Callable[[float], None] = time.sleep) -> Iterable[Letter]:
        """The letters of a run whose items have not landed.

        Args:
            run_id: The run.
            sleep: Waits so many seconds, where they cannot be read at once.

        Raises:
            ConfigurationError: No dead letters are kept.
            OSError: Their file cannot be read.
            FlushFailed: Their table cannot be read.
        """
        if self.dead_letters is None:
            raise ConfigurationError("this writer keeps no dead letters: BatchWriter(…, dead_letters=…)")
        if self._file is not None:
            return self._file.letters(run_id)
        assert self._ledger is not None  # noqa: S101 - checked when the writer was made

        def read(query: Any) -> Sequence[Mapping[str, Any]]:
            return self._retry.run(lambda: self._sink.read(query), sleep=sleep)

        return SqlLedger(self._ledger, read).letters(run_id)

    def landed_since(self, run_id: str, sleep: Callable[[float], None] = time.sleep) -> set[int]:
        """Positions of the failed items of a run that a retry has written.

        Args:
            run_id: The run.
            sleep: Waits so many seconds, where they cannot be read at once.

        Raises:
            ConfigurationError: The file of the letters cannot be read.
            FlushFailed: Their table cannot be read.
        """
        ledger = self._ledger
        landed: set[int] = set()
        if ledger is not None:
            store = SqlLedger(ledger, self._sink.read)
            landed |= self._retry.run(lambda: store.landed_since(run_id), sleep=sleep)
        if self._file is not None:
            try:
                landed |= self._file.landed_since(run_id)
            except OSError as error:
                raise ConfigurationError(f"the file of the dead letters cannot be read: {error.strerror}") from error
        return landed

    @property
    def letters_table(self) -> Any | None:
        """The table of the letters, where they are in one."""
        return None if self._ledger is None or self._file is not None else self._ledger.dead_letters
