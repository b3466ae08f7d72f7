"""Where a bench writes: a schema of its own on PostgreSQL, tables with a prefix of their own on SQLite."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Engine, MetaData, inspect, text

from batchwrite.database import create_engine_for
from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from batchwrite.bench.proxy import Target

SCHEMA = "batchwrite_bench"
_MARK = "made by batchwrite bench, which drops it"
_DEFAULT_PORT = 5432


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database and what part of it is the bench's.

    Attributes:
        engine: For making tables and looking at them; connects directly.
        url: What the contenders connect to, which may be further away.
        schema: Where tables go, if the database has schemas.
    """

    engine: Engine
    url: URL
    schema: str | None

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL; else it is SQLite."""
        return self.schema is not None

    @property
    def conninfo(self) -> str:
        """The URL as libpq and asyncpg read it; it holds the password."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def server(self) -> Target:
        """Where the server listens, for a proxy."""
        host = self.url.host or _single(self.url, "host") or "/var/run/postgresql"
        port = self.url.port or int(_single(self.url, "port") or _DEFAULT_PORT)
        return str(Path(host) / f".s.PGSQL.{port}") if host.startswith("/") else (host, port)

    def through(self, port: int) -> Place:
        """The same by way of a proxy on this machine."""
        url = self.url.difference_update_query(["host", "port"]).set(host="127.0.0.1", port=port)
        return replace(self, url=url)

    def metadata(self) -> MetaData:
        """For tables in the bench's part of the database."""
        return MetaData(schema=self.schema)

    def name(self, table: str) -> str:
        """What a table of that name is called here."""
        return table if self.schema else f"{SCHEMA}_{table}"

    def version(self) -> str:
        """The server and its version."""
        with self.engine.connect() as connection:
            if self.is_postgresql:
                version = str(connection.scalar(text("SHOW server_version"))).split()[0]
                return f"PostgreSQL {version} {'on a Unix socket' if isinstance(self.server, str) else 'by TCP'}"
            return f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"


def _single(url: URL, name: str) -> str | None:
    value = url.query.get(name)
    return value if isinstance(value, str) else None


@contextmanager
def opened_place(url: URL | str) -> Iterator[Place]:
    """The bench's part of a database, made for the block and removed after it.

    Raises:
        ConfigurationError: The URL cannot be used, it is neither PostgreSQL nor SQLite, somebody else's schema has
            the bench's name, or another bench is at work in the database.
    """
    engine = create_engine_for(url)
    try:
        if engine.dialect.name == "sqlite":
            try:
                yield Place(engine=engine, url=engine.url, schema=None)
            finally:
                _drop_own_tables(engine)
        elif engine.dialect.name == "postgresql":
            with engine.connect() as connection, _own_schema(connection):
                psycopg_url = engine.url.set(drivername="postgresql+psycopg")
                yield Place(engine=engine, url=psycopg_url, schema=SCHEMA)
        else:
            raise ConfigurationError(f"the bench knows PostgreSQL and SQLite, and this is {engine.dialect.name}")
    finally:
        engine.dispose()


@contextmanager
def _own_schema(connection: Connection) -> Iterator[None]:
    # The lock belongs to the session, so it is held as long as the connection.
    if not connection.scalar(text("SELECT pg_try_advisory_lock(hashtext(:name))"), {"name": SCHEMA}):
        raise ConfigurationError("another bench is at work in this database")
    comment = text("SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = :name")
    if connection.scalar(comment, {"name": SCHEMA}) not in {None, _MARK}:
        raise ConfigurationError(f"the database has a schema {SCHEMA} that the bench has not made: it stays away")
    _execute(
        connection,
        f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
        f"CREATE SCHEMA {SCHEMA}",
        f"COMMENT ON SCHEMA {SCHEMA} IS '{_MARK}'",
    )
    try:
        yield
    finally:
        _execute(connection, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def _drop_own_tables(engine: Engine) -> None:
    with engine.begin() as connection:
        for name in inspect(connection).get_table_names():
            if name.startswith(f"{SCHEMA}_"):
                connection.execute(text(f'DROP TABLE "{name}"'))


def _execute(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(text(statement))
    connection.commit()
