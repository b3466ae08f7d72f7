"""What came out of a bench: as JSON, and as a page of Markdown. `plot` draws it, and the command line prints it."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batchwrite.bench.machine import Machine
    from batchwrite.bench.must_show import Figure
    from batchwrite.bench.task import Settings
    from batchwrite.bench.timing import Compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A bench that has come to its end.

    Attributes:
        machine: What it ran on.
        databases: The servers and their versions.
        settings: How much was measured.
        compared: What was measured, in order.
        figures: What had to be shown.
        seconds: How long all of it took.
    """

    machine: Machine
    databases: Sequence[str]
    settings: Settings
    compared: Sequence[Compared]
    figures: Sequence[Figure]
    seconds: float

    @property
    def failures(self) -> list[str]:
        """Contenders that were tried and failed."""
        return [
            f"{each.name}: {absent.contender}: {absent.reason}"
            for each in self.compared
            for absent in each.absent
            if absent.is_failure
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        settings = self.settings
        return {
            "machine": asdict(self.machine),
            "databases": list(self.databases),
            "settings": {"rows": settings.rows, "runs": settings.runs, "quick": settings.quick},
            "seconds": round(self.seconds, 3),
            "comparisons": [_comparison(each) for each in self.compared],
            "figures": [
                asdict(figure) | {"wanted": figure.wanted, "is_reached": figure.is_reached} for figure in self.figures
            ],
        }

    def to_markdown(self) -> str:
        """A page for `docs/`."""
        return "\n".join(_page(self)) + "\n"


def _comparison(compared: Compared) -> dict[str, Any]:
    return {
        "workload": compared.workload,
        "name": compared.name,
        "baseline": compared.baseline,
        "measurements": [
            asdict(found) | {"median": found.median, "rate": found.rate, "ratio": found.ratio}
            for found in compared.measurements
        ],
        "absent": [asdict(absent) for absent in compared.absent],
    }


def columns(compared: Compared) -> list[str]:
    """The headings of a comparison's table."""
    extras = dict.fromkeys(name for found in compared.measurements for name in found.extras)
    base = [f"of {(compared.baseline or '').partition(',')[0]}"] if compared.baseline else []
    return [compared.name, "rows", "seconds", "rows/s", *base, *extras]


def lines(compared: Compared) -> Iterator[list[str]]:
    """The lines of a comparison's table, the fastest first, and those without a measurement last."""
    extras = dict.fromkeys(name for found in compared.measurements for name in found.extras)
    for found in sorted(compared.measurements, key=lambda found: -found.rate):
        ratio = [f"{found.ratio:.3g}"] if found.ratio is not None else []
        counted = [f"{found.extras.get(name, 0):,.0f}" for name in extras]
        yield [found.contender, f"{found.rows:,}", f"{found.median:.3g}", f"{found.rate:,.0f}", *ratio, *counted]
    for absent in compared.absent:
        yield [f"{absent.contender}: {absent.reason}"]


def figure_lines(figures: Iterable[Figure]) -> Iterator[list[str]]:
    """The lines of the table of figures: figure, wanted, measured, reached."""
    answers = {None: "not measured", True: "yes", False: "no"}
    for figure in figures:
        measured = "" if figure.measured is None else f"{figure.measured:.3g} {figure.unit}"
        note = f" ({figure.note})" if figure.note else ""
        yield [figure.name, figure.wanted, measured, answers[figure.is_reached] + note]


_METHOD = """
Contenders take turns, and each run has fresh tables and open connections, which are made outside of the timing.
Afterwards the rows are counted and added up, to see that they are there. Figures are those of the run in the middle. A
ratio compares the rows that landed a second with those of the baseline in the same round; it is the middle one of all
rounds. Everybody gets the same Python rows, and slow contenders get fewer of them. What a contender makes of the rows
(objects, data frames, Arrow tables) is part of its time. batchwrite runs with its default settings, map function and
collector included. Where there are bad rows, the good ones must land and nothing else; COPY gets the good ones only.
"""

FIGURE_COLUMNS = ("figure", "wanted", "measured", "reached")


def _page(report: Report) -> Iterator[str]:
    settings = report.settings
    yield "# Benchmarks"
    yield ""
    yield "This page is the output of a real run; do not edit it. It is made by"
    yield ""
    yield "```text"
    yield f"batchwrite bench{' --quick' if settings.quick else ''} --markdown docs/benchmarks.md"
    yield "```"
    yield ""
    size = f"{settings.rows:,} rows; at most {settings.runs} runs of each; {report.seconds / 60:,.1f} minutes in all"
    machine = [*report.machine.lines(), ("database", ", ".join(report.databases)), ("size", size)]
    yield from _table(("", ""), machine, others="---")
    yield ""
    yield textwrap.fill(_METHOD, 120)
    yield ""
    yield "## What has to be shown"
    yield ""
    yield from _table(FIGURE_COLUMNS, figure_lines(report.figures))
    for compared in report.compared:
        yield ""
        yield f"## {compared.name[0].upper()}{compared.name[1:]}"
        yield ""
        yield from _table(["", *columns(compared)[1:]], lines(compared))


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], others: str = "--:") -> Iterator[str]:
    yield "|" + "|".join(f" {name} " if name else " " for name in heading) + "|"
    yield "|" + "|".join(["---", *[others] * (len(heading) - 1)]) + "|"
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        yield f"| {' | '.join([*cells, *[''] * (len(heading) - len(row))])} |"
