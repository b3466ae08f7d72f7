"""Opening a database for a command, and finding a table in it."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import JSON, Float, MetaData, Numeric, Table, inspect, text
from sqlalchemy.exc import NoSuchTableError, SAWarning, SQLAlchemyError
from sqlalchemy.types import NullType

from batchwrite.cli.errors import CommandError, WrongUsage, ending_with
from batchwrite.database import create_engine_for
from batchwrite.errors import ConfigurationError
from batchwrite.faults import classify, secrets_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine, Inspector

_LISTED_TABLES = 20


@contextmanager
def open_database(url: str) -> Iterator[Engine]:
    """An engine for a URL, disposed of at the end.

    Raises:
        WrongUsage: The URL cannot be used, or names a SQLite file that does not exist: none is made.
    """
    with ending_with(WrongUsage, ConfigurationError):
        engine = create_engine_for(url)
    path = sqlite_file(engine)
    if path is not None and not path.exists():
        raise WrongUsage(f"no such file: {path}")
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def database_errors(engine: Engine) -> Iterator[None]:
    """End the command in one line where the database cannot be used.

    Raises:
        CommandError: It cannot.
        NoSuchTableError: As it came: the caller knows better what to say of it.
    """
    try:
        yield
    except NoSuchTableError:
        raise
    except (SQLAlchemyError, OSError) as error:
        message = classify(error, scrub=secrets_in(engine.url), has_rows=False).message
        raise CommandError(f"cannot use the database: {message}") from error


def sqlite_file(engine: Engine) -> Path | None:
    """The file of a SQLite database; `None` for one in memory, or of another kind."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or ":memory:" in name or engine.url.query.get("mode") == "memory":
        return None
    return Path(name.removeprefix("file:"))


def reflect_table(engine: Engine, name: str) -> Table:
    """The table of a name, `schema.table` or `table`, as the database describes it.

    Raises:
        CommandError: There is no such table (wrong usage), or the database cannot be reached (failed).
    """
    try:
        with database_errors(engine), engine.connect() as connection, warnings.catch_warnings():
            # A column of a type that SQLAlchemy does not know is fed with text: nothing to warn of.
            warnings.simplefilter("ignore", SAWarning)
            schema, table_name = _find_table(inspect(connection), name)
            # Other tables are not looked at: there may be hundreds, and foreign keys are the database's to check.
            table = Table(table_name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
            if engine.dialect.name == "sqlite":
                _forget_guessed_types(connection, table)
    except NoSuchTableError as error:
        raise WrongUsage(f"no table {name!r} in the database") from error
    for column in table.columns:
        if isinstance(column.type, JSON):
            column.type.none_as_null = True  # a field without a value is NULL, here as in every other column
    return table


def _forget_guessed_types(connection: Connection, table: Table) -> None:
    """Take back that a column is numeric where that is only a guess: SQLite accepts any word as a type.

    A `STRING` or `UUID` has numeric affinity there, but that does not keep text out.
    """
    query = text("SELECT name, type FROM pragma_table_xinfo(:name, :schema)")
    declared = connection.execute(query, {"name": table.name, "schema": table.schema or "main"})
    known = getattr(connection.dialect, "ischema_names", {})
    for name, type_name in declared:
        word = type_name.upper().partition("(")[0].strip()
        if name not in table.columns or word in known:
            continue
        column = table.columns[name]
        if isinstance(column.type, Numeric) and not isinstance(column.type, Float):  # a Float is one in SQLAlchemy 2.0
            column.type = NullType()


def _find_table(inspector: Inspector, name: str) -> tuple[str | None, str]:
    """Schema and table; looked up among those that exist, since a dot may also belong to a name."""
    present = _tables(inspector, None)
    if name in present:
        return None, name
    schemas = inspector.get_schema_names()
    for position, character in enumerate(name):
        schema, table = name[:position], name[position + 1 :]
        if character == "." and schema in schemas and table in _tables(inspector, schema):
            return schema, table
    listed = ", ".join(map(repr, present[:_LISTED_TABLES])) or "none"
    more = f" and {len(present) - _LISTED_TABLES} more" if len(present) > _LISTED_TABLES else ""
    raise WrongUsage(f"no table {name!r} in the database; its tables are: {listed}{more}")


def _tables(inspector: Inspector, schema: str | None) -> list[str]:
    return sorted({*inspector.get_table_names(schema), *inspector.get_view_names(schema)})
