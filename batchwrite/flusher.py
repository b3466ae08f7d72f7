"""Flushing chunks: begin, go on while others are collected, settle in input order, count. Knows no SQL."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchwrite.attendant import Attendant
from batchwrite.chunk import Chunk, ParkedItem
from batchwrite.fault import Fault, FaultKind, FlushFailed
from batchwrite.flight import Flight, parked_item, undone
from batchwrite.landing import Landing, unknown_report
from batchwrite.listeners import FailureDetails, RetryDetails
from batchwrite.result import Abort
from batchwrite.tally import ChunkReport, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchwrite.ledger import Bookkeeper
    from batchwrite.settings import RunSettings
    from batchwrite.sink import PendingWrite, Sink

_log = logging.getLogger("batchwrite")


# How often the books are asked again, after ever longer waits, before a chunk in doubt is given up.
_MORE_LOOKS = 4

_MAKE_ROOM = "make room for it (disk, memory or connections of the database)"
_START_AGAIN = "start the run again"
# Without a ledger a run that is started again with the same input writes it again, from the first item on.
_GO_ON = "go on behind the items that are counted as written, failed or skipped"
_GO_ON_WITH = "write the items again that a stream tells to be unattempted"
_KEEP_A_LEDGER = "with a ledger, BatchWriter(…, ledger=Ledger()), it would have been looked up, and the run gone on"


class Flusher:
    """Takes the chunks of one run, in order, and says what became of each, in the same order.

    A sink may write a chunk while the caller collects the next, and several at a time where the settings have
    several workers. Chunks are committed in their order whatever the number: where one ends the run, none behind it
    has been written.

    Args:
        sink: Where chunks go.
        settings: Bounds and policies.
        bookkeeper: Keeps the run's books, if it has any: then a COMMIT without an answer is looked up.
        on_report: Called with each report once its chunk is settled; what it raises stops the run.

    Attributes:
        tally: The counts.
        abort: Why the run stopped early, once it has.
        looks: How often the caller has looked after the chunks on their way.
    """

    def __init__(
        self,
        sink: Sink,
        settings: RunSettings,
        bookkeeper: Bookkeeper | None = None,
        on_report: Callable[[ChunkReport], object] | None = None,
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._bookkeeper = bookkeeper
        self._on_report = on_report
        self._flights: deque[Flight] = deque()
        self._reports: deque[ChunkReport] = deque()  # settled, not yet taken
        self.tally = Tally(settings.keep_failures)
        self.abort: Abort | None = None
        self.looks = 0
        self._lock = threading.RLock()  # between the caller's thread and the attendant's
        self._attendant = Attendant(self)
        self._raised: BaseException | None = None  # in the attendant's thread
        self._parked: list[ParkedItem] = []
        self._has_landed = False  # whether something has been written since an item was given up
        self._is_given_up = False  # whether the caller was interrupted while the attendant was at work
        self._landing = Landing(
            sink, settings, bookkeeper, self.tally, self._parked, free=self._free, abandon=self._abandon_attempts
        )

    @property
    def is_busy(self) -> bool:
        """Whether there are chunks on their way."""
        return bool(self._flights)

    @property
    def oldest(self) -> float | None:
        """Since when the first item of the chunks on their way has been waiting, if there are any."""
        try:
            return self._flights[0].chunk.began or self._flights[0].began  # those of items put off have no beginning
        except IndexError:  # also where another thread asks, just when the last has ended
            return None

    @property
    def has_reports(self) -> bool:
        """Whether there are reports not yet taken."""
        return bool(self._reports)

    def stop(self, reason: str, message: str, error_type: str | None = None, sqlstate: str | None = None) -> None:
        """Stop early; the first reason stays."""
        if self.abort is None:
            self.abort = Abort(reason=reason, message=message, error_type=error_type, sqlstate=sqlstate)

    def take_reports(self) -> Iterator[ChunkReport]:
        """The reports not yet taken, in order."""
        while self._reports:
            yield self._reports.popleft()

    def leave(self, chunk: Chunk, seconds: float = 0.0) -> None:
        """Report a chunk that nobody will flush any more, so many seconds after it was full."""
        self._report(ChunkReport(chunk=chunk, failures={}, reached=0), seconds)

    def _report(self, report: ChunkReport, seconds: float) -> None:
        self._reports.append(report)
        listeners = self._settings.listeners
        if listeners:
            listeners.tell("on_chunk", report.details(listeners.run_id, seconds))
            for _, failure in sorted(report.failures.items()):
                details = FailureDetails(run_id=listeners.run_id, chunk=report.chunk.number, failure=failure)
                listeners.tell("on_failure", details)

    def park(self, parked: ParkedItem) -> None:
        """Put an item off to the end of the run."""
        self._parked.append(parked)

    def take_parked(self, number: int, most: int) -> list[Chunk]:
        """The items put off, as chunks of so many at most; those that fail again are not put off again."""
        parked = self._parked[:]
        self._parked.clear()
        return [
            Chunk.of_parked(number + place, parked[start : start + most])
            for place, start in enumerate(range(0, len(parked), most))
        ]

    def submit(self, chunk: Chunk) -> None:
        """Begin to flush a chunk; where the sink cannot write it on the way, or is busy with others, wait.

        Weather that does not pass, and errors that are nobody's item, stop the run: see `abort`.

        Raises:
            KeyboardInterrupt: At COMMIT; the chunk is counted as unknown.
        """
        with self._looking():
            while len(self._flights) >= max(self._settings.workers, 1) or (self._flights and self.abort is not None):
                self._settle()
            if self.abort is not None:
                self.leave(chunk)
                return
            flight = Flight(chunk, time.monotonic())
            self._flights.append(flight)
            try:
                while flight in self._flights and not (self._begin(flight) and self._settings.workers):
                    self._settle()
            except BaseException:
                self._abandon_all()
                raise
        if self._flights:
            self._attendant.call()

    def advance(self) -> None:
        """Do for the chunks on their way what can be done without waiting.

        Raises:
            KeyboardInterrupt: See `submit`.
        """
        with self._looking():
            for flight in tuple(self._flights):
                pending = flight.pending
                if pending is None:
                    return
                pending.advance()
                if flight is self._flights[0] and pending.is_written:
                    if self._may_commit_at_once(flight, pending):
                        pending.begin_commit()
                    if pending.has_ended:
                        self._settle()

    def _may_commit_at_once(self, flight: Flight, pending: PendingWrite) -> bool:
        """Whether nothing that was refused can keep a part of the chunk from being committed."""
        is_decided = self._settings.policy.most is None or not (pending.refused or flight.chunk.verdicts)
        return is_decided and not (pending.refused and flight.is_behind)

    def settle_all(self) -> None:
        """Wait until all chunks on their way are settled.

        Raises:
            KeyboardInterrupt: See `submit`.
        """
        with self._looking():
            while self._flights:
                self._settle()

    def end(self) -> None:
        """Look after nothing any more."""
        self._attendant.dismiss()

    def settle_unless_looked_after(self, looks: int) -> None:
        """Bring all chunks to their end, unless the caller has come by since so many looks; for the attendant."""
        with self._lock:
            try:
                while self._flights and self.looks == looks and self._raised is None:
                    self._settle()
            except BaseException as error:  # noqa: BLE001 - it is the caller's, when it comes by
                self._raised = error

    @contextmanager
    def _looking(self) -> Iterator[None]:
        self.looks += 1  # before the lock: the attendant leaves off as soon as somebody wants it
        try:
            self._lock.acquire()
        except BaseException:
            self._is_given_up = True  # a second Ctrl-C: nor must the attendant wait any longer
            raise
        try:
            raised, self._raised = self._raised, None
            if raised is not None:
                raise raised
            yield
        finally:
            self._lock.release()

    # ---- one chunk

    def _begin(self, flight: Flight) -> bool:
        """Begin an attempt that goes on by itself; false where there can be none, or not yet."""
        others = [other.pending for other in self._flights if other is not flight]
        return None not in others and self._landing.begin(flight, [each for each in others if each is not None])

    def _settle(self) -> None:
        """Bring the first chunk to its end, and count what became of it."""
        flight = self._flights[0]
        interrupt = None
        try:
            report = self._settings.retry.run(
                lambda: self._landing.flush_once(flight),
                lambda fault: self._landing.is_retriable(flight, fault),
                sleep=self._settings.host.sleep,
                on_retry=lambda fault, attempt, wait: self._tell_retry(flight, fault, attempt, wait),
            )
        except FlushFailed as error:
            # In doubt, the halves might be there already: only the books could tell.
            if flight.is_to_split and not (flight.is_in_doubt and self._bookkeeper is None):
                self._split(flight)
                return
            report, interrupt = self._undone_for_good(flight, error)
        except BaseException:
            self._abandon_all()
            raise
        self._flights.popleft()
        self._count(flight, report)
        self._apply_policy()
        if report.reached < len(report.chunk):  # by the books, of another start of the same run with smaller chunks
            self.stop("fatal", "the run is being written by somebody else at the same time, under the same run_id")
        if self.abort is not None:
            self._abandon_all()
        if interrupt is not None:
            raise interrupt

    def _count(self, flight: Flight, report: ChunkReport) -> None:
        """Take in what became of a chunk."""
        self.tally.count(report)
        self._has_landed = self._has_landed or (report.landed > 0 and not report.is_unknown)
        self._report(report, time.monotonic() - flight.began)
        self._parked += [parked_item(report.chunk, position) for position in sorted(report.parked)]
        self._keep_letters(report)

    def _undone_for_good(self, flight: Flight, error: FlushFailed) -> tuple[ChunkReport, BaseException | None]:
        """What becomes of a chunk that is not tried again, and the Ctrl-C that has ended it, if one has."""
        report = self._last_look(flight, is_interrupted=not isinstance(error.__cause__, Exception))
        if report is None and flight.is_given_up and self._others_land():
            self._has_landed = False  # should the next one do the same, it is the weather after all
            try:
                return self._landing.given_up(flight), None
            except FlushFailed as another:
                error = another
        interrupt = None if isinstance(error.__cause__, Exception) else error.__cause__
        if report is not None and interrupt is not None:
            self.stop("interrupted", "the run was interrupted")
        return report or self._stopped_by(error, flight), interrupt

    def _last_look(self, flight: Flight, *, is_interrupted: bool) -> ChunkReport | None:
        """What the books say of a chunk in doubt; asked for a while: a COMMIT may be delayed on its way."""
        report = self._landing.last_look(flight)
        if self._bookkeeper is None or not flight.is_in_doubt or is_interrupted:
            return report
        retry = self._settings.retry
        for look in range(_MORE_LOOKS):
            if report is not None:
                break
            self._settings.host.sleep(min(retry.first_wait * 2**look, retry.longest_wait))
            report = self._landing.last_look(flight)
        return report

    def _abandon_all(self) -> None:
        """Undo all that is on its way; it stays unattempted, but for what may have been committed."""
        self._abandon_attempts()
        while self._flights:
            flight = self._flights.popleft()
            report = self._landing.left(flight)
            if report is not None:
                self._count(flight, report)
            else:
                self.leave(flight.chunk, time.monotonic() - flight.began)

    def _abandon_attempts(self) -> None:
        """Undo all attempts on their way: they may hold what the first chunk waits for."""
        for flight in self._flights:
            flight.abandon()

    def _tell_retry(self, flight: Flight, fault: Fault, attempt: int, wait: float) -> None:
        listeners = self._settings.listeners
        details = RetryDetails(
            run_id=listeners.run_id,
            chunk=flight.chunk.number,
            items=len(flight.chunk),
            attempt=attempt,
            wait=wait,
            kind=str(fault.kind),
            message=fault.message,
            sqlstate=fault.sqlstate,
        )
        listeners.tell("on_retry", details)

    def _keep_letters(self, report: ChunkReport) -> None:
        try:
            if self._on_report is not None:
                self._on_report(report)
        except Exception as error:  # noqa: BLE001 - whatever it is, the chunk is committed
            why = error.strerror if isinstance(error, OSError) else type(error).__name__  # a text may quote values
            message = f"what failed in items up to {report.chunk.index_of(report.reached - 1)} cannot be kept: {why}"
            self.stop("dead_letters", message, type(error).__name__)
            _log.error("the run stops: %s", message, extra={"action": "abort", "kind": "dead_letters"})

    def _split(self, flight: Flight) -> None:
        """Write the first chunk as two: one of its items may be what costs the connection."""
        _log.warning(
            "%s has lost the connection or was cancelled %d times, and is written in halves",
            flight.chunk,
            flight.losses + flight.cancellations,
            extra={"action": "isolate", "chunk": flight.chunk.number},
        )
        self._flights.popleft()
        self._flights.extendleft(reversed([*flight.halves()]))

    def _others_land(self) -> bool:
        """Whether other items than the first chunk's one do not cost the connection: then it is not the weather."""
        if self._has_landed or len(self._flights) < 2:
            return self._has_landed
        items = self._flights[1].items
        pending = self._sink.begin(items, [], may_commit=False)
        try:
            if pending is None:
                self._sink.write(items, undone)
            else:
                pending.wait(lambda _pending: None)
        except FlushFailed as error:
            return error.fault.kind is not FaultKind.LOST
        finally:
            if pending is not None:
                pending.abandon()
        return True

    def _free(self, first: PendingWrite) -> None:
        """Undo those attempts behind the first that hold what it waits for: they wait for it in turn."""
        if self._is_given_up:
            self._is_given_up = False
            raise KeyboardInterrupt
        others = [flight for flight in self._flights if flight.pending not in {None, first}]
        for flight in others:
            if flight.pending is not None:
                flight.pending.advance()  # one in the middle of its rows would never let go
        blockers = first.blockers([flight.pending for flight in others if flight.pending is not None])
        for flight in others:
            if flight.pending in blockers and flight.pending is not None:
                flight.pending.abandon()
                flight.pending = None

    def _stopped_by(self, error: FlushFailed, flight: Flight) -> ChunkReport:
        """What becomes of a chunk that could not be written through no fault of its items."""
        fault, chunk = error.fault, flight.chunk
        reason = str(FaultKind.FATAL if fault.kind is FaultKind.ITEM else fault.kind)
        if isinstance(error.__cause__, KeyboardInterrupt):
            reason = "interrupted"
        message = fault.message
        if fault.kind is FaultKind.CAPACITY:
            message += f": {_MAKE_ROOM}, and {self._how_to_go_on(chunk)}"
        elif fault.kind is FaultKind.IN_DOUBT and self._bookkeeper is None and self._sink.is_transactional:
            message += f": {_KEEP_A_LEDGER}"
        self.stop(reason, message, fault.error_type, fault.sqlstate)
        _log.error(
            "the run stops: %s",
            message,
            extra={"action": "abort", "kind": str(fault.kind), "sqlstate": fault.sqlstate},
        )
        if fault.kind is not FaultKind.IN_DOUBT and not flight.is_in_doubt:
            return ChunkReport(chunk=chunk, failures={}, reached=0)
        return unknown_report(chunk)

    def _how_to_go_on(self, chunk: Chunk) -> str:
        """What to do once nothing stands in the way of a chunk any more."""
        if self._bookkeeper is not None:
            return _START_AGAIN
        has_holes = bool(self._parked or chunk.indexes)  # items before it that were put off
        return _GO_ON_WITH if has_holes else _GO_ON

    def _apply_policy(self) -> None:
        tally, policy = self.tally, self._settings.policy
        decided = tally.written + tally.failed + tally.skipped
        if not policy.allows(tally.failed):
            self.stop("failure_limit", f"{tally.failed} items failed, and the run allows {policy.most}")
        elif not policy.allows_share(tally.failed, decided):
            self.stop(
                "failure_limit", f"{tally.failed} of {decided} items failed, and the run allows {policy.ratio:.2%}"
            )
