"""What became of each chunk, and the counts of a run. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batchwrite.chunk import Chunk, Skipped
from batchwrite.listeners import ChunkDetails
from batchwrite.result import (
    Abort,
    BatchResult,
    EarlierStarts,
    FailureReason,
    ItemFailure,
    ItemOutcome,
    OutcomeStatus,
    Stage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
class ChunkReport:
    """What became of a chunk.

    Attributes:
        chunk: The chunk.
        failures: The items that failed, by position in the chunk.
        reached: Number of items decided; those after them were not attempted.
        is_unknown: Whether the COMMIT of all items decided got no answer.
        fell_back: Whether the items were written one by one.
        parked: Positions of the items that are put off: they are not decided yet.
    """

    chunk: Chunk
    failures: Mapping[int, ItemFailure]
    reached: int
    is_unknown: bool = False
    fell_back: bool = False
    parked: frozenset[int] = frozenset()

    def part(self, chunk: Chunk, start: int) -> ChunkReport | None:
        """What became of a part of the chunk that begins at a position; nothing where some of it is not decided."""
        stop = start + len(chunk)
        if self.reached < stop:
            return None
        return replace(
            self,
            chunk=chunk,
            failures={place - start: each for place, each in self.failures.items() if start <= place < stop},
            reached=len(chunk),
            parked=frozenset(place - start for place in self.parked if start <= place < stop),
        )

    @property
    def landed(self) -> int:
        """Number of items that were written, or, where it is unknown, sent."""
        return self.reached - self.skipped - len(self.failures) - len(self.parked)

    @property
    def skipped(self) -> int:
        """Number of items decided that were skipped."""
        return sum(
            position < self.reached and isinstance(verdict, Skipped)
            for position, verdict in self.chunk.verdicts.items()
        )

    def details(self, run_id: str, seconds: float) -> ChunkDetails:
        """What listeners are told."""
        landed, skipped = self.landed, self.skipped
        return ChunkDetails(
            run_id=run_id,
            number=self.chunk.number,
            first_index=self.chunk.index_of(0),
            items=len(self.chunk),
            written=0 if self.is_unknown else landed,
            failed=len(self.failures),
            skipped=skipped,
            parked=len(self.parked),
            unattempted=len(self.chunk) - self.reached,
            unknown=landed if self.is_unknown else 0,
            fell_back=self.fell_back,
            seconds=seconds,
            tables=tuple(sorted({table.name for table in self.chunk.writes.tables})),
        )

    def outcomes(self) -> Iterator[ItemOutcome]:
        """One outcome an item that is decided, in order."""
        for position, item in enumerate(self.chunk.items):
            if position in self.parked:
                continue
            status, failure, reason = self._outcome(position)
            yield ItemOutcome(
                index=self.chunk.index_of(position),
                item=item,
                status=status,
                failure=failure,
                reason=reason,
            )

    def _outcome(self, position: int) -> tuple[OutcomeStatus, ItemFailure | None, str | None]:
        if position >= self.reached:
            return OutcomeStatus.UNATTEMPTED, None, None
        verdict = self.chunk.verdicts.get(position)
        if isinstance(verdict, Skipped):
            return OutcomeStatus.SKIPPED, None, verdict.reason
        if position in self.failures:
            return OutcomeStatus.FAILED, self.failures[position], None
        return OutcomeStatus.UNKNOWN if self.is_unknown else OutcomeStatus.WRITTEN, None, None


class Tally:
    """Counts, and the failures that are kept."""

    def __init__(self, keep_failures: int) -> None:
        self._keep_failures = keep_failures
        self.written = 0
        self.failed = 0
        self.write_failures = 0  # those that mapping had not decided
        self.skipped = 0
        self.unknown = 0
        self.chunks = 0
        self.fallbacks = 0
        self._failures: list[ItemFailure] = []
        self._reasons: dict[FailureReason, int] = {}

    def count(self, report: ChunkReport) -> None:
        """Take in what became of a chunk."""
        skipped = report.skipped
        landed = report.landed
        self.skipped += skipped
        self.failed += len(report.failures)
        self.write_failures += sum(position not in report.chunk.verdicts for position in report.failures)
        if report.is_unknown:
            self.unknown += landed
        else:
            self.written += landed
            self.chunks += bool(landed)
        self.fallbacks += report.fell_back
        for position in sorted(report.failures):
            self.keep(report.failures[position])

    def keep(self, failure: ItemFailure) -> None:
        """Count a failure's reason, and hold on to the failure where there is room."""
        if len(self._failures) < self._keep_failures:
            self._failures.append(failure)
        reason = failure.reason
        if reason not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            reason = _OTHER_REASONS
        self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def earlier(self) -> EarlierStarts:
        """The counts so far, as those of earlier starts."""
        return EarlierStarts(
            written=self.written,
            failed=self.failed,
            skipped=self.skipped,
            failures=tuple(self._failures),
            failure_counts=dict(self._reasons),
        )

    @property
    def decided(self) -> int:
        """Number of items of which it is known, or certain that nobody knows, what has become of them."""
        return self.written + self.failed + self.skipped + self.unknown

    def result(self, received: int, seconds: float, abort: Abort | None) -> BatchResult:
        """The counts so far; whatever was received and is not otherwise counted is unattempted."""
        return BatchResult(
            received=received,
            written=self.written,
            failed=self.failed,
            skipped=self.skipped,
            unattempted=received - self.decided,
            unknown=self.unknown,
            failures=tuple(self._failures),
            failure_counts=dict(self._reasons),
            chunks=self.chunks,
            fallbacks=self.fallbacks,
            seconds=seconds,
            abort=abort,
        )
