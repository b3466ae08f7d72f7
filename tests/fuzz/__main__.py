"""The fuzzer: random tables, items and values, written by the library and item by item, until the time is over.

    python -m tests.fuzz --minutes 10 --database postgresql

Run from the project's directory. Each finding is shrunk and printed as a script; the last lines are figures.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent)]

import mariadb  # noqa: E402 - which lie beside this file, or above it
import servers  # noqa: E402
from databases import Databases, MariaDatabases, mariadb_database, postgres_database, sqlite_file  # noqa: E402
from fuzz_run import fuzz  # noqa: E402
from fuzz_types import EVERY, MARIADB, SQLITE  # noqa: E402
from local_server import move_to_memory  # noqa: E402
from sqlalchemy import Engine  # noqa: E402


@contextmanager
def engine_of(database: str) -> Iterator[Engine]:
    """An engine on an empty database of its own, on the server that the tests would take."""
    if database == SQLITE:
        with tempfile.TemporaryDirectory() as directory, sqlite_file(Path(directory) / "fuzz.db") as engine:
            yield engine
        return
    module, kind, made = (
        (mariadb, MariaDatabases, mariadb_database) if database == MARIADB else (servers, Databases, postgres_database)
    )
    server = module.start_server()
    databases = kind(server.url)
    try:
        with made(databases) as engine:
            yield engine
    finally:
        databases.close()
        server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--database", choices=EVERY, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long (default: 10)")
    parser.add_argument("--seed", type=int, metavar="N", help="what is drawn (default: at random; printed)")
    parser.add_argument("--theme", help="draw cases of this theme alone")
    parser.add_argument("--most", type=int, default=20, metavar="N", help="end after so many findings (default: 20)")
    asked = parser.parse_args()
    move_to_memory()
    seed = SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    with engine_of(asked.database) as engine:
        figures = fuzz(engine, seed=seed, seconds=asked.minutes * 60, theme=asked.theme, most=asked.most, tell=_tell)
    print("\n".join(figures.lines()))
    return 1 if figures.findings else 0


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
