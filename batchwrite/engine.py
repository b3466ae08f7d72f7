"""Map, collect, flush, fall back, account: one run. Knows sinks, knows no SQL and no driver.

The parts that wait for somebody (the input, the map function, the flush) are called by the writer's loop, so that
sync and async writers can share all of this.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from batchwrite.chunk import Chunk, ChunkBuilder, ChunkLimits, Entry, Skipped
from batchwrite.collector import Collector
from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.faults import Fault, FaultKind, FlushFailed
from batchwrite.plan import in_order
from batchwrite.result import (
    Abort,
    BatchResult,
    FailureReason,
    ItemFailure,
    ItemOutcome,
    OutcomeStatus,
    Stage,
)
from batchwrite.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from batchwrite.sink import Sink

_log = logging.getLogger("batchwrite")

# Reasons are few unless a map function makes up a text for every item: those past this number are counted together.
_MOST_REASONS = 1_000

_OTHER_REASONS = FailureReason(
    stage=Stage.MAP,
    error_type="",
    sqlstate=None,
    table=None,
    column=None,
    constraint=None,
    message="other reasons",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When failing items end a run.

    Attributes:
        most: Number of failed items that a run survives; one more ends it. `None` for no such bound, 0 to stop at
            the first.
        ratio: Share of failed items, of those decided, that a run survives; looked at after each chunk. `None` for
            no such bound.
    """

    most: int | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.most is not None and (isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 0):
            raise ConfigurationError("max_failures must be a whole number of at least 0, or None")
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise ConfigurationError("max_failure_ratio must be between 0 and 1, or None")

    def allows(self, failed: int) -> bool:
        """Whether a run may go on after that many failed items."""
        return self.most is None or failed <= self.most

    def allows_share(self, failed: int, decided: int) -> bool:
        """Whether a run may go on after a chunk."""
        return self.ratio is None or failed <= self.ratio * decided


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a writer hands to each of its runs."""

    limits: ChunkLimits = field(default_factory=ChunkLimits)
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    keep_failures: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReport:
    """What became of a chunk.

    Attributes:
        chunk: The chunk.
        failures: The items that failed, by position in the chunk.
        reached: Number of items decided; those after them were not attempted.
        is_unknown: Whether the COMMIT of all items decided got no answer.
        fell_back: Whether the items were written one by one.
    """

    chunk: Chunk
    failures: Mapping[int, ItemFailure]
    reached: int
    is_unknown: bool = False
    fell_back: bool = False

    def outcomes(self) -> Iterator[ItemOutcome]:
        """One outcome an item, in order."""
        for position, entry in enumerate(self.chunk.entries):
            status, failure, reason = self._outcome(position, entry)
            yield ItemOutcome(
                index=self.chunk.first_index + position,
                item=entry.item,
                status=status,
                failure=failure,
                reason=reason,
            )

    def _outcome(self, position: int, entry: Entry) -> tuple[OutcomeStatus, ItemFailure | None, str | None]:
        if position >= self.reached:
            return OutcomeStatus.UNATTEMPTED, None, None
        if isinstance(entry.verdict, Skipped):
            return OutcomeStatus.SKIPPED, None, entry.verdict.reason
        if position in self.failures:
            return OutcomeStatus.FAILED, self.failures[position], None
        return OutcomeStatus.UNKNOWN if self.is_unknown else OutcomeStatus.WRITTEN, None, None


class Tally:
    """Counts, and the failures that are kept."""

    def __init__(self, keep_failures: int) -> None:
        self._keep_failures = keep_failures
        self.received = 0
        self.written = 0
        self.failed = 0
        self.skipped = 0
        self.unknown = 0
        self.chunks = 0
        self.fallbacks = 0
        self._failures: list[ItemFailure] = []
        self._reasons: dict[FailureReason, int] = {}

    def count(self, report: ChunkReport) -> None:
        """Take in what became of a chunk."""
        decided = report.chunk.entries[: report.reached]
        skipped = sum(isinstance(entry.verdict, Skipped) for entry in decided)
        landed = len(decided) - skipped - len(report.failures)
        self.skipped += skipped
        self.failed += len(report.failures)
        if report.is_unknown:
            self.unknown += landed
        else:
            self.written += landed
            self.chunks += bool(landed)
        self.fallbacks += report.fell_back
        for position in sorted(report.failures):
            self._keep(report.failures[position])

    def _keep(self, failure: ItemFailure) -> None:
        if len(self._failures) < self._keep_failures:
            self._failures.append(failure)
        reason = failure.reason
        if reason not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            reason = _OTHER_REASONS
        self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def result(self, seconds: float, abort: Abort | None) -> BatchResult:
        """The counts so far; whatever was received and is not otherwise counted is unattempted."""
        decided = self.written + self.failed + self.skipped + self.unknown
        return BatchResult(
            received=self.received,
            written=self.written,
            failed=self.failed,
            skipped=self.skipped,
            unattempted=self.received - decided,
            unknown=self.unknown,
            failures=tuple(self._failures),
            failure_counts=dict(self._reasons),
            chunks=self.chunks,
            fallbacks=self.fallbacks,
            seconds=seconds,
            abort=abort,
        )


class Run:
    """One run: items go in, chunks come out to be flushed, reports are counted.

    Args:
        sink: Where chunks go.
        settings: Bounds and policies.
        clock: Seconds that only go up.
    """

    def __init__(self, sink: Sink, settings: RunSettings, clock: Callable[[], float]) -> None:
        self._sink = sink
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self._ended: float | None = None
        self._builder = ChunkBuilder(settings.limits, clock)
        self._tally = Tally(settings.keep_failures)
        self._map_failures = 0  # among the items not yet flushed
        self._ready: deque[Chunk] = deque()  # cut, not yet flushed
        self._reports: deque[ChunkReport] = deque()  # flushed, not yet taken
        self.collector = Collector(sink)
        self.abort: Abort | None = None

    def result(self) -> BatchResult:
        """The result so far; the last one once the run has ended."""
        now = self._clock() if self._ended is None else self._ended
        return self._tally.result(now - self._started, self.abort)

    def stop(self, reason: str, message: str, error_type: str | None = None, sqlstate: str | None = None) -> None:
        """Stop early; the first reason stays. A run that has ended stays as it is."""
        if self.abort is None and self._ended is None:
            self.abort = Abort(reason=reason, message=message, error_type=error_type, sqlstate=sqlstate)

    # ---- collecting

    def receive(self) -> None:
        """Count an item in; to be called before it is mapped."""
        self._tally.received += 1
        self.collector.open()

    def collect(self, item: Any, error: Exception | None) -> list[Chunk]:
        """Take what an item's mapping has recorded.

        Args:
            item: The item.
            error: What mapping it raised, if anything.

        Returns:
            The chunks that are to be flushed now, in order.
        """
        writes, skip_reason = self.collector.take()
        is_last = False
        if error is not None:
            entry = Entry(item, [], _map_failure(self._tally.received - 1, item, error))
            self._map_failures += 1
            is_last = not self._settings.policy.allows(self._tally.failed + self._map_failures)
        elif skip_reason is not None:
            entry = Entry(item, [], Skipped(skip_reason))
        else:
            entry = Entry(item, in_order(writes), None if writes else Skipped("nothing to write"))
        chunks = self._builder.add(entry)
        if is_last:
            chunks += self._builder.cut()
        self._ready.extend(chunks)
        return chunks

    def rest(self) -> list[Chunk]:
        """The items collected and not yet cut, as the last chunk, if there are any."""
        chunks = self._builder.cut()
        self._ready.extend(chunks)
        return chunks

    def end(self) -> None:
        """End the run: what is not flushed stays unattempted."""
        self.rest()
        while self._ready:
            self._reports.append(ChunkReport(chunk=self._ready.popleft(), failures={}, reached=0))
        self._ended = self._clock()

    # ---- flushing

    def flush(self, chunk: Chunk) -> None:
        """Write a chunk, falling back to its items where one of them is at fault, and count what became of it.

        Weather that does not pass, and errors that are nobody's item, stop the run: see `abort`.

        Args:
            chunk: The first of those that `collect` and `rest` have given out and that are not flushed yet.

        Raises:
            KeyboardInterrupt: At COMMIT; the chunk is counted as unknown.
        """
        try:
            report = self._settings.retry.retrying()(self._flush_once, chunk)
            interrupt = None
        except FlushFailed as error:
            report = self._stopped_by(error, chunk)
            interrupt = None if isinstance(error.__cause__, Exception) else error.__cause__
        self._tally.count(report)
        self._ready.popleft()
        self._reports.append(report)
        self._map_failures = 0
        self._apply_policy()
        if interrupt is not None:
            raise interrupt

    def take_reports(self) -> Iterator[ChunkReport]:
        """The reports not yet taken, in order."""
        while self._reports:
            yield self._reports.popleft()

    def _flush_once(self, chunk: Chunk) -> ChunkReport:
        positions = [position for position, entry in enumerate(chunk.entries) if entry.verdict is None]
        items = [chunk.entries[position].writes for position in positions]
        try:
            if items:
                self._sink.write(items)
        except FlushFailed as error:
            if error.fault.kind is not FaultKind.ITEM:
                raise
            _note_fallback(chunk, error.fault)
            return self._fall_back(chunk, positions, items)
        failures = _map_failures(chunk)
        return ChunkReport(chunk=chunk, failures=failures, reached=len(chunk.entries))

    def _fall_back(self, chunk: Chunk, positions: list[int], items: list[Any]) -> ChunkReport:
        """Write a chunk's items by themselves, until failures end the run."""
        failures = _map_failures(chunk)

        def refuse(number: int, fault: Fault) -> int:
            position = positions[number]
            failures[position] = _write_failure(chunk, position, fault)
            end = self._end_of_run(chunk, failures)
            return sum(position < end for position in positions)

        self._sink.write_each(items, refuse)
        reached = self._end_of_run(chunk, failures)
        failures = {position: failure for position, failure in failures.items() if position < reached}
        return ChunkReport(chunk=chunk, failures=failures, reached=reached, fell_back=True)

    def _end_of_run(self, chunk: Chunk, failures: Mapping[int, ItemFailure]) -> int:
        """How many items of a chunk are decided before failures, as far as they are known, end the run."""
        if self._settings.policy.most is None:
            return len(chunk.entries)
        for count, position in enumerate(sorted(failures), start=1):
            if not self._settings.policy.allows(self._tally.failed + count):
                return position + 1
        return len(chunk.entries)

    def _stopped_by(self, error: FlushFailed, chunk: Chunk) -> ChunkReport:
        """What becomes of a chunk that could not be written through no fault of its items."""
        fault = error.fault
        reason = str(FaultKind.FATAL if fault.kind is FaultKind.ITEM else fault.kind)
        if isinstance(error.__cause__, KeyboardInterrupt):
            reason = "interrupted"
        self.stop(reason, fault.message, fault.error_type, fault.sqlstate)
        _log.error(
            "the run stops: %s",
            fault.message,
            extra={"action": "abort", "kind": str(fault.kind), "sqlstate": fault.sqlstate},
        )
        if fault.kind is not FaultKind.IN_DOUBT:
            return ChunkReport(chunk=chunk, failures={}, reached=0)
        # Map failures are certain; all others of the chunk went into the COMMIT that got no answer.
        return ChunkReport(
            chunk=chunk,
            failures=_map_failures(chunk),
            reached=len(chunk.entries),
            is_unknown=True,
        )

    def _apply_policy(self) -> None:
        tally, policy = self._tally, self._settings.policy
        decided = tally.written + tally.failed + tally.skipped
        if not policy.allows(tally.failed):
            self.stop("failure_limit", f"{tally.failed} items failed, and the run allows {policy.most}")
        elif not policy.allows_share(tally.failed, decided):
            self.stop(
                "failure_limit", f"{tally.failed} of {decided} items failed, and the run allows {policy.ratio:.2%}"
            )


