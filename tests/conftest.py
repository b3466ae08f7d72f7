"""Fixtures: real databases, fresh for each test, and the proof that each test gave its connections back.

sqlite_engine     an Engine on a SQLite file, foreign keys enforced
postgres_engine   an Engine on a PostgreSQL database of the test's own
mariadb_engine    an Engine on a MariaDB database of the test's own
engine            all three, one after the other
shared_engine     all three, one database for all tests of a module: for hypothesis
module_database   the URL of one PostgreSQL database for all tests of a module
created           `with created(engine, metadata):` makes the tables, and drops them at the end
emptied           `with emptied(metadata):` has the tables in `shared_engine`, empty; they are kept for the next example
postgres_server   the server itself (url, description)
mariadb_server    likewise
own_postgres      a server for this test alone, to be stopped, killed and started again
shared_data       the directory with the small input files, which come with the tests
online_retail     the one large input file, which does not
draw              what this run draws (of selection.py)
"""

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mariadb
import pytest
from databases import (
    ANNOUNCED,
    USED,
    Databases,
    MariaDatabases,
    mariadb_database,
    online_retail_file,
    postgres_database,
    say_if_another_server_was_used,
    sqlite_file,
    tables_created,
    tables_kept,
)
from local_server import move_to_memory
from servers import LocalPostgres, PostgresServer, announce, local_bin_dir, start_server
from sqlalchemy import URL, Engine, MetaData

move_to_memory()  # before anybody asks where temporary files go
# A shell that starts us in the background has it ignored, and tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["accounts", "selection"]


def pytest_collection_finish() -> None:
    # Thousands of tests, which stay: no garbage collection needs to look through them again and again.
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> list[str]:
    # Announced, not started: a run of SQLite tests alone needs no server.
    config.stash[ANNOUNCED] = announce()
    return [f"postgresql: {config.stash[ANNOUNCED]}", f"mariadb: {mariadb.announce()}"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["postgresql"] = session.config.stash.get(USED, None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended, and says which server it has used, if any."""
    used = getattr(node, "workeroutput", {}).get("postgresql")
    if used is not None:
        node.config.stash[USED] = used


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    say_if_another_server_was_used(terminalreporter, config)


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    server = start_server()
    pytestconfig.stash[USED] = server.description
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: PostgresServer) -> Iterator[Databases]:
    databases = Databases(postgres_server.url)
    yield databases
    databases.close()


@pytest.fixture
def postgres_engine(postgres_databases: Databases) -> Iterator[Engine]:
    with postgres_database(postgres_databases) as engine:
        yield engine


@pytest.fixture(scope="module")
def module_database(postgres_databases: Databases) -> Iterator[URL]:
    with postgres_databases.fresh() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[PostgresServer]:
    server = mariadb.start_server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb_databases(mariadb_server: PostgresServer) -> Iterator[MariaDatabases]:
    databases = MariaDatabases(mariadb_server.url)
    yield databases
    databases.close()


@pytest.fixture
def mariadb_engine(mariadb_databases: MariaDatabases) -> Iterator[Engine]:
    with mariadb_database(mariadb_databases) as engine:
        yield engine


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    with sqlite_file(tmp_path / "test.db") as engine:
        yield engine


ENGINES = {"sqlite": "sqlite_engine", "postgresql": "postgres_engine", "mariadb": "mariadb_engine"}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    # Asked for by name: fixtures in the signature would start the servers for SQLite's part too.
    chosen: Engine = request.getfixturevalue(ENGINES[request.param])
    return chosen


@pytest.fixture(scope="module", params=list(ENGINES))
def shared_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "sqlite":
        database = sqlite_file(tmp_path_factory.mktemp("shared") / "shared.db")
    elif request.param == "mariadb":
        database = mariadb_database(request.getfixturevalue("mariadb_databases"))
    else:
        database = postgres_database(request.getfixturevalue("postgres_databases"))
    with database as engine:
        yield engine


@pytest.fixture(scope="session")
def created() -> Callable[[Engine, MetaData], AbstractContextManager[None]]:
    return tables_created


@pytest.fixture(scope="module")
def emptied(shared_engine: Engine) -> Iterator[Callable[[MetaData], AbstractContextManager[None]]]:
    with tables_kept(shared_engine) as kept:
        yield kept.emptied


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    with LocalPostgres(local_bin_dir()) as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return Path(__file__).resolve().parent / "data"


@pytest.fixture(scope="session")
def online_retail() -> Path:
    return online_retail_file()
