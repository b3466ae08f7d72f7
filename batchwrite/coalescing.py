"""Many callers, one bulk write: gather what is submitted, write it, and answer each. Whoever waits is passed in.

One thread (or greenlet) does all of this, in the order in which items were submitted. While it writes, more items
arrive: they are the next batch. That alone is a group commit; the delay is for those who are about to come back.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from batchwrite.errors import ItemRefused
from batchwrite.feeding import ITEMS_BETWEEN_PAUSES
from batchwrite.result import ItemOutcome, OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchwrite.chunk import Chunk
    from batchwrite.collector import Collector
    from batchwrite.engine import Run
    from batchwrite.feeding import MapFunction

INTERRUPTED = "the coalescer was interrupted"
NOT_IN_TIME = "the coalescer was closed, and its time was up before the item could be written"

_log = logging.getLogger("batchwrite")

_UNDONE = frozenset({OutcomeStatus.UNATTEMPTED, OutcomeStatus.UNKNOWN})


class Submission(Protocol):
    """An item that somebody has submitted, and waits for."""

    @property
    def item(self) -> Any:
        """The item."""

    @property
    def submitted(self) -> float:
        """When, on the clock that only goes up."""

    def begin(self) -> bool:
        """Take it up; false where nobody waits for it any more."""

    def answer(self, outcome: ItemOutcome) -> None:
        """Say what has become of it."""

    def fail(self, error: BaseException) -> None:
        """Say that nobody knows, because of an error that is no item's."""


class Inbox(Protocol):
    """What has been submitted and not been taken up."""

    @property
    def waiting(self) -> int:
        """Number of items."""

    def take(self, deadline: float | None) -> Submission | None:
        """The next one; waits for it until a moment, or, without one, until the inbox is closed.

        Returns:
            The submission; nothing where there is none by then, or will be none.
        """

    def close(self) -> None:
        """Take nothing more in."""


class Pace:
    """How long to wait for more, so that a single caller never waits and many fill a batch.

    As many as were being served a moment ago, in the last batch and behind it, may come back with their next items
    as soon as they have their answers. Once so many are there, or after the longest delay, waiting is of no use.

    Args:
        max_delay: Longest time in seconds that an item waits for others.
    """

    def __init__(self, max_delay: float) -> None:
        self._max_delay = max_delay
        self._expected = 1

    def is_enough(self, gathered: int) -> bool:
        """Whether to wait no longer."""
        return gathered >= self._expected

    def deadline(self, submitted: float) -> float:
        """Until when to wait, at most."""
        return submitted + self._max_delay

    def note(self, present: int) -> None:
        """Remember how many are about to be answered, or were waiting behind those."""
        self._expected = max(1, present)


