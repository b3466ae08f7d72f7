"""Runs that their caller feeds or follows item by item."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from batchwrite.chunk import Chunk
    from batchwrite.collector import Collector
    from batchwrite.engine import Run
    from batchwrite.result import BatchResult, ItemOutcome


class ItemStream:
    """The outcomes of a run, in input order; what `BatchWriter.stream` returns.

    Iterating raises what `BatchWriter.run` raises, but only after the outcomes of all items received.
    """

    def __init__(self, run: Run, outcomes: Iterator[ItemOutcome]) -> None:
        self._run = run
        self._outcomes = outcomes

    def __iter__(self) -> Iterator[ItemOutcome]:
        # Not `self`: between a generator and a for loop no Ctrl-C can lose an outcome, in a method here it could.
        return self._outcomes

    def __next__(self) -> ItemOutcome:
        return next(self._outcomes)

    @property
    def result(self) -> BatchResult:
        """The result so far; complete when the stream has ended. Waits for what is on its way."""
        with self._run.host.deferred():
            self._run.settle()
        return self._run.result()

    def stop(self) -> None:
        """Take no more input and flush nothing more; iterating on yields what is left, the rest as unattempted."""
        self._run.stop("caller", "the caller stopped the run")


class Batch:
    """A run fed item by item; what `BatchWriter.collect` returns.

    It may be fed by one thread at a time.

    Attributes:
        result: The result so far; complete when the block has ended.
    """

    def __init__(self, run: Run, flush_after: float | None = None) -> None:
        self._run = run
        self._is_in_item = False
        self._is_open = False
        self._has_ended = False
        self._lock = threading.RLock()  # between the caller's thread and the one that flushes
        self._flusher = None if flush_after is None else BackgroundFlusher(self, flush_after)

    @property
    def result(self) -> BatchResult:
        """The result so far; complete when the block has ended. Waits for what is on its way."""
        with self._lock, self._run.host.deferred():
            self._run.settle()
        return self._run.result()

    def __enter__(self) -> Self:
        if self._is_open or self._has_ended:
            raise ConfigurationError("a batch is opened once: collect() again for another")
        self._is_open = True
        if self._flusher is not None:
            self._flusher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._has_ended = True
        try:
            if self._flusher is not None:
                self._flusher.stop()
            if kind is None:
                self._flush(self._run.rest())
                with self._run.host.deferred():
                    parked = self._run.parked()
                self._flush(parked)
            else:
                self._stop(kind)
        finally:
            with self._run.host.deferred():
                self._run.settle()
            self._run.end()

    @contextmanager
    def item(self, item: Any = None) -> Iterator[Collector]:
        """Record the writes of one item in a block.

        An exception in the block makes the item a failure of stage `map`, and goes no further.

        Args:
            item: What to call the item by in failures.

        Raises:
            BatchFailed: The run has stopped, by its limits or by the database's loss; its `result` says why.
            ConfigurationError: There is no batch open, or the block of another item is.
        """
        if not self._is_open or self._is_in_item:
            raise ConfigurationError("item() belongs in the block of a batch, and not in that of another item")
        with self._lock:
            self._require_running()
            self._run.receive()
        error = None
        self._is_in_item = True
        try:
            yield self._run.collector
        except Exception as raised:  # noqa: BLE001 - it is the item's failure
            error = raised
        except BaseException as raised:
            self._run.collector.take()
            self._stop(type(raised))
            raise
        finally:
            self._is_in_item = False
        with self._lock:
            self._flush(self._run.collect(item, error))
        if self._flusher is not None:
            self._flusher.note()

    def flush(self) -> BatchResult:
        """Write the items collected so far, and wait for it.

        Returns:
            The result so far; the item whose block is open, if one is, is unattempted in it.

        Raises:
            BatchFailed: The run has stopped, by its limits or by the database's loss; its `result` says why.
            ConfigurationError: There is no batch open.
        """
        if not self._is_open:
            raise ConfigurationError("there is no batch open to be flushed")
        with self._lock:
            self._require_running()
            self._flush(self._run.rest())
            return self.result

    @property
    def collected_since(self) -> float | None:
        """Since when the first of the items has been waiting that are not on their way; for what flushes them."""
        return self._run.collected_since

    def flush_old(self, before: float) -> bool:
        """Flush the items collected so far if the first has come before a moment; for what calls this now and then.

        Returns:
            Whether there may be more to flush: not where the run has stopped.
        """
        with self._lock:
            since = self._run.collected_since
            if since is not None and since <= before and self._run.abort is None:
                self._flush(self._run.rest())
            return self._run.abort is None

    def _require_running(self) -> None:
        if self._flusher is not None:
            self._flusher.raise_error()
        if self._run.abort is not None:
            self._run.result().raise_for_failures()

    def _stop(self, kind: type[BaseException]) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self._run.stop("interrupted", "the run was interrupted")
        else:
            self._run.stop("caller", f"{kind.__name__} was raised in the block")

    def _flush(self, chunks: list[Chunk]) -> None:
        try:
            with self._run.host.deferred():
                for chunk in chunks:
                    if self._run.abort is None:
                        self._run.flush(chunk)
                if not chunks and self._run.is_busy:
                    self._run.advance()
        except BaseException as raised:
            self._stop(type(raised))
            raise
        for _ in self._run.take_reports():
            pass


class BackgroundFlusher:
    """A thread that flushes what has been collected and waits for more that does not come.

    Args:
        batch: What collects.
        seconds: How long an item may wait, at most, before it is on its way.
    """

    def __init__(self, batch: Batch, seconds: float) -> None:
        self._batch = batch
        self._seconds = seconds
        self._has_items = threading.Event()
        self._is_stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="batchwrite-flusher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def note(self) -> None:
        """Say that something has been collected."""
        if not self._has_items.is_set():
            self._has_items.set()

    def stop(self) -> None:
        """End the thread, once it is not flushing.

        Raises:
            BaseException: What has ended it before.
        """
        self._is_stopped.set()
        self._has_items.set()
        self._thread.join()
        self.raise_error()

    def raise_error(self) -> None:
        """Raise what has ended the thread, if something has."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            while not self._is_stopped.is_set():
                since = self._batch.collected_since
                if since is None:
                    self._has_items.clear()
                    if self._batch.collected_since is None:  # nothing has come since just now
                        self._has_items.wait()
                    continue
                if self._is_stopped.wait(max(0.0, since + self._seconds - time.monotonic())):
                    return
                if not self._batch.flush_old(time.monotonic() - self._seconds):
                    return
        except BaseException as error:  # noqa: BLE001 - it is the caller's, when he comes by
            self._error = error
