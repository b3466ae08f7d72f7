"""The examples of repositories: what they print is what they promise, and what the data has it."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"

# SQLite's driver names no table where a check constraint refuses a row, and no constraint elsewhere.
REASONS = {
    "sqlite": [
        "37 because: a check constraint refused the row [shipped_in_time, SQLITE_CONSTRAINT_CHECK]",
        "21 because: a value is missing for a column that must have one [orders.shipped_at, SQLITE_CONSTRAINT_NOTNULL]",
        "10 because: a row with the same unique key exists [orders.order_id, SQLITE_CONSTRAINT_PRIMARYKEY]",
    ],
    "postgresql": [
        "37 because: a check constraint refused the row [orders, shipped_in_time, 23514]",
        "21 because: a value is missing for a column that must have one [orders.shipped_at, 23502]",
        "10 because: a row with the same unique key exists [orders, orders_pkey, 23505]",
    ],
    "mariadb": [
        "37 because: a check constraint refused the row [orders, shipped_in_time, 4025]",
        "21 because: a value is missing for a column that must have one [shipped_at, 1048]",
        "10 because: a row with the same unique key exists [PRIMARY, 1062]",
    ],
}
COUNTS = "840 orders received, 772 written, 68 failed"


def run_example(name, engine):
    command = [sys.executable, "-W", "error", EXAMPLES / name, engine.url.render_as_string(hide_password=False)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.strip() for line in done.stdout.splitlines()]


def check(printed, name, engine, titles):
    reasons = REASONS[engine.dialect.name]
    assert printed == [line for title in titles for line in (f"{title}: {COUNTS}", *reasons)]
    promised = (EXAMPLES / name).read_text(encoding="utf-8")
    assert all(line in promised for line in (f"{titles[0]}: {COUNTS}", *REASONS["sqlite"]))


def check_stored(engine):
    with engine.connect() as connection:
        stored = set(connection.scalars(text("SELECT order_id FROM orders")))
    with (EXAMPLES / "data" / "northwind" / "orders.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert stored == {
        int(row["OrderID"]) for row in rows if row["ShippedDate"] and row["ShippedDate"] <= row["RequiredDate"]
    }


def test_sqlalchemy_repository(engine):
    printed = run_example("sqlalchemy_repository.py", engine)
    check(printed, "sqlalchemy_repository.py", engine, ["Session", "AsyncSession"])
    check_stored(engine)


# Django reaches MariaDB by a driver that is none of ours.
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_django_repository(engine):
    printed = run_example("django_repository.py", engine)
    check(printed, "django_repository.py", engine, ["OrderRepository", "BatchedOrderRepository"])
    check_stored(engine)


def test_what_the_django_example_says_differs_by_one_line():
    """The decorated repository is the plain one but for its name and the decorator."""
    source = (EXAMPLES / "django_repository.py").read_text(encoding="utf-8")
    plain, decorated = re.findall(r"^class (?:Batched)?OrderRepository:\n((?:    .*\n|\n)*)", source, re.MULTILINE)
    without = [line.partition("  #")[0] for line in plain.strip().splitlines()]
    changed = [line for line in decorated.strip().splitlines() if line not in without]
    assert changed == ['    @batched("create", atomic=True, chunk_size=CHUNK_SIZE)']
