"""What a run takes and leaves out, and what it says of it."""

import os
import subprocess
import sys
from pathlib import Path

import mariadb
import needs
import pytest
import tiers
from hypothesis import given
from hypothesis import strategies as st
from tiers import Draw, Tier, tier_of

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
pytest_plugins = ["pytester"]

KINDS = """
import pytest

@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request):
    return request.param

def test_plain(): pass
@pytest.mark.thorough
def test_thorough(): pass
@pytest.mark.soak
def test_soak(): pass
@pytest.mark.one_database
def test_one(engine): pass
@pytest.mark.one_database
def test_another(engine): pass
@pytest.mark.one_database
def test_of_no_database(): pass
@pytest.mark.drawn(2)
@pytest.mark.parametrize("number", range(9))
def test_drawn(number): pass
@pytest.mark.needs("mariadb")
def test_mariadb_marked(): pass
"""
COUNT = 1 + 1 + 1 + 3 + 3 + 1 + 9 + 1


@pytest.fixture
def items(pytester):
    """The tests of KINDS."""
    return pytester.getitems(KINDS)


def names(items):
    return {item.name for item in items}


def taken(items, tier, seed=1, named=()):
    return names({*items} - {*tiers.left_out(items, Draw(tier=tier, seed=seed), named)})


class TestTiers:
    def test_the_default_run_takes_what_is_drawn(self, items):
        by_seed = [taken(items, Tier.DEFAULT, seed) for seed in range(30)]
        for chosen in by_seed:
            cases = {name for name in chosen if "[" in name}
            databases = {name.partition("[")[2] for name in cases if "drawn" not in name}
            assert chosen - cases == {"test_plain", "test_of_no_database", "test_mariadb_marked"}
            assert len(cases) == 2 + 2
            assert len(databases) == 1, "one database for all tests"
        assert len(set.union(*by_seed)) == COUNT - 2, "each comes up some time"

    def test_the_order_of_tests_changes_nothing(self, items):
        assert taken(items, Tier.DEFAULT) == taken(items[::-1], Tier.DEFAULT)

    def test_the_full_run_takes_everything_but_what_is_run_by_hand(self, items):
        assert len(items) == COUNT
        assert taken(items, Tier.FULL) == names(items) - {"test_soak"}

    @pytest.mark.parametrize("seed", range(3))
    def test_what_is_named_is_run_whether_it_is_drawn_or_not(self, items, seed):
        chosen = [item for item in items if item.name in {"test_drawn[5]", "test_thorough"}]
        ids = [item.nodeid for item in chosen]
        assert names(chosen) < taken(items, Tier.DEFAULT, seed, ids)
        assert taken(chosen, Tier.DEFAULT, seed, ids) == names(chosen)

    @pytest.mark.parametrize(
        ("expression", "tier"),
        [
            ("", Tier.DEFAULT),
            ("full", Tier.FULL),
            ("full and not xdist_group", Tier.FULL),
            ("(full)", Tier.FULL),
            ("soak", Tier.SOAK),
            ("not slow", Tier.DEFAULT),
            ("fast", Tier.DEFAULT),
        ],
    )
    def test_the_tier_follows_from_the_marks_asked_for(self, expression, tier):
        assert tier_of(expression) is tier

    @pytest.mark.parametrize("expression", ["not soak", "not (full)", "fast or soak", "full and not soak"])
    def test_what_asks_for_no_one_tier_is_refused(self, expression):
        with pytest.raises(pytest.UsageError, match="name one of fast, full, soak, and without `not`"):
            tier_of(expression)


class TestDraw:
    @given(st.integers(0, 9), st.integers(1, 30), st.integers(1, 8))
    def test_each_has_one_and_all_others_are_there(self, seed, ones, others):
        pairs = Draw(tier=Tier.DEFAULT, seed=seed).pairs("x", range(ones), range(others))
        assert {one for one, _ in pairs} == {*range(ones)}
        assert {other for _, other in pairs} == {*range(others)}
        assert len(pairs) == max(ones, others)

    def test_over_many_seeds_each_pair_comes_up(self):
        drawn = {pair for seed in range(200) for pair in Draw(tier=Tier.DEFAULT, seed=seed).pairs("x", "abc", range(6))}
        assert len(drawn) == 18

    def test_a_full_run_has_all_pairs(self):
        assert len(Draw(tier=Tier.FULL, seed=1).pairs("x", "abc", range(6))) == 18

    def test_nothing_gives_nothing(self):
        assert Draw(tier=Tier.DEFAULT, seed=1).pairs("x", [], range(6)) == []
        assert Draw(tier=Tier.DEFAULT, seed=1).some("x", [], 1) == []

    def test_names_draw_differently_and_the_same_again(self):
        draw = Draw(tier=Tier.DEFAULT, seed=1)
        assert draw.some("x", range(1_000), 10) == draw.some("x", range(1_000), 10) != draw.some("y", range(1_000), 10)


