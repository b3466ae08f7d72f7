"""Errors that a person can act on: one line on stderr and an exit status, never a traceback."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTIAL_SUCCESS = 3
"""Exit status of a run that came to its end with some items failed."""


class CommandError(click.ClickException):
    """Ends the command with one line on stderr and exit status 1: nothing landed, or the run ended early.

    Args:
        message: What is wrong and what to do; line ends in it become blanks.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class WrongUsage(CommandError):
    """Likewise with exit status 2: the command cannot be carried out as it was given, and nothing was tried."""

    exit_code = 2


@contextmanager
def ending_with(outcome: type[CommandError], *kinds: type[Exception]) -> Iterator[None]:
    """End the command where the block raises one of the kinds, whose texts must be fit to be shown.

    Raises:
        CommandError: With the exception's text.
    """
    try:
        yield
    except kinds as error:
        raise outcome(str(error)) from error
