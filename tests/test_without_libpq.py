"""Where psycopg, or the libpq that it needs, is missing: SQLite works, PostgreSQL is refused in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

# psycopg without libpq raises ImportError when it is imported: so does this.
PROGRAM = """
import sys

class NoLibpq:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"psycopg", "psycopg_binary", "psycopg_c", "psycopg2"}:
            raise ImportError("no pq wrapper available: libpq library not found")

sys.meta_path.insert(0, NoLibpq())
from sqlalchemy import Column, Integer, MetaData, Table
from batchwrite import BatchWriter, ConfigurationError
from batchwrite.database import create_engine_for

metadata = MetaData()
numbers = Table("numbers", metadata, Column("n", Integer, primary_key=True))
engine = create_engine_for("sqlite://")
metadata.create_all(engine)
result = BatchWriter(engine).run([1, 2, 2, 3], lambda n, out: out.insert(numbers, {"n": n}))
print(result.written, result.failed)
try:
    BatchWriter("postgresql://u:planted@127.0.0.1/db")
except ConfigurationError as error:
    print(error)
"""


def test_sqlite_works_and_postgresql_says_what_is_missing():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == "3 1"
    assert "batchwrite[binary]" in second
    assert "planted" not in second


def test_importing_the_package_imports_no_driver():
    program = "import sys, batchwrite, batchwrite.sources; print('psycopg' in sys.modules, 'click' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout.split() == ["False", "False"]
