"""The fuzzer's loop: cases until the time is over, findings shrunk and told, figures at the end."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from fuzz_case import FuzzCase, script
from fuzz_compare import Comparer, InvalidCase, set_up_of
from fuzz_draw import draw_cases
from fuzz_findings import Finding
from fuzz_shrink import shrunk
from sqlalchemy import Engine


@dataclass(slots=True, kw_only=True)
class Figures:
    """What a fuzz has done."""

    database: str
    seed: int
    seconds: float = 0
    tables: int = 0
    runs: int = 0
    items: int = 0
    invalid: int = 0
    may_differ: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    themes: Counter[str] = field(default_factory=Counter)
    invalid_reasons: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[FuzzCase, Finding]] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The figures for people."""
        kinds = Counter(finding.kind for _, finding in self.findings)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
        done = f"{self.runs:,} runs of {self.tables:,} tables and {self.items:,} items"
        lines = [
            f"{self.database}, seed {self.seed}: {done} in {self.seconds:,.0f} s; findings: {told}",
            f"themes: {_counted(self.themes)}",
            f"differ as is promised: {self.may_differ:,}; could not be made: {self.invalid:,}",
            f"refused in the library's words: {_counted(self.refusals)}",
        ]
        if self.repeated:
            lines.append(f"seen again: {_counted(self.repeated)}")
        return lines


def _counted(counter: Counter[str]) -> str:
    return "; ".join(f"{what}: {count:,}" for what, count in counter.most_common()) or "none"


def fuzz(
    engine: Engine,
    *,
    seed: int,
    seconds: float,
    theme: str | None = None,
    most: int = 20,
    shrink_seconds: float = 30,
    tell: Callable[[str], None] = lambda text: None,
) -> Figures:
    """Draw and compare cases for some seconds, or until there are `most` findings of different kinds."""
    comparer, random, begun = Comparer(engine), Random(seed), time.monotonic()
    cases = _without_end(random, engine.dialect.name, theme)
    figures = Figures(database=engine.dialect.name, seed=seed)
    seen: set[str] = set()
    try:
        while time.monotonic() - begun < seconds and len(figures.findings) < most:
            case = next(cases)
            finding = _compared(comparer, case, figures)
            if finding is None:
                continue
            if finding.signature in seen:
                figures.repeated[finding.signature] += 1
                continue
            seen.add(finding.signature)
            case, finding = shrunk_finding(comparer, case, finding, seconds=shrink_seconds)
            figures.findings.append((case, finding))
            tell(report(case, finding))
    finally:
        comparer.close()
        figures.seconds = time.monotonic() - begun
    return figures


def _without_end(random: Random, database: str, theme: str | None) -> Iterator[FuzzCase]:
    while True:
        yield from draw_cases(random, database, theme)


def _compared(comparer: Comparer, case: FuzzCase, figures: Figures) -> Finding | None:
    try:
        verdict = comparer.compare(case)
    except InvalidCase as error:
        figures.invalid += 1
        figures.invalid_reasons[str(error).partition("\n")[0]] += 1
        return None
    figures.runs += 1
    figures.tables += len(case.tables)
    figures.items += verdict.items
    figures.may_differ += verdict.may_differ
    figures.themes[case.theme] += 1
    figures.refusals.update(verdict.refusals)
    return verdict.finding


def shrunk_finding(comparer: Comparer, case: FuzzCase, finding: Finding, *, seconds: float) -> tuple[FuzzCase, Finding]:
    """The case made smaller, with what it shows then."""
    last = finding

    def still_fails(smaller: FuzzCase) -> bool:
        nonlocal last
        try:
            found = comparer.compare(smaller).finding
        except InvalidCase:
            return False
        if found is None or found.kind != finding.kind:
            return False
        if finding.kind in {"raised", "abort"} and found.signature != finding.signature:
            return False
        last = found
        return True

    return shrunk(case, still_fails, seconds), last


def report(case: FuzzCase, finding: Finding) -> str:
    """A finding for people: what it is, and a script that shows it."""
    title = f"{finding.kind} on {case.database} ({case.theme})"
    words = finding.text.replace("\n", "\n# ")
    text = script(case, title=title, statuses=finding.statuses, set_up=set_up_of(case))
    return f"# {'=' * 98}\n# {title}: {finding.signature}\n# {words}\n\n{text}"
