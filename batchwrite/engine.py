"""Map, collect, flush, account: one run. Knows sinks, knows no SQL and no driver.

The parts that wait for somebody (the input, the map function, the flush) are called by the writer's loop, so that
sync and async writers can share all of this.
"""

from __future__ import annotations

import traceback
from collections import deque
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from batchwrite.chunk import Chunk, ChunkBuilder, ParkedItem, Skipped
from batchwrite.collector import Collector
from batchwrite.errors import ItemRefused, text_of
from batchwrite.flusher import Flusher
from batchwrite.ledger import key_text
from batchwrite.plan import in_order
from batchwrite.result import Abort, BatchResult, EarlierStarts, ItemFailure, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchwrite.host import Host
    from batchwrite.ledger import Bookkeeper
    from batchwrite.settings import RunSettings
    from batchwrite.sink import Sink
    from batchwrite.tally import ChunkReport
    from batchwrite.write import Write


class Run:
    """One run: items go in, chunks come out to be flushed, reports are counted.

    Args:
        sink: Where chunks go.
        settings: Bounds and policies.
        clock: Seconds that only go up.
        bookkeeper: Keeps the run's books, if it has any.
        resumed: Number of items, from the first, that earlier starts of the run have seen.
        earlier: What has become of those of them that are not left to this start.
        on_report: Called with each report once its chunk is settled; what it raises stops the run.
    """

    def __init__(
        self,
        sink: Sink,
        settings: RunSettings,
        clock: Callable[[], float],
        bookkeeper: Bookkeeper | None = None,
        resumed: int = 0,
        earlier: EarlierStarts | None = None,
        on_report: Callable[[ChunkReport], object] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self._ended: float | None = None
        self._builder = ChunkBuilder(settings.limits, clock, resumed, is_keyed=settings.key is not None)
        self._flusher = Flusher(sink, settings, bookkeeper, on_report)
        self._run_id = bookkeeper.run_id if bookkeeper else None
        self._resumed = resumed
        self._earlier = earlier or EarlierStarts()
        self._parked_before = 0  # of the items that earlier starts have seen, and left to this one
        self._map_failures = 0
        self._ready: deque[Chunk] = deque()  # cut, not yet given to be flushed
        self.received = 0
        self.collector = Collector(sink)
        self._record, self._add_alike = self.collector.record, self._builder.add_alike

    @property
    def host(self) -> Host:
        """How those who run it wait."""
        return self._settings.host

    @property
    def abort(self) -> Abort | None:
        """Why the run stopped early, once it has."""
        return self._flusher.abort

    @property
    def is_busy(self) -> bool:
        """Whether there are chunks on their way."""
        return self._flusher.is_busy

    @property
    def wants_attention(self) -> bool:
        """Whether there are chunks on their way, or reports to be taken."""
        return self._flusher.is_busy or self._flusher.has_reports

    @property
    def waiting(self) -> int:
        """Number of items received and not decided."""
        return 0 if self._ended is not None else self.received + self._parked_before - self._flusher.tally.decided

    @property
    def oldest(self) -> float | None:
        """Since when the first of them has been waiting, on the clock that only goes up, if there are any."""
        began = [since for since in (self._flusher.oldest, self._builder.oldest) if since is not None]
        return min(began, default=None)

    @property
    def collected_since(self) -> float | None:
        """Since when the first of the items has been waiting that are not given to be flushed, if there are any."""
        return self._builder.oldest

    def result(self) -> BatchResult:
        """The result so far; the last one once the run has ended."""
        now = self._clock() if self._ended is None else self._ended
        received = self.received + self._parked_before
        result = self._flusher.tally.result(received, now - self._started, self.abort)
        resumed = self._resumed - self._parked_before
        return replace(result, run_id=self._run_id, resumed=resumed, earlier=self._earlier)

    def stop(self, reason: str, message: str, error_type: str | None = None, sqlstate: str | None = None) -> None:
        """Stop early; the first reason stays. A run that has ended stays as it is."""
        if self._ended is None:
            self._flusher.stop(reason, message, error_type, sqlstate)

    # ---- collecting

    def take_in(self, item: Any, map_item: Callable[[Any, Collector], object]) -> list[Chunk]:
        """Map an item and take in what that records.

        Args:
            item: The item.
            map_item: The map function.

        Returns:
            The chunks that are to be flushed now, in order.
        """
        if self._settings.key is not None:
            return self._take_in_keyed(item, map_item, self._settings.key)
        return self._take_in(item, map_item)

    def _take_in_keyed(
        self, item: Any, map_item: Callable[[Any, Collector], object], key_of: Callable[[Any], Any]
    ) -> list[Chunk]:
        try:
            chunks = self._builder.set_key(key_text(key_of(item)))
        except Exception as error:  # noqa: BLE001 - it is the item's failure
            self.received += 1
            return self._collect_undone(item, None, error)
        self._ready.extend(chunks)
        return chunks + self._take_in(item, map_item)

    def _take_in(self, item: Any, map_item: Callable[[Any, Collector], object]) -> list[Chunk]:
        self.received += 1
        try:
            shape, recorded, skip_reason = self._record(item, map_item)
        except Exception as error:  # noqa: BLE001 - it is the item's failure
            return self._collect_undone(item, None, error)
        if shape is None:
            return self._collect(item, recorded, skip_reason)
        chunks = self._add_alike(item, shape, recorded)  # the usual case, by the shortest way
        if chunks:
            self._ready.extend(chunks)
        return chunks

    def receive(self) -> None:
        """Begin an item that somebody else maps, to be ended by `collect`."""
        self.received += 1
        self.collector.open()

    def collect(self, item: Any, error: Exception | None) -> list[Chunk]:
        """Take in what has been recorded for an item since `receive`; returns as `take_in`.

        Args:
            item: The item.
            error: What mapping it raised, if anything.
        """
        writes, skip_reason = self.collector.take()
        if error is not None:
            return self._collect_undone(item, None, error)
        chunks: list[Chunk] = []
        if self._settings.key is not None:
            try:
                chunks = self._builder.set_key(key_text(self._settings.key(item)))
            except Exception as raised:  # noqa: BLE001 - it is the item's failure
                return self._collect_undone(item, None, raised)
            self._ready.extend(chunks)
        return chunks + self._collect(item, writes, skip_reason)

    def _collect(self, item: Any, writes: list[Write], skip_reason: str | None) -> list[Chunk]:
        if skip_reason is not None or not writes:
            return self._collect_undone(item, skip_reason, None)
        chunks = self._builder.add(item, writes if len(writes) == 1 else in_order(writes))
        if chunks:
            self._ready.extend(chunks)
        return chunks

    def _collect_undone(self, item: Any, skip_reason: str | None, error: Exception | None) -> list[Chunk]:
        """Take in an item of which nothing is to be flushed."""
        if error is None:
            verdict = Skipped("nothing to write" if skip_reason is None else skip_reason)
            chunks = self._builder.add(item, [], verdict)
        else:
            chunks = self._builder.add(item, [], _map_failure(self._resumed + self.received - 1, item, error))
            self._map_failures += 1
            if not self._settings.policy.allows(self._flusher.tally.write_failures + self._map_failures):
                chunks += self._builder.cut()
        self._ready.extend(chunks)
        return chunks

    def rest(self) -> list[Chunk]:
        """The items collected and not yet cut, as the last chunk, if there are any."""
        chunks = self._builder.cut()
        self._ready.extend(chunks)
        return chunks

    def park(self, index: int, item: Any, map_item: Callable[[Any, Collector], object]) -> None:
        """Put off an item that an earlier start of the run has put off: it is mapped again."""
        self._parked_before += 1
        writes: Sequence[Write] = []
        verdict: ItemFailure | Skipped | None = None
        key = None
        try:
            key = None if self._settings.key is None else key_text(self._settings.key(item))
            shape, recorded, skip_reason = self._record(item, map_item)
        except Exception as error:  # noqa: BLE001 - it is the item's failure
            verdict = _map_failure(index, item, error)
        else:
            writes = in_order(recorded) if shape is None else [shape.write_of(recorded)]
            if skip_reason is not None or not writes:
                verdict = Skipped("nothing to write" if skip_reason is None else skip_reason)
        self._flusher.park(ParkedItem(index=index, item=item, writes=writes, key=key, verdict=verdict))

    def parked(self) -> list[Chunk]:
        """The items that were put off, once all others are settled; to be flushed, in order."""
        self._flusher.settle_all()
        chunks = [] if self.abort is not None else self._flusher.take_parked(self.received, self._settings.limits.items)
        self._ready.extend(chunks)
        return chunks

    # ---- flushing

    def flush(self, chunk: Chunk) -> None:
        """Begin to write a chunk: in time it is written, by its items where one of them is at fault, and counted.

        Args:
            chunk: The first of those that `collect` and `rest` have given out and that are not flushed yet.

        Raises:
            KeyboardInterrupt: At COMMIT; the chunk concerned is counted as unknown.
        """
        self._ready.popleft()
        self._flusher.submit(chunk)

    def advance(self) -> None:
        """Do for the chunks on their way what can be done without waiting; raises as `flush` does."""
        self._flusher.advance()

    def settle(self) -> None:
        """Wait until all chunks on their way are written and counted; raises as `flush` does."""
        self._flusher.settle_all()

    def take_reports(self) -> Iterator[ChunkReport]:
        """The reports not yet taken, in order."""
        return self._flusher.take_reports()

    def end(self) -> None:
        """End the run: what was not given to be flushed stays unattempted."""
        self.rest()
        self._ready.extend(self._flusher.take_parked(self.received, self._settings.limits.items))
        while self._ready:
            self._flusher.leave(self._ready.popleft())
        self._flusher.end()
        self._ended = self._clock()


def _map_failure(index: int, item: Any, error: Exception) -> ItemFailure:
    if isinstance(error, ItemRefused):
        return ItemFailure(
            index=index,
            item=item,
            stage=Stage.MAP,
            error_type=type(error).__name__,
            message=str(error),
            table=error.table,
            column=error.column,
            constraint=error.constraint,
        )
    return ItemFailure(
        index=index,
        item=item,
        stage=Stage.MAP,
        error_type=type(error).__name__,
        message=f"map raised {type(error).__name__}{_place(error)}",
        detail=text_of(error),
    )


def _place(error: Exception) -> str:
    """Where an exception was raised: what its text says may quote values, where it came from does not."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
