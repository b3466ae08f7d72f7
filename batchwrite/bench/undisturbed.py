"""How long a write would have taken if nobody else had used the core: Linux counts what is needed to know that.

On a single core (`steady.on_one_core`), the time that passes is made of what the bench computes, what its server
computes, what both wait for a core that is busy, and the rest, in which nobody has anything to do: somebody sleeps, or
waits for a disk. The waiting for a core is left out here, since it is mostly for those who have nothing to do with it;
sleeping counts. What the two of them wait for each other is left out as well, so that the rest may be told too short,
but never too long.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchwrite.bench.timing import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from batchwrite.bench.timing import Comparison, Write

_PROCESSES = Path("/proc")
_NANOSECOND = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds since some moment.

    Attributes:
        passed: By the clock.
        computed: By the bench and its server.
        queued: That they were ready to go on, and had to wait for a core.
    """

    passed: float
    computed: float
    queued: float

    def since(self, before: Spent) -> Spent:
        """What was spent between the two."""
        return Spent(
            passed=self.passed - before.passed,
            computed=self.computed - before.computed,
            queued=self.queued - before.queued,
        )

    @property
    def undisturbed(self) -> float:
        """What would have passed if nobody else had used the core."""
        return self.computed + max(0.0, self.passed - self.computed - self.queued)


def undisturbed(comparison: Comparison, server: int | None) -> Comparison:
    """The comparison with times that leave out what others have used of the core, where Linux tells.

    Args:
        comparison: The comparison.
        server: The process of the server that is written to, if there is one.
    """
    if not _queue(_PROCESSES / "self"):
        return comparison
    timed = partial(_timing_itself, lambda: _spent(server))
    return replace(
        comparison,
        contenders=[replace(each, opened=partial(timed, each.opened)) for each in comparison.contenders],
    )


@contextmanager
def _timing_itself(spent: Callable[[], Spent], opened: Callable[[], AbstractContextManager[Write]]) -> Iterator[Write]:
    with opened() as write:

        def timed_write() -> Measured:
            before = spent()
            write()
            return Measured(seconds=spent().since(before).undisturbed, extras={})

        yield timed_write


def _spent(server: int | None) -> Spent:
    mine = list(_queue(_PROCESSES / "self"))
    theirs = [] if server is None else [each for process in _family(server) for each in _queue(process)]
    return Spent(
        passed=time.perf_counter(),
        # Not the sum of the threads', of which some may have ended.
        computed=time.process_time() + sum(computed for computed, _ in theirs) * _NANOSECOND,
        queued=sum(queued for _, queued in (*mine, *theirs)) * _NANOSECOND,
    )


def _family(process: int) -> Iterable[Path]:
    """A process and its children, which for PostgreSQL are all there are."""
    try:
        children = (_PROCESSES / str(process) / "task" / str(process) / "children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    return [_PROCESSES / each for each in (str(process), *children)]


def _queue(process: Path) -> list[tuple[int, int]]:
    """For each thread of a process, the nanoseconds that it has computed, and those that it has waited for a core."""
    found = []
    for thread in process.glob("task/*/schedstat"):
        try:
            computed, queued, _ = thread.read_text(encoding="ascii").split()
        except (OSError, ValueError):  # it has ended
            continue
        found.append((int(computed), int(queued)))
    return found
