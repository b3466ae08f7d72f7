"""Databases and input files for the tests; the fixtures in `conftest.py` hand them out."""

import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Engine,
    ForeignKeyConstraint,
    MetaData,
    NullPool,
    String,
    column,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles

DATA_VARIABLE = "BATCHWRITE_SHARED_DATA"
ANNOUNCED = pytest.StashKey[str]()
USED = pytest.StashKey[str]()

# Older releases of SQLAlchemy 2.0 take such a part of a name for a parameter, and make no statement for SQLite of it.
LIKE_A_PARAMETER = "%(name)s"
TAKES_NAMES_LIKE_PARAMETERS = LIKE_A_PARAMETER in str(
    select(column(LIKE_A_PARAMETER)).compile(dialect=sqlite.dialect())
)


def say_if_another_server_was_used(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used = config.stash.get(USED, None)
    if used is not None and used != config.stash.get(ANNOUNCED, used):
        reporter.write_line(f"postgresql: used {used}, as the one in the header did not start", yellow=True)


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


class MariaDatabases:
    """Databases on one MariaDB server, under names that no other run uses."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._admin = create_engine(server, pool_pre_ping=True)
        self._prefix = f"batchwrite_test_{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)

    @contextmanager
    def fresh(self) -> Iterator[URL]:
        """A new database, dropped afterwards, once nobody is connected to it any more."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
        try:
            yield self._server.set(database=name)
        finally:
            self._execute(f"DROP DATABASE {name}")

    def close(self) -> None:
        self._admin.dispose()

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


@compiles(String, "mysql", "mariadb")
def varchar_with_length(kind: String, compiler: Any, **options: Any) -> str:
    """A text without a length, as the tests of all databases have it, needs one on MariaDB."""
    return compiler.visit_VARCHAR(kind if kind.length else String(200, collation=kind.collation), **options)


@compiles(ForeignKeyConstraint, "mysql", "mariadb")
def foreign_key_checked_at_once(constraint: ForeignKeyConstraint, compiler: Any, **options: Any) -> str:
    """MariaDB has no foreign keys that wait for COMMIT: they are checked at once."""
    text: str = compiler.visit_foreign_key_constraint(constraint, **options)
    return text.replace(" DEFERRABLE INITIALLY DEFERRED", "")


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


class KeptTables:
    """Tables that serve one example after the other: emptied for each, and kept until others are wanted.

    Making and dropping tables takes a server longer than most examples.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: MetaData | None = None

    @contextmanager
    def emptied(self, metadata: MetaData) -> Iterator[None]:
        """Has the tables there, without a row, and afterwards requires that every connection is back."""
        assert_all_returned(self._engine)  # else a statement might wait for that connection's locks, for ever
        if self._kept is metadata:
            empty(self._engine, metadata)
        else:
            self.drop()
            _require_explicit_keys(metadata)
            metadata.create_all(self._engine, checkfirst=False)
            self._kept = metadata
        yield
        assert_all_returned(self._engine)

    def drop(self) -> None:
        if self._kept is not None:
            self._kept.drop_all(self._engine, checkfirst=False)
            self._kept = None


def _require_explicit_keys(metadata: MetaData) -> None:
    counted = [table.name for table in metadata.sorted_tables if table.autoincrement_column is not None]
    assert not counted, f"{counted} would count on from where they were, though they are emptied"


def empty(engine: Engine, metadata: MetaData) -> None:
    """Deletes all rows, of children first."""
    # MariaDB looks at each row by itself, and so does not delete all of a table that refers to itself.
    is_checked_by_row = engine.dialect.name in {"mysql", "mariadb"}
    with engine.begin() as connection:
        if is_checked_by_row:
            connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
        try:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        finally:
            if is_checked_by_row:
                connection.exec_driver_sql("SET SESSION foreign_key_checks = 1")


@contextmanager
def tables_kept(engine: Engine) -> Iterator[KeptTables]:
    """Keeps tables from example to example, and in the end requires that no other is left."""
    kept = KeptTables(engine)
    try:
        yield kept
    finally:
        if not engine.pool.checkedout():
            kept.drop()
    left = inspect(engine).get_table_names()
    assert left == [], f"{left} were left behind"


@contextmanager
def sqlite_file(path: Path) -> Iterator[Engine]:
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", set_up_sqlite)
    with watched(engine):
        yield engine


def set_up_sqlite(connection: Any, _record: object) -> None:
    """Foreign keys are enforced, and the file is not flushed: it outlives a killed process all the same."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()


ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+aiomysql"}


def async_engine_for(engine: Engine, driver: str | None = None, **options: Any) -> AsyncEngine:
    """An engine for asyncio, to the database of another."""
    chosen = driver or ASYNC_DRIVERS[engine.dialect.name]
    made = create_async_engine(engine.url.set(drivername=chosen), **options)
    if engine.dialect.name == "sqlite":
        event.listen(made.sync_engine, "connect", set_up_sqlite)
    return made


@contextmanager
def postgres_database(databases: Databases) -> Iterator[Engine]:
    with databases.fresh() as url, watched(create_engine(url)) as engine:
        yield engine


@contextmanager
def postgres_emptied(url: URL) -> Iterator[Engine]:
    """A database that serves one test after the other: made empty again afterwards, sooner than another is made."""
    try:
        with watched(create_engine(url)) as engine:
            yield engine
    finally:
        admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with admin.connect() as connection:
            for statement in _EMPTYING:
                connection.exec_driver_sql(statement)
        admin.dispose()


_END_OTHERS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_DROP_SCHEMAS = """
DO $$ DECLARE name text; BEGIN
FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
LOOP EXECUTE 'DROP SCHEMA ' || quote_ident(name) || ' CASCADE'; END LOOP; END $$
"""
_EMPTYING = (
    _END_OTHERS,
    _DROP_SCHEMAS,
    "CREATE SCHEMA public",
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
)


@contextmanager
def mariadb_database(databases: MariaDatabases) -> Iterator[Engine]:
    with databases.fresh() as url, watched(create_engine(url)) as engine:
        yield engine


def online_retail_file() -> Path:
    # No server is wanting, only 3 MB that do not belong in a repository; CI sets the variable.
    return file_beside_the_checkout("online_retail.csv.xz")


def file_beside_the_checkout(name: str) -> Path:
    """An input file that does not come along; its test is skipped where it is not there."""
    named = os.environ.get(DATA_VARIABLE)
    directory = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    path = directory / name
    if path.is_file():
        return path
    if named:
        pytest.fail(f"{path} is not there: {DATA_VARIABLE} names the directory to find it in")
    pytest.skip(f"{name} is not there: {DATA_VARIABLE} may name its directory")
