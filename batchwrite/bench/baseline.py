"""Ratios that are kept in a file, and whether newly measured ones are as good. Pure: nothing is measured here.

Speed itself depends on the machine; how fast ours is beside a peer, in one run, hardly does.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from batchwrite.bench.report import Report
    from batchwrite.bench.timing import Compared

TOLERANCE = 0.2
"""The share of its kept ratio that a comparison may lose: well above what chance does to it."""

RISE = 0.3
"""What a comparison has to gain for its kept ratio to guard too little."""

_TAKING_PART = ("SQLAlchemy", "psycopg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is kept of a comparison.

    Attributes:
        of: The peer.
        rows: How many rows of ours landed.
        ratio: Our speed relative to the peer's.
    """

    of: str
    rows: int
    ratio: float

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Entry:
        """From the file's JSON.

        Raises:
            ValueError: A number is not one that can have been measured.
        """
        entry = cls(of=str(document["of"]), rows=int(document["rows"]), ratio=float(document["ratio"]))
        if entry.rows < 1 or not 0 < entry.ratio < math.inf:  # NaN is not, either
            raise ValueError(f"{entry.rows} rows and a ratio of {entry.ratio} cannot have been measured")
        return entry


Entries: TypeAlias = "Mapping[str, Entry]"
"""By the name of the comparison."""

Measure: TypeAlias = "Callable[[Collection[str] | None], Entries]"
"""Measures the comparisons of these names, or all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The file.

    Attributes:
        entries: What is kept.
        measured_on: Label and value of what it was measured on, for people.
    """

    entries: Entries
    measured_on: Mapping[str, str]

    @classmethod
    def from_json(cls, text: str) -> Baseline:
        """Read it.

        Raises:
            ConfigurationError: It is no baseline.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            entries = {name: Entry.from_dict(entry) for name, entry in document["comparisons"].items()}
            return cls(entries=entries, measured_on=dict(document["measured on"]))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f"not a file that --save-baseline has written ({type(error).__name__}: {error})"
            ) from error

    def to_json(self) -> str:
        """The text of the file: a line for each comparison, in order, so that a diff can be read."""
        entries = {
            name: asdict(replace(entry, ratio=float(f"{entry.ratio:.3g}")))
            for name, entry in sorted(self.entries.items())
        }
        parts: dict[str, Mapping[str, Any]] = {"comparisons": entries, "measured on": dict(self.measured_on)}
        return "{\n" + ",\n".join(f"  {json.dumps(name)}: {_object(part)}" for name, part in parts.items()) + "\n}\n"


def _object(part: Mapping[str, Any]) -> str:
    lines = (f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in part.items())
    return "{\n" + ",\n".join(lines) + "\n  }"


class Outcome(StrEnum):
    """What became of a comparison."""

    AS_GOOD = "as good"
    ROSE = "rose"
    FELL = "fell"
    NOT_KEPT = "not in the file"
    NOT_MEASURED = "not measured"
    NOT_COMPARABLE = "measured otherwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A comparison beside what is kept of it.

    Attributes:
        name: Its name.
        kept: What is kept, if anything.
        measured: What was measured, and what was measured the second time.
        tolerance: The share that it may lose.
    """

    name: str
    kept: Entry | None
    measured: tuple[Entry, ...]
    tolerance: float = TOLERANCE

    @property
    def outcome(self) -> Outcome:
        """What became of it; it fell or rose only if it did so each time."""
        if self.kept is None:
            return Outcome.NOT_KEPT
        if not self.measured:
            return Outcome.NOT_MEASURED
        if any((each.of, each.rows) != (self.kept.of, self.kept.rows) for each in self.measured):
            return Outcome.NOT_COMPARABLE
        ratios = [each.ratio for each in self.measured]
        if max(ratios) < self.kept.ratio * (1 - self.tolerance):
            return Outcome.FELL
        return Outcome.ROSE if min(ratios) > self.kept.ratio * (1 + RISE) else Outcome.AS_GOOD

    @property
    def is_failure(self) -> bool:
        """Whether CI must not pass."""
        return self.outcome not in {Outcome.AS_GOOD, Outcome.ROSE}

    @property
    def change(self) -> float | None:
        """By what share the ratio is above the kept one, or below it; of two measurements, the better one."""
        if self.kept is None or not self.measured or self.outcome is Outcome.NOT_COMPARABLE:
            return None
        return max(each.ratio for each in self.measured) / self.kept.ratio - 1

    @property
    def message(self) -> str:
        """What to say of it, in a sentence."""
        kept, last = self.kept, self.measured[-1] if self.measured else None
        found = ", then ".join(f"{each.ratio:.3g} x" for each in self.measured)
        match self.outcome:
            case Outcome.NOT_KEPT:
                what = f"is not in the file; measured: {found}"
            case Outcome.NOT_MEASURED:
                what = "is in the file, and was not measured: it has failed, or there is no such comparison any more"
            case Outcome.NOT_COMPARABLE:
                what = f"is kept {_how(kept)}, and was measured {_how(last)}"
            case Outcome.ROSE:
                what = f"rose by {self.change:.0%}: measured {found}, kept {_ratio(kept)}"
            case Outcome.FELL:
                what = f"fell by {-(self.change or 0):.0%}: measured {found}, kept {_ratio(kept)}"
            case Outcome.AS_GOOD:
                what = f"is as good as it was: measured {found}, kept {_ratio(kept)}"
        return f"{self.name}: {what}"


def _ratio(entry: Entry | None) -> str:
    return f"{entry.ratio:.3g} x of {entry.of}" if entry else ""


def _how(entry: Entry | None) -> str:
    return f"of {entry.of} with {entry.rows:,} rows" if entry else ""


def guarded(kept: Entries, measure: Measure, tolerance: float = TOLERANCE) -> list[Verdict]:
    """Measure, and compare with what is kept; what fell is measured once more before it is believed."""

    def verdicts(*found: Entries) -> list[Verdict]:
        names = dict.fromkeys((*found[0], *kept))
        return [
            Verdict(
                name=name,
                kept=kept.get(name),
                measured=tuple(each[name] for each in found if name in each),
                tolerance=tolerance,
            )
            for name in names
        ]

    first = measure(None)
    fallen = [each.name for each in verdicts(first) if each.outcome is Outcome.FELL]
    return verdicts(first, measure(fallen)) if fallen else verdicts(first)


def entries_of(compared: Iterable[Compared]) -> Entries:
    """What was measured, by comparison, of the one that is not the baseline; what failed is left out."""
    found = {}
    for each in compared:
        for measurement in each.measurements:
            if each.baseline not in {None, measurement.contender} and measurement.ratio is not None:
                found[each.name] = Entry(of=str(each.baseline), rows=measurement.rows, ratio=measurement.ratio)
    return found


def middle(measured: Sequence[Entries]) -> Entries:
    """Of several measurements, for each comparison the ratio in the middle."""
    return {
        name: replace(entry, ratio=statistics.median(each[name].ratio for each in measured if name in each))
        for name, entry in measured[0].items()
    }


def measured_on(report: Report) -> dict[str, str]:
    """What a report says of where it was made."""
    packages = report.machine.packages
    return {
        **dict(report.machine.lines()),
        "packages": ", ".join(f"{name} {packages[name]}" for name in _TAKING_PART if name in packages),
        "databases": ", ".join(report.databases),
    }


def differences(kept: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """In what the place of measuring differs from the one that is kept."""
    return [
        f"{label}: kept {kept.get(label, 'nothing')}, here {value}"
        for label, value in here.items()
        if label != "date" and kept.get(label) != value
    ]
