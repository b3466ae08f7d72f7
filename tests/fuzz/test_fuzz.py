"""A few seconds of the fuzzer on each database, and whether it finds what it is there to find."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_case import FuzzCase, FuzzTable, FuzzWrite, Manner
from fuzz_compare import Comparer
from fuzz_run import fuzz, report, shrunk_finding
from planted_defects import DEFECTS
from tiers import Tier

SECONDS = {Tier.DEFAULT: 1, Tier.FULL: 3, Tier.SOAK: 3}


# The same stretch each time: what is new is searched for by hand, for minutes, by `python -m tests.fuzz`.
SEED = 1


def test_the_fuzzer_finds_nothing(shared_engine, draw):
    found = []
    figures = fuzz(shared_engine, seed=SEED, seconds=SECONDS[draw.tier], most=1, shrink_seconds=10, tell=found.append)
    assert not found, found[0]
    assert figures.runs


# Each on the first database that it shows on. Of these, a default run tries one.
@pytest.mark.drawn(1)
@pytest.mark.parametrize(
    ("shared_engine", "name"),
    [(defect.databases[0], name) for name, defect in DEFECTS.items()],
    indirect=["shared_engine"],
    scope="module",
)
def test_a_planted_defect_is_found(shared_engine, name):
    defect = DEFECTS[name]
    with pytest.MonkeyPatch.context() as patch:
        defect.plant(patch)
        figures = fuzz(shared_engine, seed=1, seconds=60, theme=defect.theme, most=1, shrink_seconds=0)
    assert figures.findings


def planted_case(engine):
    """A case that shows that rows which replace others are written in their order."""
    unique = "UniqueConstraint('u', sqlite_on_conflict='REPLACE')"
    columns = {"id": "Integer, primary_key=True, autoincrement=False", "n": "Integer", "u": "Integer"}
    rows = ({"id": "3", "u": "1"}, {"id": "1", "u": "7", "n": "1"}, {"id": "2", "u": "1", "n": "5"})
    return FuzzCase(
        database=engine.dialect.name,
        theme="conflict",
        tables=(FuzzTable(name="t0", columns=columns, parts=(unique,)),),
        planted=(("t0", {"id": "9"}),),
        items=tuple((FuzzWrite(method="insert", table="t0", values=row),) for row in rows),
        manner=Manner(chunk_size=4, workers=2, way="general", has_ledger=True),
    )


@pytest.mark.slow
def test_a_finding_is_made_smaller_and_is_a_script_that_stands_alone(sqlite_engine, tmp_path):
    comparer, case = Comparer(sqlite_engine), planted_case(sqlite_engine)
    with pytest.MonkeyPatch.context() as patch:
        DEFECTS["rows that replace others are sorted"].plant(patch)
        finding = comparer.compare(case).finding
        assert finding is not None
        case, finding = shrunk_finding(comparer, case, finding, seconds=20)
    comparer.close()
    assert finding.kind == "rows"
    assert [write.values for item in case.items for write in item] == [{"id": "3", "u": "1"}, {"id": "2", "u": "1"}]
    assert (case.planted, case.manner, [*case.tables[0].columns]) == ((), Manner(chunk_size=2), ["id", "u"])
    path = tmp_path / "finding.py"
    path.write_text(report(case, finding), encoding="utf-8")
    command = [sys.executable, path, f"sqlite:///{tmp_path / 'x.db'}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "t0 [(2, 1)]" in ran.stdout  # as it should be: the script knows of no planted defect


@pytest.mark.thorough
def test_the_command_says_what_it_has_done():
    command = [sys.executable, "-m", "tests.fuzz", "--database", "sqlite", "--minutes", "0.01", "--seed", "1"]
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode in {0, 1}, ran.stderr
    assert "sqlite, seed 1:" in ran.stdout
