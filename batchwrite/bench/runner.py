"""A bench from beginning to end."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL

from batchwrite.bench.machine import this_machine
from batchwrite.bench.must_show import figures
from batchwrite.bench.place import opened_place
from batchwrite.bench.report import Report
from batchwrite.bench.server import throwaway_server
from batchwrite.bench.steady import directory_in_memory, on_one_core
from batchwrite.bench.task import Bench
from batchwrite.bench.timing import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchwrite.bench.place import Place
    from batchwrite.bench.task import Settings
    from batchwrite.bench.timing import Compared, Say
    from batchwrite.bench.workloads import Workload


def run(workloads: Sequence[Workload], settings: Settings, url: str | None, say: Say) -> Report:
    """Measure workloads.

    Args:
        workloads: Which.
        settings: How much.
        url: The database, PostgreSQL or SQLite; by default a server of the bench's own, and a file of its own for
            what is about SQLite. On a SQLite database only what is about SQLite is measured.
        say: Told what is going on.

    Raises:
        ConfigurationError: There is no database to measure on.
        SQLAlchemyError: The database cannot be used.
    """
    begin = time.monotonic()
    compared: list[Compared] = []
    with ExitStack() as stack:
        if settings.is_steady:
            stack.enter_context(on_one_core())
        places = _Places(url, stack, say, is_steady=settings.is_steady)
        for workload in places.possible(workloads):
            place = places.sqlite() if workload.on_sqlite else places.main()
            bench = Bench(place=place, settings=settings)
            with closing(workload.comparisons(bench)) as comparisons:
                compared += [compare(workload.name, each, settings.runs, say) for each in comparisons]
        databases = [place.version() for place in places.used]
    return Report(
        machine=this_machine(),
        databases=databases,
        settings=settings,
        compared=compared,
        figures=figures(compared),
        seconds=time.monotonic() - begin,
    )


class _Places:
    """Opens databases when they are first needed; they are closed with the stack."""

    def __init__(self, url: str | None, stack: ExitStack, say: Say, *, is_steady: bool) -> None:
        self._url = url
        self._stack = stack
        self._say = say
        self._is_steady = is_steady
        self._main: Place | None = None
        self._sqlite: Place | None = None

    @property
    def used(self) -> list[Place]:
        """Those that have been opened."""
        return list(dict.fromkeys(place for place in (self._main, self._sqlite) if place))

    def possible(self, workloads: Sequence[Workload]) -> Sequence[Workload]:
        """The workloads that can be measured on the database that was named."""
        if self._url is None or self.main().is_postgresql:
            return workloads
        return [workload for workload in workloads if workload.on_sqlite]

    def main(self) -> Place:
        """The database that was named, or else a server of the bench's own."""
        if self._main is None:
            url: str | URL | None = self._url
            if url is None:
                self._say("starting a PostgreSQL server")
                url = self._stack.enter_context(throwaway_server(is_steady=self._is_steady))
            self._main = self._stack.enter_context(opened_place(url))
        return self._main

    def sqlite(self) -> Place:
        """The database that was named, if it is SQLite, or else a file of the bench's own."""
        if self._url is not None and not self.main().is_postgresql:
            return self.main()
        if self._sqlite is None:
            parent = directory_in_memory() if self._is_steady else None
            directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bw-bench-", dir=parent))
            url = URL.create("sqlite", database=str(Path(directory, "bench.db")))
            self._sqlite = self._stack.enter_context(opened_place(url))
        return self._sqlite
