"""How time and peak memory grow with the number of rows. Each measurement is a process of its own, that streams.

`python -m batchwrite.bench.growth` is such a process: it reads what to write from stdin, and prints what it took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from batchwrite.bench import ours
from batchwrite.bench.peers import connected_engine
from batchwrite.bench.peers_postgresql import COPY, copy_rows, copy_statement, psycopg_connection
from batchwrite.bench.place import SCHEMA, Place
from batchwrite.bench.rows import line_rows
from batchwrite.bench.tables import NotWrittenError, lines_table, make_anew
from batchwrite.bench.task import Task
from batchwrite.bench.timing import Comparison, Measured
from batchwrite.database import create_engine_for
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Table

    from batchwrite.bench.task import Bench
    from batchwrite.bench.timing import Comparisons, Write

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
PEAK = "peak MB"
_LONG = 1_000_000
# Of --rows: 10 million where that is 100,000, and 100,000 in a quick bench.
_MOST, _MOST_QUICK = 100, 7


def name(size: int) -> str:
    """What the comparison with so many rows is called."""
    return f"{size:,} rows streamed"


def comparisons(bench: Bench) -> Comparisons:
    """Rows by the thousand, and ten times as many each time."""
    place, settings = bench.place, bench.settings
    table = lines_table(place, place.metadata())
    most = settings.rows * (_MOST_QUICK if settings.quick else _MOST)
    for size in [size for size in SIZES if size <= max(most, SIZES[0])]:
        task = Task(
            place=place,
            rows=size,
            fresh=partial(make_anew, place, table.metadata),
            check=partial(_check, place, table, size),
        )
        contenders = [task.contender(each, partial(_elsewhere, place, each, size)) for each in (ours.NAME, COPY.name)]
        yield Comparison(
            name=name(size),
            contenders=contenders,
            baseline=COPY.name,
            runs=1 if size >= _LONG else settings.fewer_runs,
        )


def _check(place: Place, table: Table, size: int) -> None:
    with place.engine.connect() as connection:
        found = connection.execute(select(func.count(), func.sum(table.c.id)).select_from(table)).one()
    if tuple(found) != (size, size * (size + 1) // 2):
        raise NotWrittenError(f"{found[0]:,} rows where {size:,} should be, or not the right ones")


@contextmanager
def _elsewhere(place: Place, contender: str, size: int) -> Iterator[Write]:
    order = {"url": place.url.render_as_string(hide_password=False), "contender": contender, "rows": size}

    def write() -> Measured:
        # By stdin, since others can read a command line, and the URL may hold a password.
        done = subprocess.run(
            [sys.executable, "-m", "batchwrite.bench.growth"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise NotWrittenError(f"the process ended with {done.returncode}: {' '.join(last)}")
        found: dict[str, Any] = json.loads(done.stdout)
        return Measured(seconds=found["seconds"], extras={PEAK: found["peak_mb"]})

    yield write


def peak_megabytes() -> float:
    """The most memory that this process has held so far, in MB (10**6 bytes)."""
    try:
        # Of this program alone: what `getrusage` says has come down from the process that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1_024 / 1e6
    except OSError:
        import resource  # noqa: PLC0415 - not everywhere

        unit = 1 if sys.platform == "darwin" else 1_024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _main() -> None:
    order = json.load(sys.stdin)
    engine = create_engine_for(order["url"])
    place = Place(engine=engine, url=engine.url, schema=SCHEMA)
    table = lines_table(place, place.metadata())
    write = _ours if order["contender"] == ours.NAME else _copy
    seconds = write(place, table, order["rows"])
    print(json.dumps({"seconds": seconds, "peak_mb": peak_megabytes()}))  # noqa: T201 - the protocol with the parent


def _ours(place: Place, table: Table, size: int) -> float:
    with connected_engine(place.url) as engine:
        begin = time.perf_counter()
        BatchWriter(engine).run(line_rows(size), lambda row, out: out.insert(table, row))
        return time.perf_counter() - begin


def _copy(place: Place, table: Table, size: int) -> float:
    with psycopg_connection(place) as connection:
        begin = time.perf_counter()
        with connection.transaction():
            copy_rows(connection, copy_statement(table), (tuple(row.values()) for row in line_rows(size)))
        return time.perf_counter() - begin


if __name__ == "__main__":
    _main()
