"""The figures that this library has to show, and whether a bench shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchwrite.bench import growth, ours, retail, sqlite, updates
from batchwrite.bench.peers import COMMIT, CORE, ORM_ADD_ALL, SAVEPOINT
from batchwrite.bench.workloads import CHUNK_FAR_AWAY, CLEAN, COLLECT, bad_rows_name, latency_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchwrite.bench.timing import Compared, Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure that is wanted, and what was found.

    Attributes:
        name: What it is.
        aim: The bound.
        is_upper: Whether the bound is the most, and not the least, that will do.
        unit: What is counted: `x` for a ratio, `s`, `us` or `MB`.
        measured: What was found; `None` where it was not measured.
        note: Why not, or what was smaller than it should be.
    """

    name: str
    aim: float
    unit: str
    is_upper: bool = False
    measured: float | None = None
    note: str = ""

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'at most' if self.is_upper else 'at least'} {self.aim:g} {self.unit}"

    @property
    def is_reached(self) -> bool | None:
        """Whether the bound is kept; `None` where it was not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.aim if self.is_upper else self.measured >= self.aim


_RETAIL = "the Online Retail file into four tables, of psycopg COPY"


class _Found:
    """Everything that was measured, by comparison and contender."""

    def __init__(self, compared: Sequence[Compared]) -> None:
        self._by_name = {each.name: each for each in compared}

    def of(self, comparison: str, contender: str = ours.NAME) -> Measurement | None:
        found = self._by_name.get(comparison)
        return found.of(contender) if found else None

    def times(self, comparison: str, mine: str, other: str) -> float | None:
        """How many times as fast one is as the other, by rows a second."""
        first, second = self.of(comparison, mine), self.of(comparison, other)
        return first.rate / second.rate if first and second else None

    def of_copy(self, comparison: str, contender: str = ours.NAME) -> float | None:
        """Speed relative to the baseline."""
        measurement = self.of(comparison, contender)
        return measurement.ratio if measurement else None

    def seconds(self, comparison: str) -> float | None:
        measurement = self.of(comparison)
        return measurement.median if measurement else None

    def microseconds(self, comparison: str) -> float | None:
        measurement = self.of(comparison)
        return 1e6 / measurement.rate if measurement else None

    def growth(self) -> float | None:
        """Megabytes that the largest number of rows takes more than 100,000 do."""
        small, large = (self.of(growth.name(size)) for size in (100_000, growth.SIZES[-1]))
        return large.extras[growth.PEAK] - small.extras[growth.PEAK] if small and large else None


def figures(compared: Sequence[Compared]) -> list[Figure]:
    """All that is wanted, with what was found."""
    found = _Found(compared)
    far = latency_name(0.01)
    percent_1, percent_10, percent_50 = map(bad_rows_name, (0.01, 0.1, 0.5))
    times, of_copy, mine = found.times, found.of_copy, ours.NAME
    lines = found.of(retail.NAME)
    part = f"{lines.rows:,} lines" if lines and lines.rows < retail.LANDING else ""
    wanted: list[tuple[str, float, str, float | None]] = [
        ("clean rows, of psycopg COPY", 0.85, "x", of_copy(CLEAN)),
        ("clean rows with workers=4, of psycopg COPY", 1.0, "x", of_copy(CLEAN, ours.NAME_WITH_WORKERS)),
        ("workers=4 by workers=1, 10 ms one way", 3, "x", times(far, ours.NAME_WITH_WORKERS, mine)),
        (f"clean rows by {CORE.name}", 5, "x", times(CLEAN, mine, CORE.name)),
        (f"clean rows by {ORM_ADD_ALL.name}", 25, "x", times(CLEAN, mine, ORM_ADD_ALL.name)),
        (f"clean rows by {COMMIT.name}", 60, "x", times(CLEAN, mine, COMMIT.name)),
        ("1 % bad rows, of psycopg COPY of the good ones", 0.3, "x", of_copy(percent_1)),
        ("1 % bad rows by a savepoint a row", 20, "x", times(percent_1, mine, SAVEPOINT.name)),
        ("10 % bad rows, of psycopg COPY of the good ones", 0.2, "x", of_copy(percent_10)),
        ("50 % bad rows by a savepoint a row", 10, "x", times(percent_50, mine, SAVEPOINT.name)),
        (
            "100,000 increments of 1,000 keys by executemany UPDATE",
            20,
            "x",
            times(updates.name(1_000), mine, updates.EXECUTEMANY),
        ),
        (_RETAIL, 0.1, "x", of_copy(retail.NAME)),
        ("SQLite, clean rows, of sqlite3.executemany", 0.6, "x", of_copy(sqlite.PLAIN)),
        ("SQLite with Decimal and datetime, likewise", 0.6, "x", of_copy(sqlite.CONVERTED)),
    ]
    at_most: list[tuple[str, float, str, float | None]] = [
        ("a chunk of 500 rows, 50 bad, 10 ms one way", 0.2, "s", found.seconds(CHUNK_FAR_AWAY)),
        ("10 million rows streamed, peak memory over 100,000's", 20, "MB", found.growth()),
        ("map, collect and result, an item", 1.5, "us", found.microseconds(COLLECT)),
    ]
    return [
        Figure(
            name=name,
            aim=aim,
            unit=unit,
            is_upper=rows is at_most,
            measured=measured,
            note=part if name == _RETAIL else "",
        )
        for rows in (wanted, at_most)
        for name, aim, unit, measured in rows
    ]