def _note_fallback(chunk: Chunk, fault: Fault) -> None:
    _log.info(
        "chunk %d (items %d to %d) is written item by item: %s",
        chunk.number,
        chunk.first_index,
        chunk.first_index + len(chunk.entries) - 1,
        fault.message,
        extra={"action": "fallback", "chunk": chunk.number, "sqlstate": fault.sqlstate, "table": fault.table},
    )


def _map_failures(chunk: Chunk) -> dict[int, ItemFailure]:
    """The items of a chunk that failed in map, by position."""
    return {
        position: entry.verdict
        for position, entry in enumerate(chunk.entries)
        if isinstance(entry.verdict, ItemFailure)
    }


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
        detail=_text(error),
    )


def _place(error: Exception) -> str:
    """Where an exception was raised: what its text says may quote values, where it came from does not."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot even be printed must not end the run
        return type(error).__name__


def _write_failure(chunk: Chunk, position: int, fault: Fault) -> ItemFailure:
    return ItemFailure(
        index=chunk.first_index + position,
        item=chunk.entries[position].item,
        stage=Stage.COMMIT if fault.at_commit else Stage.WRITE,
        error_type=fault.error_type,
        message=fault.message,
        sqlstate=fault.sqlstate,
        table=fault.table,
        column=fault.column,
        constraint=fault.constraint,
        attempts=1,
        detail=fault.detail,
    )
