"""`batchwrite bench`: this library beside its peers, on this machine."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from batchwrite.bench.report import FIGURE_COLUMNS, Report, columns, figure_lines, lines
from batchwrite.bench.runner import run
from batchwrite.bench.task import QUICK_ROWS, QUICK_RUNS, ROWS, RUNS, Settings
from batchwrite.bench.workloads import WORKLOADS
from batchwrite.cli.errors import CommandError, WrongUsage, ending_with
from batchwrite.cli.render import write_stdout
from batchwrite.errors import ConfigurationError
from batchwrite.faults import classify, secrets_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batchwrite.bench.timing import Say

_RETAIL_FILE = "online_retail.csv.xz"
_DATA_VARIABLE = "BATCHWRITE_SHARED_DATA"
_WIDTH = 120
_OUTPUT = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command(short_help="Compare the speed with other libraries'.")
@click.option(
    "--database",
    "url",
    metavar="URL",
    help="Where to measure: PostgreSQL, in a schema of its own that is dropped at the end, or SQLite, where only what "
    "is about SQLite is measured.  [default: a PostgreSQL server that is started for the bench, and a SQLite file]",
)
@click.option("--quick", is_flag=True, help="Be done in two minutes on two cores.  [default: about half an hour]")
@click.option(
    "--workload",
    "names",
    metavar="NAME",
    multiple=True,
    type=click.Choice([workload.name for workload in WORKLOADS]),
    help="Measure NAME alone; may be repeated.  [default: every workload]",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    help=f"Runs of each; of what takes long, fewer.  [default: {RUNS}, {QUICK_RUNS} with --quick]",
)
@click.option(
    "--rows",
    type=click.IntRange(min=10),
    help=f"Rows of a workload; slow peers get a share of them.  [default: {ROWS:,}, {QUICK_ROWS:,} with --quick]",
)
@click.option(
    "--retail-file",
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"The Online Retail file.  [default: {_RETAIL_FILE} in the directory that {_DATA_VARIABLE} names, else the "
    "sample in the package]",
)
@click.option("--json", "json_file", metavar="PATH", type=_OUTPUT, help="Write all figures to PATH, as JSON.")
@click.option("--plot", "plot_file", metavar="PATH", type=_OUTPUT, help="Draw them into PATH, a PNG file.")
@click.option("--markdown", "markdown_file", metavar="PATH", type=_OUTPUT, help="Write them to PATH, as a page.")
@click.option("--list", "only_list", is_flag=True, help="Say what the workloads are, and measure nothing.")
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> None:
    """Write the same rows with batchwrite and with its peers, in turn, and compare.

    The peers come with the extra `bench`; one that is not installed is left out. Each is checked to have really
    written the rows.

    Exit status: 0 measured, 1 something failed while it was measured, 2 wrong usage.
    """
    if options["only_list"]:
        write_stdout("".join(f"{workload.name:<8} {workload.title}\n" for workload in WORKLOADS))
        return
    if options["plot_file"]:
        _require_matplotlib()
    report = _measure(options)
    _print(report)
    _save(report, options)
    for failure in report.failures:
        click.echo(f"failed: {failure}", err=True)
    context.exit(1 if report.failures else 0)


def _measure(options: dict[str, Any]) -> Report:
    quick, names, url = options["quick"], options["names"], options["url"]
    settings = Settings(
        rows=options["rows"] or (QUICK_ROWS if quick else ROWS),
        runs=options["runs"] or (QUICK_RUNS if quick else RUNS),
        quick=quick,
        retail_file=options["retail_file"] or _shared_retail_file(),
    )
    chosen = [workload for workload in WORKLOADS if not names or workload.name in names]
    with ending_with(WrongUsage, ConfigurationError), _telling() as say:
        try:
            return run(chosen, settings, url, say)
        except (SQLAlchemyError, OSError) as error:
            secrets = secrets_in(make_url(url)) if url else ()
            raise CommandError(f"cannot measure: {classify(error, scrub=secrets).message}") from error


def _shared_retail_file() -> Path | None:
    path = Path(os.environ.get(_DATA_VARIABLE) or ".", _RETAIL_FILE)
    return path if _DATA_VARIABLE in os.environ and path.is_file() else None


def _require_matplotlib() -> None:
    """Before hours of measuring, not after."""
    if find_spec("matplotlib") is None:
        raise WrongUsage('--plot needs matplotlib: pip install "batchwrite[bench]"')


@contextmanager
def _telling() -> Iterator[Say]:
    """Say on stderr what is going on: on a terminal all of it, in one line; else a line for each comparison."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(Text(text))
        return
    told = ""

    def say(text: str) -> None:
        nonlocal told
        subject = text.partition(":")[0]
        if subject != told:
            told = subject
            click.echo(subject, err=True)

    yield say


def _print(report: Report) -> None:
    # Wide enough for every name where it goes to a file or another program.
    console = Console(width=None if Console().is_terminal else _WIDTH)
    with console.capture() as captured:
        for label, value in (*report.machine.lines(), ("databases", ", ".join(report.databases))):
            console.print(Text(f"{label:<10} {value}"), soft_wrap=True)
        for compared in report.compared:
            console.print(_table(columns(compared), lines(compared)))
        console.print(_table(FIGURE_COLUMNS, figure_lines(report.figures)))
    write_stdout(captured.get())


def _table(heading: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for number, name in enumerate(heading):
        table.add_column(Text(name), justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _save(report: Report, options: dict[str, Any]) -> None:
    with ending_with(CommandError, OSError):
        if options["json_file"]:
            document = json.dumps(report.to_dict(), indent=2)
            options["json_file"].write_text(document + "\n", encoding="utf-8")
        if options["markdown_file"]:
            options["markdown_file"].write_text(report.to_markdown(), encoding="utf-8")
        if options["plot_file"]:
            from batchwrite.bench.plot import draw  # noqa: PLC0415 - matplotlib is an extra of its own

            draw(report, options["plot_file"])
