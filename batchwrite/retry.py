"""How often, and how soon, a flush that was undone by the weather is tried again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity

from batchwrite.errors import ConfigurationError
from batchwrite.faults import FlushFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchwrite.faults import Fault

Result = TypeVar("Result")

_log = logging.getLogger("batchwrite")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to replay a chunk whose transaction is known to be undone, and may succeed the next time.

    Attributes:
        attempts: Most attempts, the first included; 1 for no retry.
        first_wait: Longest wait before the second attempt, in seconds; it doubles from attempt to attempt. The wait
            itself is drawn at random from nothing to that, so that writers that collided do not do so again.
        longest_wait: Bound of any wait, in seconds.
        total_seconds: No attempt is begun so long after the first; `None` for no such bound.
    """

    attempts: int = 5
    first_wait: float = 0.2
    longest_wait: float = 5.0
    total_seconds: float | None = None

    def __post_init__(self) -> None:
        is_whole = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        are_numbers = all(isinstance(wait, (int, float)) for wait in (self.first_wait, self.longest_wait))
        if not (is_whole and are_numbers and self.attempts >= 1 and self.first_wait >= 0 and self.longest_wait >= 0):
            raise ConfigurationError("a retry policy needs at least 1 attempt, and waits of 0 or more seconds")
        is_number = isinstance(self.total_seconds, (int, float)) and not isinstance(self.total_seconds, bool)
        if self.total_seconds is not None and not (is_number and self.total_seconds > 0):
            raise ConfigurationError("the seconds in total of a retry policy must be above 0, or None")

    def run(
        self,
        attempt: Callable[[], Result],
        is_retriable: Callable[[Fault], bool] | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[Fault, int, float], object] | None = None,
    ) -> Result:
        """Call a function until it succeeds, or this policy gives up.

        Args:
            attempt: Raises `FlushFailed` where it has not succeeded.
            is_retriable: Whether it may be called again after a fault; default `Fault.is_retriable`.
            sleep: Waits so many seconds.
            on_retry: Called before a wait with the fault, the number of the attempt, from 1, and the seconds.

        Raises:
            FlushFailed: The last one.
        """
        may_retry = is_retriable or attrgetter("is_retriable")
        try:
            return attempt()
        except FlushFailed as error:
            if self.attempts == 1 or not may_retry(error.fault):
                raise
            failed = [error]

        # Tenacity is called in only now: its records of calls are cycles, which would keep every chunk in memory
        # until the garbage collector finds it.
        def again() -> Result:
            if failed:
                raise failed.pop()
            return attempt()

        return self._retrying(may_retry, sleep, partial(_note, on_retry))(again)

    def _retrying(
        self,
        may_retry: Callable[[Fault], bool],
        sleep: Callable[[float], None],
        note: Callable[[tenacity.RetryCallState], None],
    ) -> tenacity.Retrying:
        stop: Any = tenacity.stop_after_attempt(self.attempts)
        if self.total_seconds is not None:
            stop |= tenacity.stop_before_delay(self.total_seconds)
        return tenacity.Retrying(
            sleep=sleep,
            stop=stop,
            wait=tenacity.wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, FlushFailed) and may_retry(error.fault)),
            before_sleep=note,
            reraise=True,
        )


def _note(on_retry: Callable[[Fault, int, float], object] | None, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, FlushFailed):
        _log.warning(
            "a chunk's transaction was undone (%s) and is tried again: attempt %d failed",
            error.fault.message,
            state.attempt_number,
            extra={"action": "retry", "kind": str(error.fault.kind), "sqlstate": error.fault.sqlstate},
        )
        if on_retry is not None:
            on_retry(error.fault, state.attempt_number, state.upcoming_sleep)
