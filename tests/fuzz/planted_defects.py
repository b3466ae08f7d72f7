"""Defects that the library once had, planted again: each is to be found by the fuzzer.

A defect is what is changed in the library while it lasts, where, and what cases are drawn for it.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from fuzz_types import EVERY, MARIADB, POSTGRESQL, SQLITE

from batchwrite import known, planner, sums
from batchwrite.fault import Fault, FaultKind
from batchwrite.sinks import expressions, tables
from batchwrite.sinks.postgresql import sink as postgresql_sink
from batchwrite.sinks.postgresql import tables as postgresql_tables
from batchwrite.sinks.sqlite import SqliteRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A defect: on which databases it shows, the theme that looks for it, and what is put in whose place."""

    databases: tuple[str, ...]
    theme: str
    changes: tuple[tuple[Any, str, Any], ...]

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name, value in self.changes:
            patch.setattr(owner, name, value)


def _in_its_own_width(one: Any, other: Any) -> Any:
    return one + other


_ONLY_BY_ITS_KIND = ((Fault, "may_be_an_items", property(lambda fault: fault.kind is FaultKind.ITEM)),)

DEFECTS = {
    "numpy's numbers are added in their own width": Defect(
        databases=(POSTGRESQL, MARIADB),
        theme="increments",
        changes=(
            (known, "_exact_delta", lambda _table, _column, delta: delta),
            (sums, "exact_sum", _in_its_own_width),
            (planner, "exact_sum", _in_its_own_width),
        ),
    ),
    # Elsewhere plans are made in the chunk's transaction, where whatever is raised leads to the items one by one.
    "values of any class are compared": Defect(
        databases=(POSTGRESQL,),
        theme="same keys",
        changes=(
            (planner, "are_plain", lambda *_: True),
            (planner, "is_not_itself", lambda value: bool(value != value)),
        ),
    ),
    "a key that cannot be sent ends the run": Defect(
        databases=(POSTGRESQL, MARIADB), theme="poison keys", changes=_ONLY_BY_ITS_KIND
    ),
    "a refusal of row-level security is a missing right": Defect(
        databases=(POSTGRESQL,), theme="rls", changes=_ONLY_BY_ITS_KIND
    ),
    "a tsvector that cannot be read ends the run": Defect(
        databases=(POSTGRESQL,), theme="exotic", changes=_ONLY_BY_ITS_KIND
    ),
    "a trigger that raises codes of the program's ends the run": Defect(
        databases=(POSTGRESQL, MARIADB), theme="triggers", changes=_ONLY_BY_ITS_KIND
    ),
    "ROLLBACK by the database is not noticed": Defect(
        databases=(SQLITE,),
        theme="conflict",
        changes=((SqliteRules, "has_undone_all", lambda *_: False),),
    ),
    "array_nulls is as the session has it": Defect(
        databases=(POSTGRESQL,),
        theme="settings",
        changes=((postgresql_sink, "_READ_NULLS", b"SELECT 1"),),
    ),
    "a table is looked up once": Defect(
        databases=(POSTGRESQL,),
        theme="alter",
        changes=((postgresql_tables, "verification", lambda *_: "SELECT 1"),),
    ),
    "rows that replace others are sorted": Defect(
        databases=(SQLITE,), theme="conflict", changes=((SqliteRules, "keeps_sqlite_order", False),)
    ),
    "every function is pure": Defect(
        databases=EVERY,
        theme="session functions",
        changes=(
            (expressions, "_is_pure", lambda *_: True),
            (tables, "has_dependent_default", lambda *_: False),
        ),
    ),
}
