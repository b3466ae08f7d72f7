"""`AsyncCoalescer`: many tasks of one event loop share one bulk write, and each gets its own outcome."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from batchwrite.aio.guard import Cancelled, Guard
from batchwrite.aio.writer import AsyncBatchWriter, as_map
from batchwrite.coalescer import CLOSED, FORKED, FULL, check_bounds, check_timeout
from batchwrite.coalescing import Coalescing, drop_waiting
from batchwrite.errors import CoalescerClosed, ConfigurationError, QueueFull
from batchwrite.feeding import add_item

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

    from batchwrite.aio.writer import AsyncMapFunction
    from batchwrite.meter import WriterStats
    from batchwrite.result import ItemOutcome

Item = TypeVar("Item")

_BY_ITS_OWN_MAP = (
    "a map function cannot wait for the coalescer that waits for it: use another one, or a task of its own"
)
_ANOTHER_LOOP = (
    "this coalescer belongs to another event loop: make one in each, or share a batchwrite.Coalescer, which any thread "
    "and loop may use"
)


class _SubmittedItem:
    """An item, and the future of its outcome."""

    __slots__ = ("future", "item", "submitted")

    def __init__(self, item: Any, future: asyncio.Future[ItemOutcome]) -> None:
        self.item = item
        self.submitted = time.monotonic()
        self.future = future

    def begin(self) -> bool:
        return not self.future.done()

    def answer(self, outcome: ItemOutcome) -> None:
        if not self.future.done():  # whoever asked may have been cancelled
            self.future.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _LoopInbox:
    """Submissions of the tasks of one event loop, for a greenlet that takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: Guard, most: int) -> None:
        self._loop = loop
        self._guard = guard
        self._room = asyncio.Semaphore(most)
        self._most = most
        self._queue: deque[_SubmittedItem] = deque()
        self._has_come: asyncio.Future[None] | None = None  # while somebody waits for it
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Number of items not taken up."""
        return len(self._queue)

    @property
    def oldest(self) -> float | None:
        """When the first of them was submitted."""
        return self._queue[0].submitted if self._queue else None

    async def put(self, item: Any, seconds: float | None) -> asyncio.Future[ItemOutcome]:
        """Add an item, and wait for room at most so long; `None` for as long as it takes.

        Raises:
            QueueFull: There is none by then.
            CoalescerClosed: Nothing more is taken in.
        """
        if self._room.locked() and not self._is_closed:
            try:
                async with asyncio.timeout(seconds):
                    await self._room.acquire()
            except TimeoutError:
                raise QueueFull(FULL.format(self._most)) from None
        else:
            await self._room.acquire()
        if self._is_closed:
            self._room.release()  # for the next of those who wait, who is told the same
            raise CoalescerClosed(CLOSED)
        submission = _SubmittedItem(item, self._loop.create_future())
        self._queue.append(submission)
        self._wake()
        return submission.future

    def take(self, deadline: float | None) -> _SubmittedItem | None:
        """See `Inbox.take`."""
        while not self._queue:
            if self._is_closed or (deadline is not None and deadline <= time.monotonic()):
                return None
            self._wait(deadline)
        self._room.release()
        return self._queue.popleft()

    def _wait(self, deadline: float | None) -> None:
        waiter = self._has_come = self._loop.create_future()
        alarm = None
        if deadline is not None:
            alarm = self._loop.call_later(deadline - time.monotonic(), self._wake)
        try:
            self._guard.wait_for(waiter)
        finally:
            self._has_come = None
            if alarm is not None:
                alarm.cancel()

    def _wake(self) -> None:
        if self._has_come is not None and not self._has_come.done():
            self._has_come.set_result(None)

    def close(self) -> None:
        """Take nothing more in."""
        self._is_closed = True
        if self._room.locked():
            self._room.release()  # for the first of those who wait
        self._wake()


class AsyncCoalescer(Generic[Item]):
    """`batchwrite.Coalescer` for the tasks of one event loop, over an `AsyncBatchWriter`.

    It writes as that one does, in a task of its own. It belongs to the event loop that uses it first. Use it as a
    context manager, `async with`, or `close` it.

    Args:
        writer: What writes. Its bounds of a chunk are the bounds of a batch; it must be told no limits of failures.
        map: As for `AsyncBatchWriter.run`; default `Collector.add`, for ORM instances.
        max_delay: Longest time, in seconds of at least 0, that an item waits for others.
        max_queue: Most items that wait to be taken up, at least 1.
        when_full: Where the queue is full, `"wait"` makes `submit` wait for room, `"raise"` makes it raise
            `QueueFull`.

    Raises:
        ConfigurationError: An argument is out of range, or the writer cannot serve many callers.
    """

    def __init__(
        self,
        writer: AsyncBatchWriter,
        map: AsyncMapFunction[Item] = add_item,  # noqa: A002 - as in AsyncBatchWriter.run
        *,
        max_delay: float = 0.005,
        max_queue: int = 10_000,
        when_full: Literal["wait", "raise"] = "wait",
    ) -> None:
        check_bounds(max_delay, max_queue, when_full)
        if not isinstance(writer, AsyncBatchWriter):
            raise ConfigurationError(f"an AsyncCoalescer needs an AsyncBatchWriter, not a {type(writer).__name__}")
        self._guard = Guard()
        self._map = as_map(map, self._guard)
        writer.check_shareable(by_thread=False)
        self._writer = writer
        self._max_delay = max_delay
        self._max_queue = max_queue
        self._waits = when_full == "wait"
        self._process = os.getpid()
        self._inbox: _LoopInbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._dropped = 0

    async def __aenter__(self) -> Self:
        self._opened()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def submit(self, item: Item, /, *, timeout: float | None = None) -> ItemOutcome:
        """Have an item written with others, and wait for what becomes of it.

        A task that is cancelled meanwhile withdraws the item, unless it has been taken up: then it is written all the
        same.

        Args:
            item: The item; not to be changed any more.
            timeout: Longest time in seconds to wait for room in the queue, 0 for not at all; `None` for as long as it
                takes. What comes then is not bounded by it: an item that was accepted is answered.

        Returns:
            The outcome, when the chunk that holds the item has been committed or given up. Where the database was
            lost it is `unattempted` or `unknown`, and its `reason` says why.

        Raises:
            QueueFull: There was no room in time; the item was not accepted.
            CoalescerClosed: The coalescer was closed before; the item was not accepted.
            ConfigurationError: The coalescer belongs to another event loop or process, the writer lacks its ledger, or
                it is the coalescer's own map function that asks.
        """
        check_timeout(timeout)
        inbox = self._opened()
        self._refuse_own_map()
        future = await inbox.put(item, timeout if self._waits else 0)
        return await future

    def stats(self) -> WriterStats:
        """Figures of the writer, with what waits here; see `BatchWriter.stats`."""
        return self._writer.stats()

    async def close(self, timeout: float | None = 30.0) -> int:
        """Take no more items, and write those that are there.

        Args:
            timeout: Longest time in seconds; what has not been written by then is given up, and answered so. `None`
                for as long as it takes.

        Returns:
            Number of accepted items that could not be written for want of time or of a database, since the beginning.

        Raises:
            ConfigurationError: The coalescer belongs to another event loop, or it is its own map function that asks.
        """
        check_timeout(timeout)
        if self._inbox is None or os.getpid() != self._process:
            self._is_closed = True
            return 0
        inbox = self._opened()
        self._refuse_own_map()
        inbox.close()
        await asyncio.wait({self._task}, timeout=timeout)
        self._dropped += drop_waiting(inbox)
        if not self._task.done():
            self._task.cancel()  # to which a chunk on its way does not listen
            await asyncio.sleep(0)
            self._task.cancel()
            await asyncio.wait({self._task})
        return self._dropped + self._coalescing.undone

    def close_on_signal(self, signal_number: int = signal.SIGTERM, *, timeout: float | None = 30.0) -> None:
        """At a signal close, and then let it do what it would have done: SIGTERM ends the process.

        For programs of one's own; servers like uvicorn handle signals themselves, and close what is a context manager
        in their lifespan. A second signal is not held back. To be called in the event loop.

        Args:
            signal_number: The signal.
            timeout: As for `close`.

        Raises:
            ValueError: This is not the main thread, which alone can handle signals.
        """
        self._opened()
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal_number)

        async def drain() -> None:
            await self.close(timeout)
            os.kill(os.getpid(), signal_number)

        def begin() -> None:
            self._draining = asyncio.create_task(drain())

        # Not by the event loop's own handlers: whose they are cannot be asked, and so they could not be given back.
        def handle(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal_number, before if before is not None else signal.SIG_DFL)
            loop.call_soon_threadsafe(begin)

        signal.signal(signal_number, handle)

    def _opened(self) -> _LoopInbox:
        """The inbox, and somebody who serves it."""
        if os.getpid() != self._process:
            raise ConfigurationError(FORKED)
        loop = asyncio.get_running_loop()
        if self._inbox is None:
            if self._is_closed:
                raise CoalescerClosed(CLOSED)
            self._loop = loop
            self._inbox = _LoopInbox(loop, self._guard, self._max_queue)
            self._writer.watch(self._inbox)
            self._coalescing = Coalescing(
                self._inbox,
                lambda: self._writer.shared_run(self._guard.host),
                self._map,
                self._max_delay,
                ends=(KeyboardInterrupt, asyncio.CancelledError),
            )
            self._task = asyncio.create_task(self._guard.run(self._work), name="batchwrite-coalescer")
        elif loop is not self._loop:
            raise ConfigurationError(_ANOTHER_LOOP)
        return self._inbox

    def _refuse_own_map(self) -> None:
        if asyncio.current_task() is self._guard.task:
            raise ConfigurationError(_BY_ITS_OWN_MAP)

    def _work(self) -> None:
        with suppress(Cancelled):  # by `close`, or at the end of the event loop; all have their answers
            self._coalescing.work()
