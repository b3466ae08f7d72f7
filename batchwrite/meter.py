"""What a writer has done, and what it has still to do: figures for health checks. Pure, but for the lock."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from batchwrite.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchwrite.listeners import ChunkDetails, RetryDetails

_SECONDS_OF_A_RATE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """Figures of a writer: of all its runs, batches and coalescers, since it was made.

    Attributes:
        waiting: Items received, or submitted, and not decided yet.
        lag: How long the oldest of these has been waiting, in seconds; 0 where there is none.
        received: Items received; `waiting` and those decided.
        written: Items that are committed.
        failed: Items that have failed.
        skipped: Items left out on purpose.
        unattempted: Items that the ends of runs have left undone.
        unknown: Items in a COMMIT without an answer.
        chunks: Chunks that have come to their end.
        fallbacks: Chunks of these that were written item by item.
        retries: How often a chunk was tried again.
        written_per_second: Items committed a second, over the last minute (or since the writer was made).
        seconds_in_chunks: Time that chunks took, from full to their end, in seconds, all together.
    """

    waiting: int
    lag: float
    received: int
    written: int
    failed: int
    skipped: int
    unattempted: int
    unknown: int
    chunks: int
    fallbacks: int
    retries: int
    written_per_second: float
    seconds_in_chunks: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON-ready dictionary."""
        return asdict(self)


class Queue(Protocol):
    """Something in which items wait."""

    @property
    def waiting(self) -> int:
        """Number of items."""

    @property
    def oldest(self) -> float | None:
        """Since when the first of them has been waiting, on the clock that only goes up, if there are any."""


class Meter(Listener):
    """Counts what becomes of chunks, and looks at the queues when it is asked.

    Args:
        clock: Seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._queues: WeakSet[Queue] = WeakSet()
        self._counts = dict.fromkeys(("written", "failed", "skipped", "unattempted", "unknown"), 0)
        self._chunks = self._fallbacks = self._retries = 0
        self._seconds = 0.0
        self._written_at: deque[list[float]] = deque()  # a second, and what was written in it

    def watch(self, queue: Queue) -> None:
        """Count what waits in a queue, too, for as long as it lives."""
        with self._lock:
            self._queues.add(queue)

    def on_chunk(self, chunk: ChunkDetails, /) -> None:
        """Count it."""
        with self._lock:
            for name in self._counts:
                self._counts[name] += getattr(chunk, name)
            self._chunks += 1
            self._fallbacks += chunk.fell_back
            self._seconds += chunk.seconds
            second = self._clock() // 1
            if not self._written_at or self._written_at[-1][0] != second:
                self._written_at.append([second, 0])
                self._forget_before(second)
            self._written_at[-1][1] += chunk.written

    def on_retry(self, _retry: RetryDetails, /) -> None:
        """Count it."""
        with self._lock:
            self._retries += 1

    def stats(self) -> WriterStats:
        """The figures now."""
        now = self._clock()
        with self._lock:
            queues = list(self._queues)
            self._forget_before(now // 1)
            written = sum(count for _, count in self._written_at)
            counts, chunks, fallbacks = dict(self._counts), self._chunks, self._fallbacks
            retries, seconds = self._retries, self._seconds
        waiting = sum(queue.waiting for queue in queues)
        oldest = min((since for queue in queues if (since := queue.oldest) is not None), default=now)
        return WriterStats(
            waiting=waiting,
            lag=max(0.0, now - oldest),
            received=waiting + sum(counts.values()),
            **counts,
            chunks=chunks,
            fallbacks=fallbacks,
            retries=retries,
            written_per_second=written / min(max(now - self._began, 1.0), _SECONDS_OF_A_RATE),
            seconds_in_chunks=seconds,
        )

    def _forget_before(self, second: float) -> None:
        while self._written_at and self._written_at[0][0] <= second - _SECONDS_OF_A_RATE:
            self._written_at.popleft()
