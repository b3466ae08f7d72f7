"""`Coalescer`: many threads, or the tasks of any event loop, share one bulk write, and each gets its own outcome."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from asyncio import get_running_loop, wrap_future
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from batchwrite.arguments import check_seconds
from batchwrite.coalescing import Coalescing, drop_waiting
from batchwrite.errors import CoalescerClosed, ConfigurationError, QueueFull
from batchwrite.feeding import add_item, check_map
from batchwrite.host import Host
from batchwrite.result import ItemOutcome
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType
    from typing import Self

    from batchwrite.feeding import MapFunction
    from batchwrite.meter import WriterStats

Item = TypeVar("Item")

FORKED = "this coalescer belongs to the process that this one was forked from: make one in each, after the fork"
CLOSED = "the coalescer is closed, and takes no more items"

FULL = "the coalescer's queue is full ({} items): the database does not keep up"

# Chunks are written before more is taken up: what comes meanwhile is the next batch.
_HOST = Host(has_threads=False)


def check_bounds(max_delay: float, max_queue: int, when_full: str) -> None:
    """Make sure that a coalescer can work so.

    Raises:
        ConfigurationError: It cannot.
    """
    check_seconds("max_delay", max_delay, may_be_zero=True, hint="")
    if not isinstance(max_queue, int) or isinstance(max_queue, bool) or max_queue < 1:
        raise ConfigurationError("max_queue must be a whole number of at least 1")
    if when_full not in ("wait", "raise"):
        raise ConfigurationError('when_full must be "wait" or "raise"')


def check_timeout(timeout: float | None) -> None:
    """Make sure that something can be waited for so long.

    Raises:
        ConfigurationError: It cannot.
    """
    if timeout is not None:
        check_seconds("timeout", timeout, may_be_zero=True)


class SubmittedItem(Future[ItemOutcome]):
    """The outcome that a submitted item will have; what `Coalescer.submit` returns.

    A `concurrent.futures.Future`, which can be awaited in any event loop, too. Its result is the item's outcome, also
    where the item has failed. Cancelled before it is taken up, the item is not written; later it cannot be cancelled.

    Attributes:
        item: The item.
        submitted: When it was submitted, on the clock that only goes up.
    """

    def __init__(self, item: Any) -> None:
        super().__init__()
        self.item = item
        self.submitted = time.monotonic()

    def __await__(self) -> Generator[Any, None, ItemOutcome]:
        return wrap_future(self).__await__()

    def begin(self) -> bool:
        """Take it up; for the coalescer."""
        if self.done() and not self.cancelled():
            return False  # somebody else has given an outcome
        return self.set_running_or_notify_cancel()

    def answer(self, outcome: ItemOutcome) -> None:
        """Give the outcome; for the coalescer."""
        if not self.done():  # by whom else it may have been set
            self.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """Give an error; for the coalescer."""
        if not self.done():
            self.set_exception(error)


class _ThreadInbox:
    """Submissions of any thread, for one that takes them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: deque[SubmittedItem] = deque()
        lock = threading.Lock()
        self._has_come = threading.Condition(lock)
        self._has_room = threading.Condition(lock)
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Number of items not taken up."""
        return len(self._queue)

    @property
    def oldest(self) -> float | None:
        """When the first of them was submitted."""
        try:
            return self._queue[0].submitted
        except IndexError:
            return None

    def put(self, submission: SubmittedItem, seconds: float | None) -> None:
        """Add one, and wait for room at most so long; `None` for as long as it takes.

        Raises:
            QueueFull: There is none by then.
            CoalescerClosed: Nothing more is taken in.
        """
        with self._has_room:
            if not self._has_room.wait_for(lambda: self._is_closed or len(self._queue) < self._most, seconds):
                raise QueueFull(FULL.format(self._most))
            if self._is_closed:
                raise CoalescerClosed(CLOSED)
            self._queue.append(submission)
            self._has_come.notify()

    def take(self, deadline: float | None) -> SubmittedItem | None:
        """See `Inbox.take`."""
        with self._has_come:
            while not self._queue:
                if self._is_closed:
                    return None
                seconds = None if deadline is None else deadline - time.monotonic()
                if seconds is not None and seconds <= 0:
                    return None
                self._has_come.wait(seconds)
            self._has_room.notify()
            return self._queue.popleft()

    def close(self) -> None:
        """Take nothing more in."""
        with self._has_come:
            self._is_closed = True
            self._has_come.notify_all()
            self._has_room.notify_all()


class Coalescer(Generic[Item]):
    """Gathers items that many callers submit one by one, writes them in bulk, and tells each caller of its own item.

    A thread of its own maps and writes, in the order of submission. It writes as soon as a chunk of the writer's is
    full (by count, rows or bytes), as many callers have come back as were served a moment ago, or `max_delay` has
    passed: a single caller never waits, under load chunks fill. Items that fail do not fail their neighbours.

    Callers may be threads, or tasks of event loops, which await what `submit` returns. For an application that has
    an `AsyncEngine` there is `batchwrite.aio.AsyncCoalescer`. After a fork make one in each process; the one of the
    parent is refused there. Use it as a context manager, or `close` it: what is still waiting then is written. What
    waits when the program ends without that is written then, within `close`'s default time.

    Args:
        writer: What writes. Its bounds of a chunk are the bounds of a batch; it must be told no limits of failures.
        map: As for `BatchWriter.run`, called in the coalescer's thread; default `Collector.add`, for ORM instances.
        max_delay: Longest time, in seconds of at least 0, that an item waits for others.
        max_queue: Most items that wait to be taken up, at least 1.
        when_full: Where the queue is full, `"wait"` makes `submit` wait for room, `"raise"` makes it raise
            `QueueFull`.

    Raises:
        ConfigurationError: An argument is out of range, or the writer cannot serve many callers.
    """

    def __init__(
        self,
        writer: BatchWriter,
        map: MapFunction[Item] = add_item,  # noqa: A002 - as in BatchWriter.run
        *,
        max_delay: float = 0.005,
        max_queue: int = 10_000,
        when_full: Literal["wait", "raise"] = "wait",
    ) -> None:
        check_bounds(max_delay, max_queue, when_full)
        check_map(map)
        if not isinstance(writer, BatchWriter):
            raise ConfigurationError(f"a Coalescer needs a BatchWriter, not a {type(writer).__name__}")
        writer.check_shareable(by_thread=True)
        self._waits = when_full == "wait"
        self._inbox = _ThreadInbox(max_queue)
        self._coalescing = Coalescing(self._inbox, lambda: writer.shared_run(_HOST), map, max_delay)
        self._process = os.getpid()
        self._dropped = 0
        self._writer = writer
        writer.watch(self._inbox)
        self._thread = threading.Thread(target=self._coalescing.work, name="batchwrite-coalescer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def submit(self, item: Item, /, *, timeout: float | None = None) -> SubmittedItem:
        """Have an item written with others.

        Args:
            item: The item; not to be changed any more.
            timeout: Longest time in seconds to wait for room in the queue, 0 for not at all; `None` for as long as it
                takes. In the thread of a running event loop, which must not be blocked, it never waits; nor in the
                coalescer's own, that of the map function, where waiting for an outcome would be waiting for itself.

        Returns:
            A future of the item's outcome, done when the chunk that holds it has been committed or given up. Where
            the database was lost the outcome is `unattempted` or `unknown`, and its `reason` says why. It raises only
            what is no item's fault and no weather, such as a missing ledger.

        Raises:
            QueueFull: There was no room in time; the item was not accepted.
            CoalescerClosed: The coalescer was closed before; the item was not accepted.
            ConfigurationError: The coalescer belongs to the parent of this process, or `timeout` is out of range.
        """
        if os.getpid() != self._process:
            text = (
                "this coalescer belongs to the process that this one was forked from: make one in each, after the fork"
            )
            raise ConfigurationError(text)
        check_timeout(timeout)
        submission = SubmittedItem(item)
        is_own = threading.current_thread() is self._thread  # which alone makes room
        self._inbox.put(submission, timeout if self._waits and not is_own and not _is_in_event_loop() else 0)
        return submission

    def stats(self) -> WriterStats:
        """Figures of the writer, with what waits here; see `BatchWriter.stats`."""
        return self._writer.stats()

    def close(self, timeout: float | None = 30.0) -> int:
        """Take no more items, and write those that are there.

        Args:
            timeout: Longest time in seconds; those not taken up by then are answered as `unattempted`. `None` for as
                long as it takes.

        Returns:
            Number of accepted items that could not be written for want of time or of a database, since the beginning;
            those on their way when the time was up are among them, and get their answers yet if the process lives.
        """
        check_timeout(timeout)
        if os.getpid() != self._process:
            return 0
        atexit.unregister(self.close)
        self._inbox.close()
        if threading.current_thread() is not self._thread:  # a callback of an outcome: what waits comes behind it
            self._thread.join(timeout)
            self._dropped += drop_waiting(self._inbox)
        return self._dropped + self._coalescing.undone + len(self._coalescing.gathered)

    def close_on_signal(self, signal_number: int = signal.SIGTERM, *, timeout: float | None = 30.0) -> None:
        """At a signal close, and then let it do what it would have done: SIGTERM ends the process.

        For programs of one's own; servers like uvicorn and gunicorn handle signals themselves, and close what is a
        context manager in their lifespan. A second signal is not held back.

        Args:
            signal_number: The signal.
            timeout: As for `close`.

        Raises:
            ValueError: This is not the main thread, which alone can handle signals.
        """
        before = signal.getsignal(signal_number)

        def drain() -> None:
            self.close(timeout)
            os.kill(os.getpid(), signal_number)

        def handle(number: int, _frame: FrameType | None) -> None:
            signal.signal(number, before if before is not None else signal.SIG_DFL)
            # Not here: this may have interrupted the thread just when it was submitting.
            threading.Thread(target=drain, name="batchwrite-close").start()

        signal.signal(signal_number, handle)


def _is_in_event_loop() -> bool:
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True
