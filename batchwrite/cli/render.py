"""What a person sees of a run: progress on stderr, a summary on stdout. Shared by the commands."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from batchwrite.result import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchwrite.result import BatchResult, EarlierStarts, FailureReason, ItemFailure

_SHOWN_REASONS = 20
_SECONDS_BETWEEN_UPDATES = 0.1
_STYLES = {Status.SUCCESS: "bold green", Status.PARTIAL_SUCCESS: "bold yellow"}


class Tick(Protocol):
    """Told how far a run has come; cheap enough to be called for every item."""

    def __call__(self, items: int, failed: int, /) -> None:
        """Show that so many items are decided, and so many of them failed."""


@contextmanager
def progress(
    description: str,
    *,
    noun: str = "lines",
    total: float | None = None,
    position: Callable[[], float] | None = None,
    console: Console | None = None,
) -> Iterator[Tick]:
    """Show a bar on stderr while the block lasts, if that is a terminal; else nothing.

    Args:
        description: What is going on.
        noun: What the items are.
        total: Where the bar ends, in items or in what `position` counts; unknown by default.
        position: How far along the bar is, where that is not the number of items.
        console: Where to show it; stderr by default.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda _items, _failed: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(show_speed=False) if position else MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, note="")
        shown = time.monotonic()

        def tick(items: int, failed: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= _SECONDS_BETWEEN_UPDATES:
                shown = now
                note = f"{items:,} {noun}" + (f", {failed:,} failed" if failed else "")
                bar.update(task, completed=position() if position else items, note=note)

        yield tick


def print_summary(
    result: BatchResult,
    console: Console,
    *,
    target: str,
    noun: str = "lines",
    place: Callable[[ItemFailure], str] | None = None,
) -> None:
    """Print what landed, how fast, what failed and why, with an example of each reason.

    Args:
        result: The result.
        console: Where to print.
        target: What was written to.
        noun: What the items are.
        place: Where a failure is in the input; by default the position of its item.
    """

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style), soft_wrap=True)

    status = str(result.status).replace("_", " ")
    speed = f"{result.seconds:,.1f} s ({rate(result):,.0f} {noun}/s)"
    headline = f"{status}: {result.written:,} of {result.received:,} {noun} written into {target} in {speed}"
    line(headline, _STYLES.get(result.status, "bold red"))
    for label, count in _counts(result):
        line(f"  {label:<14}{count:>12,}")
    if result.abort is not None:
        line(f"stopped early: {result.abort.message}")
    for heading, told in (("failed because:", result), ("failed in earlier starts because:", result.earlier)):
        if told.failure_counts:
            line(heading)
            for text in _reason_lines(told, place or _index):
                line(f"  {text}")


def rate(result: BatchResult) -> float:
    """Items written a second."""
    return result.written / result.seconds if result.seconds else 0.0


def write_stdout(text: str) -> None:
    """Write to stdout, whoever listens: a pipe that was closed is no error, and what it cannot encode is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer would raise once more when the interpreter closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _counts(result: BatchResult) -> Iterator[tuple[str, int]]:
    """Every count that says more than the headline."""
    if result.status is not Status.SUCCESS or result.skipped:
        yield "written", result.written
        yield "failed", result.failed
    if result.skipped:
        yield "skipped", result.skipped
    if result.unattempted or result.abort is not None:
        yield "not attempted", result.unattempted
    if result.unknown:
        yield "unknown", result.unknown


def _reason_lines(result: BatchResult | EarlierStarts, place: Callable[[ItemFailure], str]) -> Iterator[str]:
    """The reasons, the commonest first, each with the place of a failure of its kind, as far as one was kept."""
    examples: dict[FailureReason, ItemFailure] = {}
    for failure in result.failures:
        examples.setdefault(failure.reason, failure)
    reasons = sorted(result.failure_counts.items(), key=lambda pair: -pair[1])
    for reason, count in reasons[:_SHOWN_REASONS]:
        example = f", first in {place(examples[reason])}" if reason in examples else ""
        yield f"{count:,} x {reason}{example}"
    if len(reasons) > _SHOWN_REASONS:
        others = sum(count for _, count in reasons[_SHOWN_REASONS:])
        yield f"{others:,} x for {len(reasons) - _SHOWN_REASONS:,} other reasons"


def _index(failure: ItemFailure) -> str:
    return f"item {failure.index:,}"
