"""`batchwrite bench --guard` and `--save-baseline`: ratios beside those that are kept in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchwrite.bench.baseline import Baseline, Outcome, differences, entries_of, guarded, measured_on, middle
from batchwrite.cli.errors import CommandError, WrongUsage, ending_with
from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from batchwrite.bench.baseline import Entries, Verdict
    from batchwrite.bench.report import Report

    Measure: TypeAlias = Callable[[Collection[str] | None], Report]

COLUMNS = ("comparison", "kept", "measured", "again", "change", "outcome")
SAVED_TIMES = 5
"""How often everything is measured for the file, which keeps the middle: its chance is added to each later one's."""


def save_baseline(path: Path, measure: Measure) -> Report:
    """Measure several times, and write the file, unless something failed; gives the last report.

    Raises:
        WrongUsage: There is no folder for the file; found out before anything is measured.
    """
    if not path.parent.is_dir():
        raise WrongUsage(f"{path}: there is no folder {path.parent}")
    found = []
    for _ in range(SAVED_TIMES):
        report = measure(None)
        if report.failures:
            return report
        found.append(entries_of(report.compared))
    baseline = Baseline(entries=middle(found), measured_on=measured_on(report))
    with ending_with(CommandError, OSError):
        path.write_text(baseline.to_json(), encoding="utf-8")
    return report


def kept_in(path: Path) -> Baseline:
    """The file's content.

    Raises:
        WrongUsage: It is no baseline.
    """
    try:
        return Baseline.from_json(path.read_text(encoding="utf-8"))
    except (ConfigurationError, OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: {error}") from error


def guard(kept: Baseline, measure: Measure) -> tuple[list[Report], list[Verdict]]:
    """Measure, what fell twice, and compare with the file."""
    reports: list[Report] = []

    def entries(names: Collection[str] | None) -> Entries:
        reports.append(measure(names))
        return entries_of(reports[-1].compared)

    return reports, guarded(kept.entries, entries)


def lines(verdicts: Sequence[Verdict]) -> Iterator[list[str]]:
    """The lines of the table of `COLUMNS`."""
    for each in verdicts:
        kept = f"{each.kept.ratio:.3g}" if each.kept else ""
        first, again, *_ = (*(f"{entry.ratio:.3g}" for entry in each.measured), "", "")
        change = "" if each.change is None else f"{each.change:+.0%}"
        yield [each.name, kept, first, again, change, each.outcome.value]


def tell(path: Path, kept: Baseline, here: Report, verdicts: Sequence[Verdict]) -> None:
    """Say on stderr what is not as it was, and what to do."""
    failed = [each for each in verdicts if each.is_failure]
    risen = [each for each in verdicts if each.outcome is Outcome.ROSE]
    for each in failed:
        click.echo(f"failed: {each.message}", err=True)
    for each in risen:
        click.echo(f"note: {each.message}: raise the baseline, or as much can be lost unnoticed", err=True)
    if failed or risen:
        for difference in differences(kept.measured_on, measured_on(here)):
            click.echo(f"note: {difference}", err=True)
        click.echo(
            f"Where this is meant: batchwrite bench --save-baseline {path}, and a commit of that file that says why.",
            err=True,
        )
