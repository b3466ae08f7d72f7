"""What a run reports: every item accounted for, exactly once. Pure and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from batchwrite.errors import BatchFailed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(StrEnum):
    """How a run ended; of a run that was started again, all of it: an earlier start's failures count, too."""

    SUCCESS = "success"
    """Every item was written or skipped on purpose."""
    PARTIAL_SUCCESS = "partial_success"
    """Some items landed, some failed; the run came to its end."""
    FAILED = "failed"
    """Nothing landed and at least one item failed; the run came to its end."""
    ABORTED = "aborted"
    """The run stopped early: `BatchResult.abort` says why. What is counted as written is committed."""
    UNKNOWN = "unknown"
    """The run stopped early and a COMMIT got no answer: `BatchResult.unknown` items may or may not have landed."""


class Stage(StrEnum):
    """Where an item failed."""

    MAP = "map"
    """In the map function, or in a call it made on the collector: nothing was sent to the database."""
    WRITE = "write"
    """The database (or the conversion of a value for it) refused one of the item's writes."""
    COMMIT = "commit"
    """A constraint that is checked at the end of the transaction refused the item."""


class OutcomeStatus(StrEnum):
    """What became of one item."""

    WRITTEN = "written"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNATTEMPTED = "unattempted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReason:
    """What failures have in common; the key of `BatchResult.failure_counts`."""

    stage: Stage
    error_type: str
    sqlstate: str | None
    table: str | None
    column: str | None
    constraint: str | None
    message: str

    def __str__(self) -> str:
        place = ".".join(part for part in (self.table, self.column) if part)
        return f"{self.message} [{place}]" if place else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFailure:
    """One item that did not land, and why.

    Attributes:
        index: Position of the item in the input, from 0.
        item: The item itself; left out of `repr` and, unless asked for, of `to_dict`.
        stage: Where it failed.
        error_type: Name of the exception's class.
        message: What happened, in words that quote no value of the row.
        sqlstate: Five-character SQLSTATE where the database gives one; for SQLite the name of its result code.
        table: Table that refused the item, where known.
        column: Column at fault, where known; several are joined by a comma.
        constraint: Constraint that refused the item, where known.
        attempts: How often the item was tried by itself after its chunk had failed, 0 if it failed in map.
        detail: The full text of the error, which may quote values of the row; treated like `item`.
    """

    index: int
    item: Any = field(repr=False)
    stage: Stage
    error_type: str
    message: str
    sqlstate: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None
    attempts: int = 0
    detail: str | None = field(default=None, repr=False)

    @property
    def reason(self) -> FailureReason:
        """What this failure has in common with others of its kind."""
        return FailureReason(
            stage=self.stage,
            error_type=self.error_type,
            sqlstate=self.sqlstate,
            table=self.table,
            column=self.column,
            constraint=self.constraint,
            message=self.message,
        )

    def to_dict(self, *, values: bool = False) -> dict[str, Any]:
        """The failure as a dictionary.

        Args:
            values: Also the item itself and the error's full text, both of which may hold row values. The item
                is given as it is: whether it can go into JSON is the caller's to know.
        """
        fields: dict[str, Any] = {
            "index": self.index,
            "stage": str(self.stage),
            "error_type": self.error_type,
            "message": self.message,
            "sqlstate": self.sqlstate,
            "table": self.table,
            "column": self.column,
            "constraint": self.constraint,
            "attempts": self.attempts,
        }
        if values:
            fields |= {"item": self.item, "detail": self.detail}
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What became of one item; what `BatchWriter.stream` yields, in input order.

    Attributes:
        index: Position of the item in the input, from 0.
        item: The item itself.
        status: What became of it; `written` means committed.
        failure: The failure, for status `failed`.
        reason: What `Collector.skip` was given, for status `skipped`.
    """

    index: int
    item: Any = field(repr=False)
    status: OutcomeStatus
    failure: ItemFailure | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Why a run stopped early.

    Attributes:
        reason: `failure_limit`, `interrupted`, `source`, `caller`, or the kind of fault that stopped it (`fatal`,
            `lost`, `in_doubt`, `capacity`, `transient`).
        message: What happened and what to do, without row values or passwords.
        error_type: Name of the exception's class, where an exception was the cause.
        sqlstate: Its SQLSTATE, where it has one.
    """

    reason: str
    message: str
    error_type: str | None = None
    sqlstate: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The reason as a JSON-ready dictionary."""
        return {
            "reason": self.reason,
            "message": self.message,
            "error_type": self.error_type,
            "sqlstate": self.sqlstate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierStarts:
    """What earlier starts of a run have decided, as the ledger tells it; nothing where there were none.

    Attributes:
        written: Items that have landed: in their start, or by a retry of their dead letters since.
        failed: Items that have failed, and have not landed since.
        skipped: Items that were skipped.
        failures: The first of those failures, those of items put off last, as many as the writer's `keep_failures`
            allows; without `detail`. Their `item` is `None` where the input was asked to seek past it.
        failure_counts: Number of those failures by reason, as in `BatchResult`.
    """

    written: int = 0
    failed: int = 0
    skipped: int = 0
    failures: tuple[ItemFailure, ...] = ()
    failure_counts: Mapping[FailureReason, int] = field(default_factory=dict)

    def to_dict(self, *, values: bool = False) -> dict[str, Any]:
        """All of it as a dictionary; as `BatchResult.to_dict`."""
        return {
            "written": self.written,
            "failed": self.failed,
            "skipped": self.skipped,
            "failure_counts": _counts(self.failure_counts),
            "failures": [failure.to_dict(values=values) for failure in self.failures],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The result of a run: `received == written + failed + skipped + unattempted + unknown`, always.

    Of a run that was started again under its `run_id` the counts are those of this start, and `status` is that of the
    whole run: `resumed == earlier.written + earlier.failed + earlier.skipped`.

    Attributes:
        received: Items taken from the input.
        written: Items whose writes are all committed.
        failed: Items of which nothing landed, because of the item itself.
        skipped: Items that map skipped, or for which it recorded no write.
        unattempted: Items received whose writes are not in the database, through no fault of their own.
        unknown: Items in a chunk whose COMMIT got no answer.
        failures: The first failures, in input order, as many as the writer's `keep_failures` allows.
        failure_counts: Number of failures by reason. Exact; reasons past the first 1,000 are counted together.
        chunks: Chunks committed.
        fallbacks: Chunks that had to be written item by item.
        seconds: Wall time from the first item to the end of the run.
        abort: Why the run stopped early, if it did.
        run_id: What the run is called in the ledger, if there is one.
        resumed: Items that earlier starts of the run had decided; in no other count.
        earlier: What has become of these.
    """

    received: int
    written: int
    failed: int
    skipped: int
    unattempted: int
    unknown: int
    failures: tuple[ItemFailure, ...]
    failure_counts: Mapping[FailureReason, int]
    chunks: int
    fallbacks: int
    seconds: float
    abort: Abort | None = None
    run_id: str | None = None
    resumed: int = 0
    earlier: EarlierStarts = field(default_factory=EarlierStarts)

    @property
    def status(self) -> Status:
        """How the run ended, earlier starts under its `run_id` included."""
        if self.unknown:
            return Status.UNKNOWN
        if self.abort or self.unattempted:
            return Status.ABORTED
        if not (self.failed or self.earlier.failed):
            return Status.SUCCESS
        return Status.PARTIAL_SUCCESS if self.written or self.earlier.written else Status.FAILED

    def raise_for_failures(self) -> None:
        """Raise `BatchFailed` unless every item was written or skipped; what is counted as written stays committed.

        Raises:
            BatchFailed: The status is not `success`, be it for a failure of an earlier start of the run. Its text
                names the counts and the first failure.
        """
        if self.status is Status.SUCCESS:
            return
        counts = f"{self.written} of {self.received} items written, {self.failed} failed"
        if self.unattempted:
            counts += f", {self.unattempted} not attempted"
        if self.unknown:
            counts += f", {self.unknown} unknown"
        if self.resumed:
            counts += f"; by earlier starts {self.earlier.written} written, {self.earlier.failed} failed"
        text = f"{self.status}: {counts}"
        if self.abort:
            text += f"; stopped: {self.abort.message}"
        failures = self.earlier.failures[:1] + self.failures[:1]
        if failures:
            text += f"; first failure: item {failures[0].index}: {failures[0].reason}"
        raise BatchFailed(text, result=self)

    def to_dict(self, *, values: bool = False) -> dict[str, Any]:
        """The result as a dictionary, JSON-ready unless `values` adds items that are not.

        Args:
            values: Also give each kept failure's item and full error text (see `ItemFailure.to_dict`).
        """
        return {
            "status": str(self.status),
            "received": self.received,
            "written": self.written,
            "failed": self.failed,
            "skipped": self.skipped,
            "unattempted": self.unattempted,
            "unknown": self.unknown,
            "chunks": self.chunks,
            "fallbacks": self.fallbacks,
            "seconds": round(self.seconds, 6),
            "run_id": self.run_id,
            "resumed": self.resumed,
            "earlier": self.earlier.to_dict(values=values),
            "abort": self.abort.to_dict() if self.abort else None,
            "failure_counts": _counts(self.failure_counts),
            "failures": [failure.to_dict(values=values) for failure in self.failures],
        }


def _counts(failure_counts: Mapping[FailureReason, int]) -> list[dict[str, Any]]:
    """Numbers of failures by reason, JSON-ready."""
    return [
        {
            "count": count,
            "stage": str(reason.stage),
            "error_type": reason.error_type,
            "sqlstate": reason.sqlstate,
            "table": reason.table,
            "column": reason.column,
            "constraint": reason.constraint,
            "message": reason.message,
        }
        for reason, count in failure_counts.items()
    ]
