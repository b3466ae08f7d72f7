"""How the plain code of a run is awaited: in a greenlet, in a task of its own, which a cancellation reaches in time."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn

from batchwrite.errors import ConfigurationError, RunInterrupted
from batchwrite.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batchwrite.engine import Run
    from batchwrite.result import BatchResult

Value = TypeVar("Value")


class RunCancelled(asyncio.CancelledError):
    """The task that waited for a run was cancelled; an `asyncio.CancelledError`, so that it ends the task.

    In Python 3.11, whose `asyncio.timeout` knows no subclasses, an `asyncio.CancelledError` with the attribute `result`
    is raised in its place: catch that one, and look at its `result`, where 3.11 is to be served, too.

    Attributes:
        result: What was written before; items received but not yet flushed are counted as unattempted.
    """

    def __init__(self, message: str, *, result: BatchResult) -> None:
        super().__init__(message)
        self.result = result


def cancelled(message: str, result: BatchResult) -> asyncio.CancelledError:
    """A `RunCancelled`; in Python 3.11 (see there) the class that it is derived from, with a result."""
    if sys.version_info >= (3, 12):
        return RunCancelled(message, result=result)
    error = asyncio.CancelledError(message)
    error.result = result  # type: ignore[attr-defined]  # which is why there is a subclass
    return error


class Cancelled(KeyboardInterrupt):
    """Whoever waits has been cancelled: to the run, what a Ctrl-C is."""


class Guard:
    """Runs plain code in a task of its own, so that a cancellation of who waits can be held back.

    While a chunk is flushed the first one waits for the end of it; a second one comes through at once.

    Attributes:
        asked: How often who waits was cancelled.
        guarded: The run.
        host: How the run waits.
        task: In which the code runs.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.task: asyncio.Task[Any] | None = None
        self.guarded: Run | None = None
        self._is_deferring = False
        self.host = Host(deferred=self._deferred, sleep=_sleep, breathe=self._breathe, has_threads=False)

    async def run(self, function: Callable[..., Value], *arguments: object) -> Value:
        """What a function gives that awaits by `await_only`; raises what it raises.

        Raises:
            RunCancelled: Whoever waits was cancelled.
        """
        try:
            value = await self._outcome(function, arguments)
        except RunInterrupted as error:
            if self.asked:
                raise cancelled(str(error), error.result) from None
            raise
        except (asyncio.CancelledError, Cancelled):
            if self.asked:
                raise self._cancelled() from None
            raise
        if self.asked:
            raise self._cancelled()
        return value

    def _cancelled(self) -> asyncio.CancelledError:
        if self.guarded is None:
            return asyncio.CancelledError()
        return cancelled("the task was cancelled", self.guarded.result())

    async def _outcome(self, function: Callable[..., Value], arguments: Iterable[object]) -> Value:
        task = self.task = asyncio.create_task(_outcome_of(function, arguments))
        while True:
            try:
                value, error = await asyncio.shield(task)
                break
            except asyncio.CancelledError:
                if task.done():
                    raise
                self.asked += 1
                if self.asked > 1 or not self._is_deferring:
                    task.cancel()
        if error is not None:
            raise error
        outcome: Value = value
        return outcome

    @contextmanager
    def _deferred(self) -> Iterator[None]:
        before, self._is_deferring = self._is_deferring, True
        try:
            yield
        finally:
            self._is_deferring = before
        if self.asked and not before:
            raise Cancelled

    def result(self) -> BatchResult:
        """The run's result so far."""
        if self.guarded is None:
            raise ConfigurationError("there is no result yet: nothing has been read")
        return self.guarded.result()

    def _breathe(self) -> None:
        self.wait_for(asyncio.sleep(0))

    def wait_for(self, awaitable: Any) -> Any:
        """What an awaitable gives.

        Raises:
            Cancelled: Whoever waits was cancelled meanwhile.
        """
        try:
            return await_only(awaitable)
        except asyncio.CancelledError:
            if self.asked:
                raise Cancelled from None
            raise


async def _outcome_of(function: Callable[..., Value], arguments: Iterable[object]) -> tuple[Any, BaseException | None]:
    """What a function gives or, of what must not end the event loop, raises."""
    try:
        return await greenlet_spawn(function, *arguments), None
    except KeyboardInterrupt as error:
        return None, error


def _sleep(seconds: float) -> None:
    await_only(asyncio.sleep(seconds))
