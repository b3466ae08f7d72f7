"""How far a run has come, shown in a terminal by rich. Needs the extra `cli`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchwrite.listeners import Listener

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "rich":
        raise
    raise ImportError(
        'batchwrite.integrations.progress needs rich: pip install "batchwrite[cli]"', name=error.name
    ) from error

if TYPE_CHECKING:
    from typing import Self

    from rich.progress import Task

    from batchwrite.listeners import ChunkDetails

# More lines than this do not fit into most terminals, and runs that have ended are of interest for a while only.
_MOST_RUNS = 10


class CountsColumn(ProgressColumn):
    """The counts and the speed of a run; nothing for tasks that are none."""

    def render(self, task: Task) -> Text:
        """The column of one task."""
        return Text(str(task.fields.get("counts", "")))


class RichProgressListener(Listener):
    """Shows a line for each run: items written and failed, and how many a second; moves on whenever a chunk ends.

    Use it as a context manager around the runs, or give it a `Progress` that is shown and closed elsewhere; with
    columns of its own, that has the counts in `CountsColumn()`. A writer may be used for many runs, one after the other
    or at once: the ten that moved last are shown.

    Args:
        description: What is going on.
        total: Number of items of each run, where it is known; items of earlier starts of a run not included.
        progress: Where to show it; default one of its own on stderr.
    """

    def __init__(
        self, description: str = "writing", *, total: int | None = None, progress: Progress | None = None
    ) -> None:
        self._description = description
        self._total = total
        self._is_own = progress is None
        self._progress = _on_stderr() if progress is None else progress
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._is_own:
            self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._lock:
            for run in self._runs.values():
                self._end(run)
        if self._is_own:
            self._progress.stop()

    def on_chunk(self, chunk: ChunkDetails, /) -> None:
        """Show what its run has come to."""
        with self._lock:
            run = self._runs.pop(chunk.run_id, None) or self._begin(chunk.seconds)
            self._runs[chunk.run_id] = run  # behind those that have not moved since
            run.count(chunk)
            self._progress.update(run.task.id, completed=run.decided, counts=run.counts)

    def _begin(self, seconds: float) -> _Run:
        """A line for a run that has begun so many seconds ago, in place of the one that has not moved for longest."""
        while len(self._runs) >= _MOST_RUNS:
            self._progress.remove_task(self._runs.pop(next(iter(self._runs))).task.id)
        name = self._progress.add_task(self._description, total=self._total, counts="")
        task = next(task for task in self._progress.tasks if task.id == name)
        task.start_time = self._progress.get_time() - seconds  # a run is heard of when its first chunk has ended
        return _Run(task)

    def _end(self, run: _Run) -> None:
        """Stop the clock, and the bar too where nobody knew how long it would be."""
        self._progress.stop_task(run.task.id)
        if run.task.total is None:
            self._progress.update(run.task.id, total=run.decided)


@dataclass(slots=True)
class _Run:
    """What a run has come to.

    Attributes:
        task: Its line.
        written: Number of items written.
        failed: Number of those that have failed.
        decided: Number of all whose fate is decided; those put off or not attempted are not.
    """

    task: Task
    written: int = 0
    failed: int = 0
    decided: int = 0

    def count(self, chunk: ChunkDetails) -> None:
        """Count the items of a chunk."""
        self.written += chunk.written
        self.failed += chunk.failed
        self.decided += chunk.written + chunk.failed + chunk.skipped + chunk.unknown

    @property
    def counts(self) -> str:
        """The counts in words."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        seconds = self.task.elapsed
        speed = f", {self.written / seconds:,.0f}/s" if seconds else ""
        return f"{self.written:,} written{failed}{speed}"


def _on_stderr() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        CountsColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
