"""What all writers have in common, whoever waits for them: what they are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from batchwrite.bookkeeping import Books, IdempotencyKey
from batchwrite.chunk import ChunkLimits
from batchwrite.errors import ConfigurationError
from batchwrite.listeners import Listeners
from batchwrite.meter import Meter
from batchwrite.retry import RetryPolicy
from batchwrite.runs import Runs
from batchwrite.settings import FailurePolicy, RunSettings
from batchwrite.sinks.lent import is_transaction
from batchwrite.sinks.options import SinkOptions
from batchwrite.sinks.repository import Repository
from batchwrite.sinks.sql import SqlSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Self

    from batchwrite.engine import Run
    from batchwrite.host import Host
    from batchwrite.letters import DeadLetters
    from batchwrite.meter import Queue, WriterStats
    from batchwrite.sinks.choose import AnySink
    from batchwrite.sinks.ledger import Ledger
    from batchwrite.sinks.options import Classify


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
        self._meter = Meter()
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
            listeners=Listeners.checked(listeners).and_first(self._meter),
        )
        if not isinstance(defer_foreign_keys, bool):
            raise ConfigurationError("defer_foreign_keys must be True or False")
        if isinstance(database, Repository):
            self._settings = _of_a_repository(self._settings)
        if is_transaction(database):
            self._settings = _of_a_transaction(self._settings, retry, ledger, chunk_timeout)
        options = SinkOptions(chunk_timeout=chunk_timeout, classify=classify, listeners=self._settings.listeners)
        self._sink = self._sink_for(database, options)
        self._books = Books(
            self._sink if isinstance(self._sink, SqlSink) else None,
            ledger,
            dead_letters,
            identity,
            self._settings.retry,
        )
        self._runs = Runs(self._sink, self._settings, self._books, self._meter)

    @classmethod
    def for_repository(
        cls,
        *,
        insert_many: Callable[[list[Any]], object],
        insert_one: Callable[[Any], object],
        atomic: bool = False,
        idempotent: bool = False,
        failures_of: Callable[[Sequence[Any], object], Mapping[int, object] | None] | None = None,
        **options: Any,
    ) -> Self:
        """A writer to a repository of one's own: any object with a bulk method and a single one.

        Each item is one entity: the item itself, or what the map function gives to `Collector.add`. A repository
        commits by itself: `written` means that it has returned. There is no ledger.

        Args:
            insert_many: See `Repository`; like `insert_one`, to be awaited only by an `AsyncBatchWriter`.
            insert_one: See `Repository`.
            atomic: Whether `insert_many`, when it raises, has written nothing. Where it may have written a part, the
                fallback to `insert_one` is refused unless it is idempotent: the run ends with the chunk `unknown`.
            idempotent: Whether an entity that is there already may be inserted again.
            failures_of: See `Repository`.
            options: As for the writer.

        Raises:
            ConfigurationError: An argument is out of range, or the options ask for what only a transaction can give.
        """
        repository = Repository(
            insert_many=insert_many,
            insert_one=insert_one,
            atomic=atomic,
            idempotent=idempotent,
            failures_of=failures_of,
        )
        return cls(cast("Any", repository), **options)  # which every writer takes, whatever else it takes

    def stats(self) -> WriterStats:
        """Figures of all that this writer has written, and has still to write; cheap, and for any thread to ask."""
        return self._meter.stats()

    def watch(self, queue: Queue) -> None:
        """Count what waits in a queue in the writer's figures; for coalescers."""
        self._meter.watch(queue)

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
        if self._sink.is_lent:
            raise ConfigurationError("a transaction is one caller's: a coalescer needs an engine, not a session")
        if by_thread:
            self.check_writable_by_thread()

    def check_unlent(self) -> None:
        """Make sure that chunks have transactions of their own.

        Raises:
            ConfigurationError: They are in the caller's.
        """
        if self._sink.is_lent:
            text = "a session, or a connection, must not be used by another thread or task meanwhile: give an engine"
            raise ConfigurationError(text)

    def check_writable_by_thread(self) -> None:
        """Make sure that a thread of the library's own can write.

        Raises:
            ConfigurationError: It cannot, or must not.
        """
        self.check_unlent()
        if self._sink.is_bound_to_threads:
            text = "the engine gives each thread a database of its own (SQLite in memory): another would be written to"
            raise ConfigurationError(text)

    def _sink_for(self, database: Database, options: SinkOptions) -> AnySink:
        """The sink for what the caller has given.

        Raises:
            ConfigurationError: It is no database.
        """
        raise NotImplementedError


def _of_a_repository(settings: RunSettings) -> RunSettings:
    """The settings of a writer to a repository, which is called by nobody but the caller's own thread.

    Raises:
        ConfigurationError: They ask for what only a transaction can give.
    """
    if settings.defer_foreign_keys:
        raise ConfigurationError("a repository has no foreign keys: leave out defer_foreign_keys")
    if settings.policy.most is not None and settings.limits.items > 1:
        text = "what a repository has written behind a failing item stays written: with on_failure or max_failures use"
        raise ConfigurationError(f"{text} chunk_size=1, or use max_failure_ratio, which is looked at after each chunk")
    return replace(settings, workers=0)


def _of_a_transaction(
    settings: RunSettings, retry: RetryPolicy | None, ledger: Ledger | None, chunk_timeout: float | None
) -> RunSettings:
    """The settings of a writer in somebody else's transaction: what the weather undoes there is not ours to do again.

    Raises:
        ConfigurationError: They ask for what only a transaction of the chunk's own can give.
    """
    asked = {"retry": retry, "ledger": ledger, "chunk_timeout": chunk_timeout}
    for name, value in asked.items():
        if value is not None:
            text = f"the transaction is the caller's, who alone can commit or repeat it: leave out {name}"
            raise ConfigurationError(text)
    return replace(settings, retry=RetryPolicy(attempts=1), workers=0)
