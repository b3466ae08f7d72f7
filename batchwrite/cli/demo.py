"""`batchwrite demo`: a real sample into a database, to see what the library does."""

from __future__ import annotations

import io
import json
import lzma
from contextlib import contextmanager
from importlib.resources import files
from typing import IO, TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text
from sqlalchemy import MetaData, func, select

from batchwrite.cli.database import database_errors
from batchwrite.cli.errors import PARTIAL_SUCCESS, CommandError, WrongUsage, ending_with
from batchwrite.cli.render import print_summary, progress, write_stdout
from batchwrite.cli.signals import interruption
from batchwrite.database import create_engine_for
from batchwrite.demo.retail import LineMapper, RetailTables, read_lines
from batchwrite.errors import ConfigurationError
from batchwrite.result import OutcomeStatus, Status
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from batchwrite.result import BatchResult

PREFIX = "batchwrite_demo_"
"""What the names of the demo's tables begin with: it drops and makes anew whatever is called so."""

_DEFAULT_DATABASE = "sqlite:///batchwrite-demo.db"
_SAMPLE = "online_retail_sample.csv.xz"
_SAMPLE_LINES = 6_000
_EXIT_STATUS = {Status.SUCCESS: 0, Status.PARTIAL_SUCCESS: PARTIAL_SUCCESS}


@click.command(short_help="Write a bundled sample of real invoices.")
@click.option(
    "--database",
    "url",
    metavar="URL",
    default=_DEFAULT_DATABASE,
    show_default=True,
    help=f"Where to; tables whose names begin with {PREFIX} are made anew.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.  [default: as text]")
@click.pass_context
def demo(context: click.Context, url: str, *, as_json: bool) -> None:
    """Write 6,000 lines of real invoices into invoices, invoice lines, products and stock.

    Some of the lines are there twice and some are below zero: they fail, and the others land.

    Exit status: 0 all as it should be, failed lines included; 1 failed or ended early, 2 wrong usage.
    """
    with ending_with(WrongUsage, ConfigurationError):
        engine = create_engine_for(url)
    try:
        with database_errors(engine):
            tables = _made_anew(engine)
        result = _write(engine, tables)
        with database_errors(engine):
            held = _count(engine, tables)
    finally:
        engine.dispose()
    if as_json:
        write_stdout(json.dumps(result.to_dict() | {"database": held}) + "\n")
    else:
        _print(result, held, str(engine.url.set(query={})))
    status = _EXIT_STATUS.get(result.status, CommandError.exit_code)
    # Lines of the sample are meant to fail: a demo that shows them has done what it is for.
    context.exit(0 if status == PARTIAL_SUCCESS else status)


def _made_anew(engine: Engine) -> RetailTables:
    metadata = MetaData()
    tables = RetailTables.define(metadata, PREFIX)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return tables


@contextmanager
def _sample() -> Iterator[IO[str]]:
    with (
        files("batchwrite.demo").joinpath(_SAMPLE).open("rb") as packed,
        lzma.open(packed) as unpacked,
        io.TextIOWrapper(unpacked, encoding="utf-8", newline="") as lines,
    ):
        yield lines


def _write(engine: Engine, tables: RetailTables) -> BatchResult:
    failed = 0
    with _sample() as lines, interruption() as interrupted, progress("writing", total=_SAMPLE_LINES) as tick:
        stream = BatchWriter(engine, chunk_size=500).stream(interrupted.watch(read_lines(lines)), LineMapper(tables))
        try:
            for outcome in stream:
                failed += outcome.status is OutcomeStatus.FAILED
                tick(outcome.index + 1, failed)
        except KeyboardInterrupt:
            stream.stop()  # the result says that the run was interrupted
    return stream.result


def _count(engine: Engine, tables: RetailTables) -> dict[str, int]:
    """What the database holds."""
    with engine.connect() as connection:
        counts = {
            name: connection.scalar(select(func.count()).select_from(getattr(tables, name)))
            for name in ("invoices", "invoice_lines", "products", "stock")
        }
        counts["on_hand"] = connection.scalar(select(func.sum(tables.stock.c.on_hand)))
    return {name: int(count or 0) for name, count in counts.items()}


def _print(result: BatchResult, held: dict[str, int], url: str) -> None:
    console = Console()
    with console.capture() as captured:
        print_summary(result, console, target=url)
        landed = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in held.items() if name != "on_hand")
        console.print(Text(f"the database holds {landed}; {held['on_hand']:,} pieces on hand"), soft_wrap=True)
    write_stdout(captured.get())