class Coalescing:
    """Serves an inbox until it is closed.

    Args:
        inbox: What is submitted.
        begin: Begins a run; called again when one has had to stop.
        map_item: The map function.
        max_delay: Longest time in seconds that an item waits for others.
        ends: By what whoever runs this is ended; no other exception that a map function raises ends it.

    Attributes:
        undone: Number of items that could not be written through no fault of their own.
        gathered: The items being written, in order.
    """

    def __init__(
        self,
        inbox: Inbox,
        begin: Callable[[], Run],
        map_item: MapFunction[Any],
        max_delay: float,
        ends: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
    ) -> None:
        self._inbox = inbox
        self._begin = begin
        self._map_item = _unending(map_item, ends)
        self._pace = Pace(max_delay)
        self._run: Run | None = None
        self.gathered: deque[Submission] = deque()
        self.undone = 0

    def work(self) -> None:
        """Serve until there is nothing more to come.

        Raises:
            KeyboardInterrupt: Whoever runs this was interrupted. All are answered then, too.
        """
        try:
            while (first := self._inbox.take(None)) is not None:
                if first.begin():
                    self._serve(first)
        finally:
            self._inbox.close()
            self.undone += drop_waiting(self._inbox)
            if self._run is not None:
                self._run.end()

    def _serve(self, first: Submission) -> None:
        """Write an item, and others with it, and answer them."""
        self.gathered.append(first)
        try:
            run = self._run = self._run or self._begin()
            chunks = run.take_in(first.item, self._map_item)
            while self.gathered:
                self._write(run, chunks or self._gather(run))
                chunks = []
        except Exception as error:  # noqa: BLE001 - it is the callers', each of whom waits for an answer
            self._fail_all(error)
        except BaseException:
            if self._run is not None:
                self._run.stop("interrupted", INTERRUPTED)
                self._end_run(self._run)
            while self.gathered:  # the one that was being mapped
                submission = self.gathered.popleft()
                self._answer(submission, _unattempted(submission, INTERRUPTED))
            raise

    def _gather(self, run: Run) -> list[Chunk]:
        """Map more items until they are enough, or a chunk is full; the chunks to be flushed."""
        deadline = self._pace.deadline(self.gathered[0].submitted)
        chunks: list[Chunk] = []
        while not chunks:
            is_enough = self._pace.is_enough(len(self.gathered))
            taken = self._inbox.take(0.0 if is_enough else deadline)
            if taken is None:
                return run.rest()
            if taken.begin():
                self.gathered.append(taken)
                chunks = run.take_in(taken.item, self._map_item)
                if len(self.gathered) % ITEMS_BETWEEN_PAUSES == 0:
                    run.host.breathe()
        return chunks

    def _write(self, run: Run, chunks: list[Chunk]) -> None:
        """Flush chunks, and answer those whose items are in them; all, where the run has to stop."""
        with run.host.deferred():
            for chunk in chunks:
                if run.abort is None:
                    run.flush(chunk)
            run.settle()
        self._pace.note(len(self.gathered) + self._inbox.waiting)  # before those who are answered now come back
        if run.abort is not None:
            self._end_run(run)
        self._answer_all(run)

    def _end_run(self, run: Run) -> None:
        """End a run that has had to stop; the next batch begins another."""
        self._run = None
        run.end()
        self._answer_all(run)

    def _fail_all(self, error: Exception) -> None:
        """Answer those of a batch that are decided, and that for the others it is not known."""
        run, self._run = self._run, None
        if run is not None:
            self._answer_all(run)
            run.end()
        self.undone += len(self.gathered)
        while self.gathered:
            self.gathered.popleft().fail(error)

    def _answer_all(self, run: Run) -> None:
        why = run.abort.message if run.abort is not None else INTERRUPTED
        for report in run.take_reports():
            for outcome in report.outcomes():
                is_undone = outcome.status in _UNDONE
                self._answer(self.gathered.popleft(), replace(outcome, reason=why) if is_undone else outcome)

    def _answer(self, submission: Submission, outcome: ItemOutcome) -> None:
        self.undone += outcome.status in _UNDONE
        try:
            submission.answer(outcome)
        except BaseException as error:  # noqa: BLE001 - of a callback of this caller's: others wait for their answers
            _log.error(
                "a callback of an outcome raised %s, and is passed by",
                type(error).__name__,
                extra={"action": "callback"},
            )


def _unending(map_item: MapFunction[Any], ends: tuple[type[BaseException], ...]) -> MapFunction[Any]:
    """A map function that fails one caller's item where it would end the coalescer of all."""

    def mapped(item: Any, out: Collector) -> object:
        try:
            return map_item(item, out)
        except Exception:
            raise
        except ends:
            raise
        except BaseException as error:
            raise ItemRefused(f"map raised {type(error).__name__}") from error

    return mapped


def drop_waiting(inbox: Inbox) -> int:
    """Answer all that have not been taken up that they will not be written; their number."""
    number = 0
    while (left := inbox.take(0.0)) is not None:
        if left.begin():
            left.answer(_unattempted(left, NOT_IN_TIME))
            number += 1
    return number


def _unattempted(submission: Submission, why: str) -> ItemOutcome:
    return ItemOutcome(index=-1, item=submission.item, status=OutcomeStatus.UNATTEMPTED, reason=why)
