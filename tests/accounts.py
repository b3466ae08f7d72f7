"""A plugin of pytest: what a run has spent, in seconds by folder of tests, and what it has counted.

A folder's quota, and what a full run must not fall below, are read off these lines: see CONTRIBUTING.md.
"""

from collections import Counter

import pytest

COUNTED = "counted"  # a property of a test: what it has tried how often, e.g. ("counted", ("statements x faults", 72))


class Accounts:
    """Adds up the reports of all workers."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[folder_of(report.nodeid)] += report.duration
        if report.when == "call":
            for what, number in (value for name, value in report.user_properties if name == COUNTED):
                self.counts[what] += number

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """The seconds, the most first, and the counts."""
        spent = ", ".join(f"{folder} {seconds:,.0f}" for folder, seconds in self.seconds.most_common())
        counted = ", ".join(f"{number:,} {what}" for what, number in sorted(self.counts.items()))
        return [f"seconds: {spent}", *([f"counted: {counted}"] if counted else [])]


def folder_of(nodeid: str) -> str:
    """The folder below tests that a test is in; what lies in none is the root's."""
    parts = nodeid.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else "root"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Accounts())