class TestNeeds:
    def test_what_needs_mariadb_is_left_out_where_it_is_missing(self, items):
        out = needs.left_out(items, needs.NEEDS)
        assert names(out) == {"test_one[mariadb]", "test_another[mariadb]", "test_mariadb_marked"}
        assert set(out.values()) == {"MariaDB"}
        assert needs.left_out(items, []) == {}

    def test_tests_that_ask_for_its_server_need_it(self, request, mariadb_server):
        assert request.node in needs.left_out([request.node], needs.NEEDS)


def run_without_mariadb(folder, *arguments, required="", kinds=KINDS):
    """A run of KINDS as on a machine without MariaDB: its exit status, its lines, and what it says of an error."""
    (folder / "test_kinds.py").write_text(kinds)
    (folder / "conftest.py").write_text("import mariadb\nmariadb.PLACES = ()\n")
    here = {"PYTHONPATH": str(HERE), "PATH": str(folder), mariadb.URL_VARIABLE: "", needs.REQUIRE_VARIABLE: required}
    here["PYTEST_ADDOPTS"] = ""  # CI's asks for all tests
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "selection", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.rstrip().splitlines(), done.stderr


def test_a_run_says_what_it_takes_and_leaves_out_once_whatever_its_workers(tmp_path):
    status, lines, error = run_without_mariadb(tmp_path, "-n2", "--dist=loadgroup")
    assert status == 0, [*lines, error]  # workers that draw otherwise than each other would fail the run
    (told,) = [line for line in lines if line.startswith("tier: default, drawn by ")]
    seed = told.split()[4].rstrip(";")
    assert told.endswith("; -m full takes everything")
    assert f"MariaDB: missing, {mariadb.HOW_TO_GET}" in lines
    assert lines[-2].startswith("left out by the draw: 10 tests, ")
    assert lines[-2].endswith(f"; -m full takes them, {seed} draws the same")
    assert lines[-1] == f"left out: 3 tests that need MariaDB; {mariadb.HOW_TO_GET}"


def test_what_failed_before_is_run_whether_it_is_drawn_or_not(tmp_path):
    spoilt = KINDS.replace("def test_drawn(number): pass", "def test_drawn(number): assert number != 5")
    for arguments in (["-m", "full"], ["--lf", "--draw-seed=2"], ["--lf", "--draw-seed=3"]):
        status, lines, error = run_without_mariadb(tmp_path, "-p", "cacheprovider", *arguments, kinds=spoilt)
        assert status == pytest.ExitCode.TESTS_FAILED, error
        assert [line for line in lines if line.startswith("FAILED")] == [
            "FAILED test_kinds.py::test_drawn[5] - assert 5 != 5"
        ]


def test_a_worker_that_is_killed_ends_the_run(tmp_path):
    killing = "import os, signal\n" + KINDS.replace(
        "def test_plain(): pass", "def test_plain(): os.kill(os.getpid(), 9)"
    )
    arguments = ("-n2", "--dist=loadgroup", "--max-worker-restart=0")
    status, lines, _ = run_without_mariadb(tmp_path, *arguments, kinds=killing)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert any("crashed while running" in line for line in lines)


def test_a_run_that_requires_everything_fails_where_something_is_missing(tmp_path):
    status, lines, error = run_without_mariadb(tmp_path, required="all")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert f"MariaDB is required and missing: {mariadb.HOW_TO_GET}" in error
    assert not [line for line in lines if "passed" in line]


def test_what_is_required_can_be_all_alone(monkeypatch):
    monkeypatch.setenv(needs.REQUIRE_VARIABLE, "mariadb")
    with pytest.raises(pytest.UsageError, match="it can be all"):
        needs.missing()
