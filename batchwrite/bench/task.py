"""What contenders share: the size of a bench, where it writes, and the rows that are to land there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwrite.bench.tables import Fingerprint, check, make_anew
from batchwrite.bench.timing import Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import MetaData, Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row
    from batchwrite.bench.timing import Write

QUICK_ROWS, QUICK_RUNS = 15_000, 3
ROWS, RUNS = 100_000, 5
_MOST_LONG_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is measured.

    Attributes:
        rows: Rows of a workload; slow contenders get a share of them.
        runs: Rounds of each comparison.
        quick: Whether to leave out what takes long.
        retail_file: The Online Retail file; the sample in the package by default.
        is_steady: Whether figures are to depend on the contenders alone, as far as can be: see `bench.steady`.
    """

    rows: int = ROWS
    runs: int = RUNS
    quick: bool = False
    retail_file: Path | None = None
    is_steady: bool = False

    @property
    def fewer_runs(self) -> int:
        """Rounds of comparisons that take long, or that fewer of the figures depend on."""
        return 1 if self.quick else min(self.runs, _MOST_LONG_RUNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A place, and how much to write there."""

    place: Place
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Rows that are to land, whoever writes them.

    Attributes:
        place: Where.
        rows: How many.
        fresh: Makes the tables anew.
        check: Raises where not all have landed, and only these.
        counters: What is to be counted meanwhile.
    """

    place: Place
    rows: int
    fresh: Callable[[], None]
    check: Callable[[], None]
    counters: Mapping[str, Callable[[], int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        place: Place,
        metadata: MetaData,
        landing: Mapping[Table, list[Row]],
        counters: Mapping[str, Callable[[], int]] | None = None,
    ) -> Task:
        """The task of landing exactly these rows in these tables."""
        expected = {table: Fingerprint.of_rows(table, rows) for table, rows in landing.items()}
        return cls(
            place=place,
            rows=sum(map(len, landing.values())),
            fresh=partial(make_anew, place, metadata),
            check=partial(check, place, expected),
            counters=counters or {},
        )

    def contender(self, name: str, opened: Callable[[], AbstractContextManager[Write]], **more: Any) -> Contender:
        """A contender for it."""
        return Contender(
            name=name,
            rows=self.rows,
            opened=opened,
            fresh=self.fresh,
            check=self.check,
            counters=self.counters,
            **more,
        )
