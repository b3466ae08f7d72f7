"""A picture of a report: a chart for each comparison, ours in another colour."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

from batchwrite.bench import growth, ours

if TYPE_CHECKING:
    from pathlib import Path

    from batchwrite.bench.report import Report
    from batchwrite.bench.timing import Compared

_COLUMNS = 2
_OURS, _OTHERS = "#1f77b4", "#b0b0b0"


def draw(report: Report, path: Path) -> None:
    """Draw the report into a PNG file.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    # Without pyplot, which looks for a display.
    figure_module = importlib.import_module("matplotlib.figure")
    shown = [each for each in report.compared if each.measurements and each.workload != "growth"]
    grown = [each for each in report.compared if each.measurements and each.workload == "growth"]
    count = len(shown) + bool(grown)
    rows = max(1, math.ceil(count / _COLUMNS))
    figure = figure_module.Figure(figsize=(7.5 * _COLUMNS, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axis, compared in zip(axes, shown, strict=False):
        _bars(axis, compared)
    if grown:
        _lines(axes[len(shown)], grown)
    for axis in axes[count:]:
        axis.set_axis_off()
    machine = report.machine
    figure.suptitle(f"{machine.processor}, {machine.cores} cores; {', '.join(report.databases)}; {machine.date}")
    figure.savefig(path, format="png", dpi=110)


def _bars(axis: Any, compared: Compared) -> None:
    found = sorted(compared.measurements, key=lambda each: each.rate)
    colours = [_OURS if each.contender in {ours.NAME, ours.NAME_WITH_WORKERS} else _OTHERS for each in found]
    bars = axis.barh([each.contender for each in found], [each.rate for each in found], color=colours)
    axis.bar_label(bars, [f"{each.rate:,.0f}" for each in found], padding=3)
    axis.margins(x=0.15)
    axis.set_title(compared.name)
    axis.set_xlabel("rows/s")


def _lines(axis: Any, grown: list[Compared]) -> None:
    for contender in dict.fromkeys(found.contender for each in grown for found in each.measurements):
        found = [measurement for each in grown if (measurement := each.of(contender))]
        colour = _OURS if contender == ours.NAME else _OTHERS
        axis.plot(
            [each.rows for each in found],
            [each.extras[growth.PEAK] for each in found],
            "o-",
            color=colour,
            label=contender,
        )
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.legend(loc="lower right")
    axis.set_title("memory by rows streamed")
    axis.set_xlabel("rows")
    axis.set_ylabel(growth.PEAK)
