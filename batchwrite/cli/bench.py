"""`batchwrite bench`: this library beside its peers, on this machine."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from functools import partial
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

from batchwrite.bench import guard as guarded
from batchwrite.bench.baseline import TOLERANCE
from batchwrite.bench.report import FIGURE_COLUMNS, Report, columns, figure_lines, lines
from batchwrite.bench.runner import run
from batchwrite.bench.task import QUICK_ROWS, QUICK_RUNS, ROWS, RUNS, Settings
from batchwrite.bench.workloads import WORKLOADS
from batchwrite.cli import guard
from batchwrite.cli.errors import CommandError, WrongUsage, ending_with
from batchwrite.cli.render import write_stdout
from batchwrite.errors import ConfigurationError
from batchwrite.faults import classify, secrets_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from batchwrite.bench.timing import Say
    from batchwrite.bench.workloads import Workload

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
@click.option(
    "--guard",
    "guard_file",
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Measure what CI guards, in about two minutes, and compare its ratios with those kept in PATH: fail where one "
    f"is more than {TOLERANCE:.0%} lower, and still is when it is measured again.",
)
@click.option(
    "--save-baseline",
    "saved_file",
    metavar="PATH",
    type=_OUTPUT,
    help=f"Measure that {guard.SAVED_TIMES} times, and keep the ratios in the middle in PATH.",
)
@click.option("--list", "only_list", is_flag=True, help="Say what the workloads are, and measure nothing.")
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> None:
    """Write the same rows with batchwrite and with its peers, in turn, and compare.

    The peers come with the extra `bench`; one that is not installed is left out. Each is checked to have really
    written the rows.

    Exit status: 0 measured, 1 something failed while it was measured or has become slower than --guard allows, 2 wrong
    usage.
    """
    if options["only_list"]:
        write_stdout("".join(f"{workload.name:<8} {workload.title}\n" for workload in WORKLOADS))
        return
    if options["guard_file"] or options["saved_file"]:
        _require_no_other_choice(options)
        is_passed = _guard(options) if options["guard_file"] else _save_baseline(options)
        context.exit(0 if is_passed else 1)
    if options["plot_file"]:
        _require_matplotlib()
    report = _measure_workloads(options)
    _print(report)
    _save(report, options)
    context.exit(0 if _has_passed(report) else 1)


def _has_passed(*reports: Report) -> bool:
    """Whether nothing failed; what did is told."""
    failures = [failure for report in reports for failure in report.failures]
    for failure in failures:
        click.echo(f"failed: {failure}", err=True)
    return not failures


def _require_no_other_choice(options: dict[str, Any]) -> None:
    others = {
        "--quick": "quick",
        "--workload": "names",
        "--retail-file": "retail_file",
        "--plot": "plot_file",
        "--markdown": "markdown_file",
    }
    given = [option for option, name in others.items() if options[name]]
    if options["guard_file"] and options["saved_file"]:
        raise WrongUsage("--guard and --save-baseline are two things to do: leave out one of them")
    if given:
        raise WrongUsage(f"what is guarded is always the same: leave out {', '.join(given)}")


def _guard(options: dict[str, Any]) -> bool:
    path = options["guard_file"]
    kept = guard.kept_in(path)
    reports, verdicts = guard.guard(kept, partial(_measure_guarded, options))
    _print_tables(reports[0], [(guard.COLUMNS, guard.lines(verdicts))])
    _save(reports[0], options)
    guard.tell(path, kept, reports[0], verdicts)
    return _has_passed(*reports) and not any(each.is_failure for each in verdicts)


def _save_baseline(options: dict[str, Any]) -> bool:
    report = guard.save_baseline(options["saved_file"], partial(_measure_guarded, options))
    _print_tables(report, ((columns(compared), lines(compared)) for compared in report.compared))
    _save(report, options)
    return _has_passed(report)


def _measure_guarded(options: dict[str, Any], names: Collection[str] | None) -> Report:
    settings = Settings(rows=options["rows"] or guarded.ROWS, runs=options["runs"] or guarded.RUNS, is_steady=True)
    return _measure(guarded.workloads(names), settings, options["url"])


def _measure_workloads(options: dict[str, Any]) -> Report:
    quick, names = options["quick"], options["names"]
    settings = Settings(
        rows=options["rows"] or (QUICK_ROWS if quick else ROWS),
        runs=options["runs"] or (QUICK_RUNS if quick else RUNS),
        quick=quick,
        retail_file=options["retail_file"] or _shared_retail_file(),
    )
    chosen = [workload for workload in WORKLOADS if not names or workload.name in names]
    return _measure(chosen, settings, options["url"])


def _measure(chosen: Sequence[Workload], settings: Settings, url: str | None) -> Report:
    with ending_with(WrongUsage, ConfigurationError), _telling() as say:
        try:
            return run(chosen, settings, url, say)
        except (SQLAlchemyError, OSError) as error:
            secrets = secrets_in(make_url(url)) if url else ()
            raise CommandError(f"cannot measure: {classify(error, scrub=secrets, has_rows=False).message}") from error


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
    tables = [(columns(compared), lines(compared)) for compared in report.compared]
    _print_tables(report, [*tables, (FIGURE_COLUMNS, figure_lines(report.figures))])


def _print_tables(report: Report, tables: Iterable[tuple[Iterable[str], Iterable[Sequence[str]]]]) -> None:
    # Wide enough for every name where it goes to a file or another program.
    console = Console(width=None if Console().is_terminal else _WIDTH)
    with console.capture() as captured:
        for label, value in (*report.machine.lines(), ("databases", ", ".join(report.databases))):
            console.print(Text(f"{label:<10} {value}"), soft_wrap=True)
        for heading, rows in tables:
            console.print(_table(heading, rows))
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
