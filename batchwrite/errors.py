"""Exceptions: one root, structured attributes, texts without row values or passwords.

Pure: imports nothing but the result it carries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchwrite.result import BatchResult


def text_of(error: BaseException) -> str:
    """The text of an exception, or else its name: one that cannot even be printed must not end a run."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - whatever it is that its own code raises
        return type(error).__name__


class BatchWriteError(Exception):
    """The root of every exception that batchwrite raises (Ctrl-C excepted, see `RunInterrupted`)."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state: keyword-only constructors would otherwise not survive a process boundary."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(BatchWriteError):
    """The writer cannot work as it was set up; nothing was written by the call that raised this."""


class LedgerMismatch(BatchWriteError):
    """A run was started again with an input other than the one that its ledger tells of; nothing was written."""


class ItemRefused(BatchWriteError):
    """An item that cannot be written, with the table and column at fault.

    Raise it in a map function to refuse an item with a text that may be shown: unlike the text of other
    exceptions, which may quote the item's values, this one is kept in `ItemFailure.message`.

    Args:
        message: What is wrong, in words that quote no value of the row.
        table: The table concerned, if one is.
        column: The column concerned, if one is.
        constraint: The constraint concerned, if one is.
    """

    def __init__(
        self, message: str, *, table: str | None = None, column: str | None = None, constraint: str | None = None
    ) -> None:
        super().__init__(message)
        self.table = table
        self.column = column
        self.constraint = constraint


class QueueFull(BatchWriteError):
    """A coalescer holds as many items as it may, and was told not to wait, or had waited long enough.

    The item was not accepted; nothing of it will be written.
    """


class CoalescerClosed(BatchWriteError):
    """A coalescer takes no more items; the one that was submitted will not be written."""


class _ErrorWithResult(BatchWriteError):
    """Raised when there is a result to look at."""

    def __init__(self, message: str, *, result: BatchResult) -> None:
        super().__init__(message)
        self.result = result


class SourceError(_ErrorWithResult):
    """The input could not be read on; the exception that stopped it is the `__cause__`.

    Attributes:
        result: What was written before; items received but not yet flushed are counted as unattempted.
    """


class BatchFailed(_ErrorWithResult):
    """Raised by `BatchResult.raise_for_failures`: some items did not land.

    Attributes:
        result: The whole result; everything it counts as written is committed.
    """


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; a `KeyboardInterrupt`, so that it ends the program unless someone catches it.

    Attributes:
        result: What was written before; items received but not yet flushed are counted as unattempted.
    """

    def __init__(self, message: str, *, result: BatchResult) -> None:
        super().__init__(message)
        self.result = result

    __reduce__ = BatchWriteError.__reduce__
