"""What those are told who follow a run: frozen details, and no chance to change what becomes of an item."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import TYPE_CHECKING

from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from batchwrite.result import ItemFailure

_log = logging.getLogger("batchwrite")

_HOOKS = ("on_chunk", "on_failure", "on_retry", "on_fallback", "on_slow_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkDetails:
    """A chunk that has come to its end: `items == written + failed + skipped + parked + unattempted + unknown`.

    Attributes:
        run_id: The run; its name in the ledger, where there is one.
        number: Position of the chunk in the run, from 0. Halves of a chunk (see docs/faults.md) have its number.
        first_index: Position in the input of its first item, from 0.
        items: Number of its items.
        written: Those that are committed.
        failed: Those that have failed.
        skipped: Those left out on purpose, duplicates included.
        parked: Those put off to the end of the run (`defer_foreign_keys`).
        unattempted: Those that the end of the run has left undone.
        unknown: Those in a COMMIT without an answer.
        fell_back: Whether they were written item by item.
        seconds: From the moment when the chunk was full to its end, waits for retries included.
        tables: The tables that it was to write to, by name, in alphabetical order.
    """

    run_id: str
    number: int
    first_index: int
    items: int
    written: int
    failed: int
    skipped: int
    parked: int
    unattempted: int
    unknown: int
    fell_back: bool
    seconds: float
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDetails:
    """An item that has failed, told behind its chunk.

    Attributes:
        run_id: The run.
        chunk: Number of the chunk.
        failure: The failure. Its `item` and `detail` hold values of the row.
    """

    run_id: str
    chunk: int
    failure: ItemFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDetails:
    """A chunk whose transaction was undone by the weather and is tried again.

    Attributes:
        run_id: The run.
        chunk: Number of the chunk.
        items: Number of its items.
        attempt: Number of the attempt that was undone, from 1.
        wait: Seconds until the next.
        kind: The kind of fault, e.g. `transient` or `lost`.
        message: What happened.
        sqlstate: SQLSTATE, where there is one.
    """

    run_id: str
    chunk: int
    items: int
    attempt: int
    wait: float
    kind: str
    message: str
    sqlstate: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackDetails:
    """A chunk that is written item by item.

    Attributes:
        run_id: The run.
        chunk: Number of the chunk.
        items: Number of its items.
        message: What the database had against the whole.
        sqlstate: SQLSTATE, where there is one.
        table: The table concerned, where known.
    """

    run_id: str
    chunk: int
    items: int
    message: str
    sqlstate: str | None
    table: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowPathDetails:
    """A table that cannot be written in the fastest way; told once a table and reason by each writer.

    Attributes:
        table: The table; `None` where it is all tables of the database.
        reason: Why.
    """

    table: str | None
    reason: str


class Listener:
    """Told of what happens in the runs of a writer; override what is of interest.

    A method is called in the thread (or event loop) that writes, so it had better be quick. What it raises is logged
    and goes no further: no outcome depends on a listener. Any object with one of these methods will do.
    """

    def on_chunk(self, chunk: ChunkDetails, /) -> None:
        """A chunk has come to its end."""

    def on_failure(self, failure: FailureDetails, /) -> None:
        """An item has failed; called for each, however many a result keeps."""

    def on_retry(self, retry: RetryDetails, /) -> None:
        """A chunk is to be tried again."""

    def on_fallback(self, fallback: FallbackDetails, /) -> None:
        """A chunk is written item by item."""

    def on_slow_path(self, slow_path: SlowPathDetails, /) -> None:
        """A table is written in a slower way."""


class LoggingListener(Listener):
    """Logs chunks and failures, with their details as fields of the record (`extra`) and no values of rows.

    Retries, fallbacks and slow paths are in the library's own log, `logging.getLogger("batchwrite")`, in any case.

    Args:
        logger: Where to; default the library's own.
        chunk_level: Level of a chunk's line.
        failure_level: Level of a failed item's line.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        chunk_level: int = logging.INFO,
        failure_level: int = logging.WARNING,
    ) -> None:
        if not isinstance(logger, (logging.Logger, NoneType)):
            raise ConfigurationError(f"logger must be a logging.Logger, not a {type(logger).__name__}")
        if not (isinstance(chunk_level, int) and isinstance(failure_level, int)):
            raise ConfigurationError("levels are numbers such as logging.INFO")
        self._logger = _log if logger is None else logger
        self._chunk_level = chunk_level
        self._failure_level = failure_level

    def on_chunk(self, chunk: ChunkDetails, /) -> None:
        """Log its counts."""
        counts = {name: getattr(chunk, name) for name in ("written", "failed", "skipped", "unattempted", "unknown")}
        self._logger.log(
            self._chunk_level,
            "chunk %d, %d items from item %d: %s in %.3f s",
            chunk.number,
            chunk.items,
            chunk.first_index,
            ", ".join(f"{count} {name}" for name, count in counts.items() if count),
            chunk.seconds,
            extra={
                "action": "chunk",
                "run_id": chunk.run_id,
                "chunk": chunk.number,
                "items": chunk.items,
                "seconds": chunk.seconds,
                "fell_back": chunk.fell_back,
                **counts,
            },
        )

    def on_failure(self, failure: FailureDetails, /) -> None:
        """Log why."""
        found = failure.failure
        fields = found.to_dict()
        index, message = fields.pop("index"), fields.pop("message")
        self._logger.log(
            self._failure_level,
            "item %d failed: %s",
            index,
            found.reason,
            extra={
                "action": "item_failed",
                "run_id": failure.run_id,
                "chunk": failure.chunk,
                "item_index": index,
                "reason": message,
                **fields,
            },
        )


