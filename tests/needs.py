"""What some tests need that does not come by pip. Where it is missing they are left out, as the run's last line says.

`BATCHWRITE_TEST_REQUIRE=all` fails the run instead: `.ci/run` sets it.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mariadb
import pytest
from tiers import database_of

REQUIRE_VARIABLE = "BATCHWRITE_TEST_REQUIRE"
MARKS = {"needs(name)": f"left out where NAME is missing; {REQUIRE_VARIABLE}=all fails the run instead"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that has to be installed.

    Attributes:
        name: What it is called in a mark.
        title: What it is called.
        how: How to get it.
        is_there: Whether it is.
    """

    name: str
    title: str
    how: str
    is_there: Callable[[], bool]


NEEDS = [Need(name="mariadb", title="MariaDB", how=mariadb.HOW_TO_GET, is_there=mariadb.is_there)]


def missing() -> list[Need]:
    """What is not there.

    Raises:
        UsageError: Something is not, and all is required.
    """
    absent = [need for need in NEEDS if not need.is_there()]
    required = os.environ.get(REQUIRE_VARIABLE, "")
    if required not in {"", "all"}:
        raise pytest.UsageError(f"{REQUIRE_VARIABLE} is {required!r}; it can be all")
    if absent and required:
        raise pytest.UsageError("; ".join(f"{need.title} is required and missing: {need.how}" for need in absent))
    return absent


def left_out(items: Iterable[pytest.Item], absent: Iterable[Need]) -> dict[pytest.Item, str]:
    """The tests that cannot be run, with the title of what they need."""
    titles = {need.name: need.title for need in absent}
    return {item: titles[name] for item in items for name in _needed_by(item) if name in titles}


def _needed_by(item: pytest.Item) -> set[str]:
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    if database_of(item) == "mariadb" or "mariadb_server" in getattr(item, "fixturenames", ()):
        needed.add("mariadb")
    return needed
