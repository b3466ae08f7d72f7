"""What all writers have in common, whoever waits for them: what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from batchwrite.bookkeeping import Books, IdempotencyKey
from batchwrite.chunk import ChunkLimits
from batchwrite.errors import ConfigurationError
from batchwrite.listeners import Listeners
from batchwrite.retry import RetryPolicy
from batchwrite.runs import Runs
from batchwrite.settings import FailurePolicy, RunSettings
from batchwrite.sinks.options import SinkOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batchwrite.engine import Run
    from batchwrite.host import Host
    from batchwrite.letters import DeadLetters
    from batchwrite.sinks.ledger import Ledger
    from batchwrite.sinks.options import Classify
    from batchwrite.sinks.sql import SqlSink


Database = TypeVar("Database")


class WriterBase(Generic[Database]):
    """What a writer is made of. `BatchWriter` tells what the arguments are."""

    def __init__(
        self,
        database: Database,
        *,
        chunk_size: int = 5_000,
        chunk_rows: int = 20_000,
        chunk_bytes: int = 16 * 1024 * 1024,
        chunk_seconds: float | None = 5.0,
        on_failure: Literal["continue", "stop"] = "continue",
        max_failures: int | None = None,
        max_failure_ratio: float | None = None,
        keep_failures: int = 1_000,
        retry: RetryPolicy | None = None,
        workers: int = 1,
        ledger: Ledger | None = None,
        dead_letters: DeadLetters | None = None,
        key: IdempotencyKey | Callable[[Any], object] | None = None,
        defer_foreign_keys: bool = False,
        chunk_timeout: float | None = None,
        classify: Classify | None = None,
        listeners: Iterable[object] = (),
    ) -> None:
        if on_failure not in ("continue", "stop"):
            raise ConfigurationError('on_failure must be "continue" or "stop"')
        if on_failure == "stop":
            if max_failures:
                raise ConfigurationError('on_failure="stop" ends a run at the first failure: leave max_failures out')
            max_failures = 0
        identity = IdempotencyKey(of=key) if key is not None and not isinstance(key, IdempotencyKey) else key
        self._settings = RunSettings(
            limits=ChunkLimits(items=chunk_size, rows=chunk_rows, bytes=chunk_bytes, seconds=chunk_seconds),
            policy=FailurePolicy(most=max_failures, ratio=max_failure_ratio),
            retry=RetryPolicy() if retry is None else retry,
            keep_failures=keep_failures,
            workers=workers,
            defer_foreign_keys=defer_foreign_keys,
            key=identity.of if identity else None,
            listeners=Listeners.checked(listeners),
        )
        if not isinstance(defer_foreign_keys, bool):
            raise ConfigurationError("defer_foreign_keys must be True or False")
        options = SinkOptions(chunk_timeout=chunk_timeout, classify=classify, listeners=self._settings.listeners)
        self._sink = self._sink_for(database, options)
        self._books = Books(self._sink, ledger, dead_letters, identity, self._settings.retry)
        self._runs = Runs(self._sink, self._settings, self._books)

    def shared_run(self, host: Host) -> Run:
        """A run for many callers; for coalescers.

        Args:
            host: How those who run it wait.

        Raises:
            ConfigurationError: The ledger's tables are not there.
        """
        return self._runs.shared(host)

    def check_shareable(self, *, by_thread: bool) -> None:
        """Make sure that runs of this writer can serve many callers, one after the other.

        Args:
            by_thread: Whether a thread of its own is to write.

        Raises:
            ConfigurationError: They cannot: one caller's failures would end the run of another.
        """
        policy = self._settings.policy
        if policy.most is not None or policy.ratio is not None:
            text = "callers of a coalescer do not answer for each other: leave out on_failure, max_failures and"
            raise ConfigurationError(f"{text} max_failure_ratio")
        if self._settings.defer_foreign_keys:
            text = "a coalescer answers each caller at once, and puts no item off: leave out defer_foreign_keys"
            raise ConfigurationError(text)
        if by_thread and self._sink.is_bound_to_threads:
            text = "the engine gives each thread a database of its own (SQLite in memory): another would be written to"
            raise ConfigurationError(text)

    def _sink_for(self, database: Database, options: SinkOptions) -> SqlSink:
        """The sink for what the caller has given.

        Raises:
            ConfigurationError: It is no database.
        """
        raise NotImplementedError
