"""Fixtures: real databases, fresh for each test, and the proof that each test gave its connections back.

sqlite_engine     an Engine on a SQLite file, foreign keys enforced
postgres_engine   an Engine on a PostgreSQL database of the test's own
engine            both, one after the other
shared_engine     both, one database for all tests of a module: for hypothesis, an example makes its own tables
created           `with created(shared_engine, metadata):` makes the tables, and drops them at the end
postgres_server   the server itself (url, description)
own_postgres      a server for this test alone, to be stopped, killed and started again
shared_data       the directory with the small input files, which come with the tests
online_retail     the one large input file, which does not
"""

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from servers import LocalPostgres, PostgresServer, announce, local_bin_dir, start_server
from sqlalchemy import URL, Engine, MetaData, create_engine, event

DATA_VARIABLE = "BATCHWRITE_SHARED_DATA"
PROFILE_VARIABLE = "BATCHWRITE_HYPOTHESIS_PROFILE"

settings.register_profile(
    "default",
    deadline=None,  # an example talks to a database; how long that takes says nothing
    print_blob=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1_000)
settings.load_profile(os.environ.get(PROFILE_VARIABLE, "default"))

ANNOUNCED = pytest.StashKey[str]()
USED = pytest.StashKey[str]()


def pytest_report_header(config: pytest.Config) -> str:
    # Announced, not started: a run of SQLite tests alone needs no server.
    description = announce()
    config.stash.setdefault(ANNOUNCED, description)
    return f"postgresql: {description}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used = config.stash.get(USED, None)
    if used is not None and used != config.stash.get(ANNOUNCED, used):
        terminalreporter.write_line(f"postgresql: used {used}, as the one in the header did not start", yellow=True)


class Databases:
    """Databases on one server, each a copy of one template, under names that no other run uses."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._admin = create_engine(server, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._prefix = f"batchwrite_test_{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self.template = f"{self._prefix}_template"
        # From template0 and in one locale, so that a user's server behaves like one that we made.
        self._execute(f"CREATE DATABASE {self.template} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")

    @contextmanager
    def fresh(self) -> Iterator[URL]:
        """A new database, dropped afterwards even if somebody is still connected to it."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
        try:
            yield self._server.set(database=name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._execute(f"DROP DATABASE {self.template} WITH (FORCE)")
        self._admin.dispose()

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


def assert_all_returned(engine: Engine) -> None:
    held = engine.pool.checkedout()
    assert held == 0, f"{held} connection(s) were not given back to the pool of {engine!r}"


@contextmanager
def watched(engine: Engine) -> Iterator[Engine]:
    """Hands the engine out, and afterwards requires that its pool has everything back."""
    try:
        yield engine
        assert_all_returned(engine)
    finally:
        engine.dispose()


@contextmanager
def tables_created(engine: Engine, metadata: MetaData) -> Iterator[None]:
    """Makes the tables for one example of a property test, which has no fixtures of its own."""
    metadata.create_all(engine)
    try:
        yield
    finally:
        if not engine.pool.checkedout():  # else the drop would wait for that connection's locks, for ever
            metadata.drop_all(engine)
    assert_all_returned(engine)


@contextmanager
def sqlite_file(path: Path) -> Iterator[Engine]:
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", enforce_foreign_keys)
    with watched(engine):
        yield engine


def enforce_foreign_keys(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


@contextmanager
def postgres_database(databases: Databases) -> Iterator[Engine]:
    with databases.fresh() as url, watched(create_engine(url)) as engine:
        yield engine


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


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    with sqlite_file(tmp_path / "test.db") as engine:
        yield engine


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    # Asked for by name: a fixture in the signature would start the server for the SQLite half too.
    chosen: Engine = request.getfixturevalue("sqlite_engine" if request.param == "sqlite" else "postgres_engine")
    return chosen


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "sqlite":
        database = sqlite_file(tmp_path_factory.mktemp("shared") / "shared.db")
    else:
        database = postgres_database(request.getfixturevalue("postgres_databases"))
    with database as engine:
        yield engine


@pytest.fixture(scope="session")
def created() -> Callable[[Engine, MetaData], AbstractContextManager[None]]:
    return tables_created


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


def online_retail_file() -> Path:
    named = os.environ.get(DATA_VARIABLE)
    directory = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    path = directory / "online_retail.csv.xz"
    if path.is_file():
        return path
    if named:
        pytest.fail(f"{path} is not there: {DATA_VARIABLE} names the directory to find it in")
    # No server is wanting, only 3 MB that do not belong in a repository; CI sets the variable.
    pytest.skip(f"the Online Retail file is not there: {DATA_VARIABLE} may name its directory")
