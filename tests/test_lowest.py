"""The constraints for a run with the lowest versions: `.ci/lowest.py`."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / ".ci" / "lowest.py"
constraints = runpy.run_path(str(SCRIPT))["constraints"]

PROJECT = {
    "name": "of-trial",
    "dependencies": ["sqlalchemy>=2.0.40", "psycopg >= 3.2, <4"],
    "optional-dependencies": {
        "async": ["SQLAlchemy[asyncio]>=2.0.40", "Some_Driver>=0.9"],
        "cli": ["click>=8.1; sys_platform == 'linux'"],
        "test": ["of_trial[async, cli]", "some.driver>=0.10", "pytest>=8"],
        "unbound": ["rich"],
        "capped": ["rich<14"],
        "early": ["rich>=13.7rc1"],
    },
}
ALWAYS = ["psycopg==3.2", "sqlalchemy==2.0.40"]


@pytest.mark.parametrize(
    ("extras", "added"),
    [
        ([], []),
        (["cli"], ["click==8.1"]),
        (["async"], ["some-driver==0.9"]),
        (["async", "test:some-driver"], ["some-driver==0.10"]),
        (["test"], ["click==8.1", "pytest==8", "some-driver==0.10"]),
    ],
)
def test_the_lowest_that_every_bound_allows(extras, added):
    assert constraints(PROJECT, extras) == sorted(ALWAYS + added)


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("unbound", "'rich' has no lower bound"),
        ("capped", "'rich<14' has no lower bound"),
        ("early", "'rich>=13.7rc1' has no lower bound"),
        ("missing", "there is no extra 'missing'"),
        ("test:missing", "the extra 'test' has nothing for 'test:missing'"),
    ],
)
def test_what_promises_no_lowest_version_is_refused(extra, complaint):
    with pytest.raises(ValueError, match=complaint):
        constraints(PROJECT, [extra])


def test_the_script_knows_every_extra_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    done = subprocess.run([sys.executable, SCRIPT, *extras], capture_output=True, text=True, check=True)
    names = [line.partition("==")[0] for line in done.stdout.splitlines()]
    assert {"sqlalchemy", "aiosqlite", "click", "aiomysql"} <= set(names)
    assert len(names) == len(set(names))


def test_the_script_says_what_it_does_not_know():
    done = subprocess.run([sys.executable, SCRIPT, "missing"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("pyproject.toml: there is no extra 'missing'; there are ")
