"""Timing contenders side by side: a run of each in turn, again and again, so that what else goes on hits all alike.

A timed run has fresh tables and open connections; both are made outside of the timing, and so is the proof afterwards
that the rows have landed.
"""

from __future__ import annotations

import gc
import importlib
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from batchwrite.faults import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

Write: TypeAlias = "Callable[[], object]"
"""What is timed; one that returns `Measured` has timed itself."""

Say: TypeAlias = "Callable[[str], None]"
"""Told what is going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a write measured of itself, as one in a process of its own must."""

    seconds: float
    extras: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Somebody who writes.

    Attributes:
        name: What it is called in tables.
        rows: How many rows are to land.
        opened: Opens its connections for a block, and gives what is timed.
        fresh: Makes the tables anew.
        check: Raises where not all rows have landed, and only these.
        needs: The modules that must be there.
        absent: Why it cannot be measured, if that is known beforehand.
        counters: What is to be counted while it writes, by name; each gives a number that goes up.
    """

    name: str
    rows: int
    opened: Callable[[], AbstractContextManager[Write]]
    fresh: Callable[[], None]
    check: Callable[[], None]
    needs: tuple[str, ...] = ()
    absent: str | None = None
    counters: Mapping[str, Callable[[], int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Contenders for the same rows.

    Attributes:
        name: What is written.
        contenders: Who writes.
        baseline: The name of the one that the others are compared with, if there is one.
        runs: Runs of each, if not as many as usual.
    """

    name: str
    contenders: Sequence[Contender]
    baseline: str | None = None
    runs: int | None = None


Comparisons: TypeAlias = "Generator[Comparison, None, None]"
"""One after the other: what one needs is there until the next is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of a contender.

    Attributes:
        contender: Its name.
        rows: Rows landed in each run.
        seconds: How long each run took.
        ratios: Its rows a second by those of the baseline, round by round; empty where there is no baseline.
        extras: What else was measured, by name, e.g. the round trips.
    """

    contender: str
    rows: int
    seconds: tuple[float, ...]
    ratios: tuple[float, ...] = ()
    extras: Mapping[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Rows a second, of the run in the middle."""
        return self.rows / self.median

    @property
    def ratio(self) -> float | None:
        """Speed relative to the baseline: the middle of all rounds."""
        return statistics.median(self.ratios) if self.ratios else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A contender without a measurement.

    Attributes:
        contender: Its name.
        reason: Why.
        is_failure: Whether it was tried, and failed.
    """

    contender: str
    reason: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came out of a comparison; measurements in the order of the contenders."""

    workload: str
    name: str
    baseline: str | None
    measurements: tuple[Measurement, ...]
    absent: tuple[Absent, ...]

    def of(self, contender: str) -> Measurement | None:
        """The measurement of a contender, if there is one."""
        return next((found for found in self.measurements if found.contender == contender), None)


def compare(workload: str, comparison: Comparison, runs: int, say: Say) -> Compared:
    """Measure the contenders of a comparison, one after the other in each round.

    A contender that fails is left out from then on, and the others go on.

    Args:
        workload: What the comparison belongs to.
        comparison: The comparison.
        runs: Number of rounds, unless the comparison has its own.
        say: Told who is at work.
    """
    absent = {each.name: reason for each in comparison.contenders if (reason := missing(each))}
    taking_part = [each for each in comparison.contenders if each.name not in absent]
    seconds: dict[str, list[float]] = {each.name: [] for each in taking_part}
    extras: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    rounds = comparison.runs or runs
    for number in range(rounds):
        # Another one begins in each round: nobody always follows the same one.
        begin = number % max(1, len(taking_part))
        for each in taking_part[begin:] + taking_part[:begin]:
            if each.name in failed:
                continue
            say(f"{comparison.name}: {each.name}, {each.rows:,} rows, run {number + 1} of {rounds}")
            try:
                taken, extras[each.name] = timed(each)
            except Exception as error:  # noqa: BLE001 - told in the table; one failure must not cost the others
                failed[each.name] = reason_of(error)
            else:
                seconds[each.name].append(taken)
    measured = [each for each in taking_part if each.name not in failed]
    return Compared(
        workload=workload,
        name=comparison.name,
        baseline=comparison.baseline,
        measurements=tuple(_measurements(measured, seconds, extras, comparison.baseline)),
        absent=(
            *(Absent(contender=name, reason=reason) for name, reason in absent.items()),
            *(Absent(contender=name, reason=reason, is_failure=True) for name, reason in failed.items()),
        ),
    )


def missing(contender: Contender) -> str | None:
    """Why a contender cannot be measured here."""
    for module in contender.needs:
        try:
            importlib.import_module(module)
        except ImportError:
            return f"not installed: {module}"
    return contender.absent


def timed(contender: Contender) -> tuple[float, dict[str, float]]:
    """One run: the seconds that it took, and what was counted.

    Raises:
        NotWrittenError: It has not written what it was given.
        Exception: As the contender raised it.
    """
    contender.fresh()
    with contender.opened() as write:
        before = {name: counter() for name, counter in contender.counters.items()}
        with _others_garbage_left_alone():
            begin = time.perf_counter()
            measured = write()
            taken = time.perf_counter() - begin
        counted = {name: float(counter() - before[name]) for name, counter in contender.counters.items()}
    contender.check()
    if isinstance(measured, Measured):
        return measured.seconds, {**counted, **measured.extras}
    return taken, counted


@contextmanager
def _others_garbage_left_alone() -> Iterator[None]:
    """What the bench holds, rows and modules for all, is not the contender's to look through.

    Where the program has frozen something itself, all stays frozen: the one cannot be thawed without the other.
    """
    has_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not has_frozen:
            gc.unfreeze()


def reason_of(error: Exception) -> str:
    """What to say of an exception: no password, and no values where it is the database's."""
    name = type(error).__name__
    message = str(error) if name == "NotWrittenError" else classify(error, has_rows=False).message
    return f"{name}: {' '.join(message.split())}"


def _measurements(
    contenders: Iterable[Contender],
    seconds: Mapping[str, Sequence[float]],
    extras: Mapping[str, Mapping[str, float]],
    baseline: str | None,
) -> Iterable[Measurement]:
    contenders = list(contenders)
    base = next((each for each in contenders if each.name == baseline), None)
    for each in contenders:
        taken = seconds[each.name]
        ratios = (
            tuple(
                (each.rows / mine) / (base.rows / others)
                for mine, others in zip(taken, seconds[base.name], strict=True)
            )
            if base
            else ()
        )
        yield Measurement(
            contender=each.name, rows=each.rows, seconds=tuple(taken), ratios=ratios, extras=extras[each.name]
        )