@dataclass(frozen=True, slots=True)
class Listeners:
    """All listeners of a writer, each called whatever others raise.

    Attributes:
        each: The listeners.
        run_id: The run that they are told of.
    """

    each: tuple[object, ...] = ()
    run_id: str = field(default="", kw_only=True)

    @classmethod
    def checked(cls, listeners: Iterable[object]) -> Listeners:
        """Listeners as a caller gives them.

        Raises:
            ConfigurationError: One of them listens to nothing.
        """
        is_one = _listens(listeners) or not isinstance(listeners, Iterable)
        each = (listeners,) if is_one else tuple(listeners)
        for listener in each:
            if isinstance(listener, type) or not _listens(listener):
                name = listener.__name__ if isinstance(listener, type) else type(listener).__name__
                raise ConfigurationError(f"a listener is an object with one of {', '.join(_HOOKS)}: {name} is none")
            for hook in _HOOKS:
                if inspect.iscoroutinefunction(getattr(type(listener), hook, None)):
                    text = f"{hook} of the listener {type(listener).__name__} is to be awaited, and nobody would"
                    raise ConfigurationError(text)
        return cls(each)

    def and_first(self, listener: object) -> Listeners:
        """The same, behind another."""
        return replace(self, each=(listener, *self.each))

    def __bool__(self) -> bool:
        return bool(self.each)

    def of_run(self, run_id: str) -> Listeners:
        """The same, for a run."""
        return replace(self, run_id=run_id)

    def tell(self, hook: str, details: object) -> None:
        """Call one method of all listeners that have it."""
        for listener in self.each:
            try:
                called = getattr(listener, hook, None)
                if called is not None:
                    called(details)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - what becomes of items does not depend on listeners
                _log.error(
                    "%s of the listener %s raised %s, and is passed by",
                    hook,
                    type(listener).__name__,
                    type(error).__name__,  # its text may quote values
                    extra={"action": "listener", "hook": hook},
                )


def _listens(listener: object) -> bool:
    try:
        return any(callable(getattr(listener, hook, None)) for hook in _HOOKS)
    except Exception:  # noqa: BLE001 - of what it looks up; it may listen all the same
        return True
