"""Which of the tests a run takes. `selection.py` carries it out.

default   draws, by a seed that the header prints: few examples of each property, of the sweep every statement with one
          fault, one database for the awaited contract, and of what is marked `drawn` the number that it says
full      `-m full`: everything but what is run by hand; `.ci/run` runs it
fast      `-m fast`: of the default run what needs no server and is not slow
soak      `-m soak`: long kills, large values, minutes of load; by hand, its figures stand in docs/reliability.md

What is named by its id (`tests/test_chunk.py::test_name`) is run whether it is drawn or not; soak is not drawn.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

import pytest

MARKS = {
    "fast": "set on what needs no server and is not slow: the pure parts and SQLite",
    "slow": "starts programs or takes seconds: fast does not take it",
    "full": "set on all tests but those of soak: what the full run takes",
    "soak": "run by hand alone",
    "thorough": "the full run alone takes it",
    "drawn(count)": "the default run takes so many of the test's cases, by seed",
    "one_database": "the default run takes the cases of one database, by seed; it is the same for all such tests",
}
_SERVERS = {"postgres_server", "mariadb_server", "own_postgres"}  # fixtures
_CASES_OF_SERVERS = {"postgresql", "mariadb", "postgres_engine", "mariadb_engine"}
DRAWN, BY_HAND = "not drawn", "by hand"  # reasons
A, B = TypeVar("A"), TypeVar("B")


class Tier(StrEnum):
    DEFAULT = "default"
    FULL = "full"
    SOAK = "soak"


_TIER_OF_WORD = {"fast": Tier.DEFAULT, "full": Tier.FULL, "soak": Tier.SOAK}

EXAMPLES = {Tier.DEFAULT: 15, Tier.FULL: 60, Tier.SOAK: 60}
"""Examples of each property: the default run has a quarter of them, others each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a run draws: the same for the same seed and name, in each of its processes."""

    tier: Tier
    seed: int

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left to chance."""
        return self.tier is not Tier.DEFAULT

    def random(self, name: str) -> random.Random:
        """Random numbers for a purpose."""
        return random.Random(f"{self.seed} {name}")

    def some(self, name: str, options: Sequence[A], count: int) -> list[A]:
        """So many of the options, or all of them where nothing is left to chance."""
        if self.takes_all or count >= len(options):
            return list(options)
        return self.random(name).sample(options, count)

    def pairs(self, name: str, ones: Sequence[A], others: Sequence[B]) -> list[tuple[A, B]]:
        """Each of the ones with one of the others, all of these among them; where nothing is left to chance, all pairs.

        Example: of statements 1 to 3 and faults a and b it may be 1 with b, 2 with a, 3 with b.
        """
        if self.takes_all or not ones:
            return [(one, other) for one in ones for other in others]
        numbers = self.random(name)
        count = max(len(ones), len(others))
        dealt = [others[position % len(others)] for position in range(count)]
        numbers.shuffle(dealt)
        again = numbers.choices(ones, k=count - len(ones))
        return list(zip([*ones, *again], dealt, strict=True))


def tier_of(mark_expression: str) -> Tier:
    """The tier that `-m` asks for; what it says of other marks is left to pytest.

    Raises:
        UsageError: It asks for several, or for what a tier is not.
    """
    words = mark_expression.replace("(", " ").replace(")", " ").split()
    asked = [word for word in words if word in _TIER_OF_WORD]
    is_denied = any(before == "not" and word in _TIER_OF_WORD for before, word in pairwise(words))
    if is_denied or len(asked) > 1:
        raise pytest.UsageError(f"-m {mark_expression!r}: name one of {', '.join(_TIER_OF_WORD)}, and without `not`")
    return _TIER_OF_WORD[asked[0]] if asked else Tier.DEFAULT


def is_fast(item: pytest.Item) -> bool:
    """Whether a test is one of the pure parts or of SQLite, and not slow."""
    marks = ("slow", "thorough", "soak", "xdist_group")
    return not _uses_server(item) and not any(item.get_closest_marker(mark) for mark in marks)


def _uses_server(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec else ()
    is_case_of_one = any(isinstance(value, str) and value in _CASES_OF_SERVERS for value in values)
    return is_case_of_one or not _SERVERS.isdisjoint(getattr(item, "fixturenames", ()))


def left_out(items: Sequence[pytest.Item], draw: Draw, named: Sequence[str] = ()) -> dict[pytest.Item, str]:
    """The tests that a run does not take, with the reason.

    Args:
        items: All that were collected.
        draw: What is drawn.
        named: Ids, or beginnings of ids, of what is run whether it is drawn or not.
    """
    if draw.tier is Tier.SOAK:
        return {}  # `-m` itself leaves the others out
    out = {item: BY_HAND for item in items if item.get_closest_marker("soak")}
    if not draw.takes_all:
        free = [item for item in items if not item.nodeid.startswith(tuple(named))]
        out |= dict.fromkeys(_not_drawn(free, draw), DRAWN)
    return out


def _not_drawn(items: Sequence[pytest.Item], draw: Draw) -> Iterable[pytest.Item]:
    yield from (item for item in items if item.get_closest_marker("thorough"))
    yield from _of_other_databases([item for item in items if item.get_closest_marker("one_database")], draw)
    functions: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("drawn"):
            functions[item.nodeid.partition("[")[0]].append(item)
    for name, cases in functions.items():
        yield from _cases_not_drawn(name, cases, draw)


def _of_other_databases(items: Sequence[pytest.Item], draw: Draw) -> list[pytest.Item]:
    """The cases that are for another database than the one that is drawn; those that are for one alone stay."""
    databases = sorted({name for item in items if (name := database_of(item))})
    chosen = draw.some("database", databases, 1)
    return [item for item in items if database_of(item) not in {None, *chosen}]


def _cases_not_drawn(name: str, cases: Sequence[pytest.Item], draw: Draw) -> set[pytest.Item]:
    mark = cases[0].get_closest_marker("drawn")
    assert mark is not None
    in_order = sorted(cases, key=lambda item: item.nodeid)  # they come shuffled
    return set(cases) - set(draw.some(name, in_order, *mark.args))


def database_of(item: pytest.Item) -> str | None:
    """The database that a test is a case for, if it has a case for each."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params if callspec else {}
    return parameters.get("engine") or parameters.get("shared_engine")
