"""A plugin of pytest: leaves out what a run does not take, and says so in the header and in the last line."""

import argparse
import os
import random
import re
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import needs
import pytest
import tiers
from hypothesis import HealthCheck, settings
from tiers import EXAMPLES, Draw

SEED_OPTION = "--draw-seed"
_DRAW = pytest.StashKey[Draw]()
_COUNTS = pytest.StashKey[Counter[str]]()
_SEED = "batchwrite_draw_seed"  # for a worker, from the process that has started it
_OUTPUT = "batchwrite_left_out"  # of a worker, for the process that has started it


def _at_least_1(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(SEED_OPTION, type=int, metavar="N", help="what a run draws (default: at random)")
    parser.addoption("--examples", type=_at_least_1, metavar="N", help="examples of each property (default: by tier)")
    long = "minutes of kills by -m soak (default: 10); what its other tests have to do is in proportion"
    parser.addoption("--soak-minutes", type=float, default=10.0, metavar="N", help=long)


def pytest_configure(config: pytest.Config) -> None:
    for line in (tiers.MARKS | needs.MARKS).items():
        config.addinivalue_line("markers", ": ".join(line))
    config.stash[_DRAW] = Draw(tier=tiers.tier_of(config.option.markexpr), seed=_seed(config))
    config.stash[_COUNTS] = Counter()
    needs.missing()
    _load_profile(config.option.examples or EXAMPLES[config.stash[_DRAW].tier])


def _seed(config: pytest.Config) -> int:
    """The one asked for, else one at random; a worker has that of the process that has started it."""
    if hasattr(config, "workerinput"):
        return int(config.workerinput[_SEED])
    asked: int | None = config.option.draw_seed
    return random.SystemRandom().randrange(2**32) if asked is None else asked


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is started."""
    node.workerinput[_SEED] = node.config.stash[_DRAW].seed


def _load_profile(examples: int) -> None:
    settings.register_profile(
        "batchwrite",
        deadline=None,  # an example talks to a database; how long that takes says nothing
        print_blob=True,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("batchwrite")


def pytest_report_header(config: pytest.Config) -> list[str]:
    draw = config.stash[_DRAW]
    how = "" if draw.takes_all else f", drawn by {SEED_OPTION}={draw.seed}; -m full takes everything"
    return [f"tier: {draw.tier}{how}", *(f"{need.title}: missing, {need.how}" for need in needs.missing())]


@pytest.hookimpl(tryfirst=True)  # before `-m` is looked at, and while the order says nothing
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker("soak"):
            item.add_marker("full")
        if tiers.is_fast(item):
            item.add_marker("fast")
    missing = needs.left_out(items, needs.missing())
    rest = [item for item in items if item not in missing]
    reasons = {**missing, **tiers.left_out(rest, config.stash[_DRAW], _named(config))}
    config.hook.pytest_deselected(items=list(reasons))
    items[:] = [item for item in items if item not in reasons]
    config.stash[_COUNTS].update(reasons.values())


def _named(config: pytest.Config) -> list[str]:
    """The ids on the command line, as tests have them, and those that `--lf` and `--ff` ask for."""
    here = config.invocation_params.dir
    ids = [argument.split("::") for argument in config.args if "::" in argument]
    given = ["::".join([_below(config.rootpath, here / path), *names]) for path, *names in ids]
    return given + _failed_before(config)


def _failed_before(config: pytest.Config) -> list[str]:
    if not (config.getoption("lf", default=False) or config.getoption("failedfirst", default=False)):
        return []
    failed: dict[str, bool] = config.cache.get("cache/lastfailed", {}) if config.cache else {}
    return [re.sub(r"@[\w-]+$", "", nodeid) for nodeid in failed]  # the name of an xdist_group


def _below(root: Path, path: Path) -> str:
    path = Path(os.path.normpath(path))  # without `..`, and links as they are
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # so that what is said comes behind pytest's own last line
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    config, counts = session.config, session.config.stash[_COUNTS]
    is_worker = hasattr(config, "workeroutput")
    if is_worker:
        config.workeroutput[_OUTPUT] = dict(counts)
    yield
    if not is_worker:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        for line in _last_lines(config.stash[_DRAW], counts, is_named=bool(_named(config))):
            reporter.write_line(line, yellow=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended; each of them has left out the same."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[_COUNTS] |= Counter(output.get(_OUTPUT, {}))


def _last_lines(draw: Draw, counts: Counter[str], *, is_named: bool) -> list[str]:
    absent = [
        f"left out: {counts[need.title]:,} tests that need {need.title}; {need.how}"
        for need in needs.NEEDS
        if counts[need.title]
    ]
    if draw.takes_all:
        return absent
    if is_named and counts[tiers.BY_HAND]:
        absent.append(f"left out: {counts[tiers.BY_HAND]:,} tests that are run by hand; -m soak takes them")
    drawn = f"{counts[tiers.DRAWN]:,} tests, most examples of each property, most faults of the sweep"
    return [f"left out by the draw: {drawn}; -m full takes them, {SEED_OPTION}={draw.seed} draws the same", *absent]


@pytest.fixture(scope="session")
def draw(pytestconfig: pytest.Config) -> Draw:
    """What this run draws."""
    return pytestconfig.stash[_DRAW]
