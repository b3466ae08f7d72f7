"""What SQLite does otherwise."""

from __future__ import annotations

import sqlite3
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import sqlite

from batchwrite.errors import ConfigurationError
from batchwrite.sinks.dialects import DialectRules
from batchwrite.sinks.lent import LentRules

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


class SqliteRules(DialectRules):
    """SQLite through Python's `sqlite3`."""

    nan_becomes_null = True
    text_is_exact = True
    overflows_into_real = True
    keeps_sqlite_order = True

    def __init__(self) -> None:
        self._isolation_levels: weakref.WeakKeyDictionary[Connection, Any] = weakref.WeakKeyDictionary()
        self._deferring: tuple[str, ...] | None = None
        self._broken_before: frozenset[tuple[Any, ...]] = frozenset()

    def begin(self, connection: Connection) -> None:
        """Begin at once and for writing: a transaction that begins reading can fail with BUSY when it writes.

        `sqlite3` begins transactions by itself and only before some statements, so that a SAVEPOINT may stand
        outside of any; that is switched off for as long as the chunk lasts.
        """
        super().begin(connection)
        raw: Any = connection.connection.dbapi_connection
        if hasattr(raw, "isolation_level"):
            self._isolation_levels[connection] = raw.isolation_level
            raw.isolation_level = None
        connection.begin()
        if not _is_in_transaction(
            connection
        ):  # it is where the engine has a listener that begins, as SQLAlchemy's manual advises
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def end(self, connection: Connection) -> None:
        """Give `sqlite3` its own way of beginning transactions back."""
        if connection in self._isolation_levels:
            level = self._isolation_levels.pop(connection)
            if not connection.invalidated:
                raw: Any = connection.connection.dbapi_connection
                raw.isolation_level = level

    def rollback(self, connection: Connection) -> None:
        """Undo the transaction by the driver too: after a COMMIT that failed SQLAlchemy takes it for ended."""
        connection.rollback()
        if _is_in_transaction(connection):
            connection.connection.rollback()

    def has_undone_all(self, connection: Connection) -> bool:
        """Yes where a constraint or a trigger says so: `ON CONFLICT ROLLBACK`, `RAISE(ROLLBACK, …)`."""
        return not _is_in_transaction(connection)

    def no_bulk_because(self, connection: Connection) -> str | None:
        """Foreign keys that wait for COMMIT: a later item could mend what an earlier one must fail for."""
        if self._deferring is None:
            query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%DEFERRED%'"
            self._deferring = tuple(str(name) for (name,) in connection.exec_driver_sql(query))
        if not self._checks_late(connection):
            return None
        return f"foreign keys of {', '.join(self._deferring)} are checked at COMMIT only"

    def _checks_late(self, connection: Connection) -> bool:
        """Whether there are foreign keys that wait for COMMIT, and are checked at all."""
        return bool(self._deferring) and bool(connection.exec_driver_sql("PRAGMA foreign_keys").scalar())

    def begin_fallback(self, connection: Connection) -> None:
        """Note the rows whose deferred foreign keys are broken already: they are no item's fault."""
        self._broken_before = self._broken(connection)

    def end_item(self, connection: Connection) -> None:
        """Look for rows whose deferred foreign keys are broken; SQLite itself says only at COMMIT that there are some.

        The whole table is looked at each time: slow for a large one, but nothing else tells.

        Raises:
            sqlite3.IntegrityError: There are some that were not there before; it is the error of such a COMMIT.
        """
        if self._checks_late(connection) and self._broken(connection) - self._broken_before:
            error = sqlite3.IntegrityError("FOREIGN KEY constraint failed")
            error.sqlite_errorname = "SQLITE_CONSTRAINT_FOREIGNKEY"
            raise error

    def _broken(self, connection: Connection) -> frozenset[tuple[Any, ...]]:
        quote = connection.dialect.identifier_preparer.quote_identifier
        return frozenset(
            tuple(row)
            for table in self._deferring or ()
            for row in connection.exec_driver_sql(f"PRAGMA foreign_key_check({quote(table)})")
        )

    def insert(self, table: Table) -> Any:
        """SQLite's INSERT with ON CONFLICT."""
        return sqlite.insert(table)


class LentSqliteRules(LentRules, SqliteRules):
    """SQLite in somebody else's transaction."""

    def begin(self, connection: Connection) -> None:
        """Set the chunk's savepoint in a transaction: outside of any, releasing it would commit."""
        DialectRules.begin(self, connection)
        self.start(connection)
        self._savepoints[connection] = connection.begin_nested()

    def start(self, connection: Connection) -> None:
        """Begin, for writing, where nothing but SQLAlchemy has: `sqlite3` begins before some statements only."""
        if not connection.in_transaction():
            connection.begin()
        if not _is_in_transaction(connection):
            raw: Any = connection.connection.dbapi_connection
            if getattr(raw, "isolation_level", "") is None:
                raise ConfigurationError(
                    "the connection is set to AUTOCOMMIT, in which nobody would commit: set another isolation level"
                )
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_in_transaction(connection: Connection) -> bool:
    """Whether SQLite itself is in a transaction; what an event loop's driver is wrapped in does not tell."""
    raw: Any = connection.connection.driver_connection
    return bool(raw.in_transaction)
