"""What PostgreSQL does otherwise."""

from __future__ import annotations

import logging
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.schema import ColumnCollectionConstraint

from batchwrite.errors import BatchWriteError, ConfigurationError
from batchwrite.sinks.dialects import DialectRules, NotReplicated
from batchwrite.sinks.lent import LentRules
from batchwrite.sinks.postgresql.names import EQUALS, JOINED, TEXT
from batchwrite.sinks.postgresql.notices import leaves_doubt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Constraint, Table

# The names of the constraints that wait for COMMIT, as they are written in SQL.
DEFERRED = f"""
SELECT pg_catalog.quote_ident(n.nspname::{TEXT}) {JOINED} '.' {JOINED} pg_catalog.quote_ident(c.conname::{TEXT}) AS name
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid {EQUALS} c.connamespace
WHERE c.condeferred AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
"""

# What the names that PostgreSQL makes up for constraints end in.
_SUFFIXES: dict[type, str] = {
    sqlalchemy.PrimaryKeyConstraint: "pkey",
    sqlalchemy.UniqueConstraint: "key",
    sqlalchemy.ForeignKeyConstraint: "fkey",
}

# Connections speak UTF-8 while a chunk is written. In other encodings Python and the server do not always mean the same
# characters: Python's codecs for EUC_JP, SJIS and SHIFT_JIS_2004 write U+00A5 (the yen sign) as the byte of a
# backslash, so that what was escaped as a text escapes something else as bytes; and psycopg escapes the elements of
# arrays as bytes, although in SJIS, BIG5, GBK and others the second byte of a character may be that of a backslash.
_SPEAK_UTF8 = "SET LOCAL client_encoding TO 'UTF8'"

_MARK = "SELECT pg_catalog.pg_logical_emit_message(true, 'batchwrite', ''::pg_catalog.text)"

# Encodings of databases that the server cannot convert to UTF-8.
_NOT_CONVERTED = frozenset({b"SQL_ASCII", b"MULE_INTERNAL"})

# Encodings of which Python's codecs write other characters as ASCII ones, or the other way round: all there are, which
# tests/postgresql/test_encodings.py proves over all of Unicode.
UNFAITHFUL = frozenset({"euc_jp", "shift_jis", "shift_jis_2004"})

_is_expecting = threading.local()


class _QuietPipeline(logging.Filter):
    """Drops psycopg's warning that a pipeline ended in an error, for errors that are handled here.

    `executemany` sends a pipeline, and a refused row is nothing to warn of: the fallback tells which it was.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not (getattr(_is_expecting, "now", False) and record.msg.startswith("error ignored terminating"))


_quiet_pipeline = _QuietPipeline()


class PostgresqlRules(DialectRules):
    """PostgreSQL through any driver."""

    locks_rows = True
    text_is_exact = True
    adds_intervals = True

    def __init__(self) -> None:
        self._deferred: tuple[str, ...] | None = None
        self._is_in_doubt = False  # whether something may be committed that no standby has yet
        self._marked: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._thresholds: dict[Connection, tuple[Any, int | None]] = {}
        logging.getLogger("psycopg").addFilter(_quiet_pipeline)  # once: a logger ignores a filter that it has

    def begin(self, connection: Connection) -> None:
        """Begin, and learn once which constraints of the database wait for COMMIT."""
        super().begin(connection)
        self._speak_utf8(connection)
        if self._deferred is None:
            self._learn_deferred(connection)

    def _speak_utf8(self, connection: Connection) -> str | None:
        """Have the connection speak UTF-8 until the transaction ends; the encoding before, if it was another.

        Raises:
            ConfigurationError: Its encoding changes texts, and the database has none that could be converted to.
        """
        raw: Any = connection.connection.driver_connection
        libpq = getattr(raw, "pgconn", None)  # psycopg's; asyncpg has no other encoding
        if libpq is None:
            return None
        encoding = libpq.parameter_status(b"client_encoding")
        if encoding in {None, b"UTF8"}:
            return None
        if libpq.parameter_status(b"server_encoding") not in _NOT_CONVERTED:
            connection.exec_driver_sql(_SPEAK_UTF8)
            return str(encoding.decode())
        if raw.info.encoding in UNFAITHFUL:
            raise ConfigurationError(
                f"the connection's client_encoding, {encoding.decode()}, has one byte for several characters, so that "
                "texts would be stored as others: set client_encoding to UTF8"
            )
        return None

    @property
    def checks_late(self) -> bool:
        """Whether there are constraints that wait for COMMIT unless told otherwise."""
        return bool(self._deferred)

    def end(self, connection: Connection) -> None:
        """Let psycopg prepare statements again as it did."""
        raw, threshold = self._thresholds.pop(connection, (None, None))
        if raw is not None:
            raw.prepare_threshold = threshold

    def begin_fallback(self, connection: Connection) -> None:
        """Learn it again: a chunk may have failed for a constraint that is new."""
        self._learn_deferred(connection)
        self._prepare_nothing(connection)

    def _prepare_nothing(self, connection: Connection) -> None:
        """Keep psycopg from preparing statements, where a transaction goes on after one has failed.

        Its `executemany` sends many at once, and the server leaves out all behind the one that fails. Where one of
        these was to be prepared, as of rows with other types of values are, psycopg takes it for prepared all the same,
        and the next that is like it fails (26000). A ROLLBACK makes psycopg forget; a ROLLBACK TO SAVEPOINT whose text
        it has seen before does not.
        """
        raw: Any = connection.connection.driver_connection
        if connection not in self._thresholds and hasattr(raw, "prepare_threshold"):
            self._thresholds[connection] = (raw, raw.prepare_threshold)
            raw.prepare_threshold = None

    def _learn_deferred(self, connection: Connection) -> None:
        self._deferred = tuple(name for (name,) in connection.exec_driver_sql(DEFERRED))

    @contextmanager
    def expecting_errors(self) -> Iterator[None]:
        """Keep psycopg from logging errors that are handled here."""
        _is_expecting.now = True
        try:
            yield
        finally:
            _is_expecting.now = False

    def before_bulk(self, connection: Connection) -> None:
        """Check deferred constraints at once: a later item could mend what an earlier one must fail for."""
        if self._deferred:
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def begin_item(self, connection: Connection) -> None:
        """Let constraints wait for the end of the item that are declared to wait for the end of its transaction."""
        if self._deferred:
            statement = f"SET CONSTRAINTS {', '.join(self._deferred)} DEFERRED"
            connection.exec_driver_sql(self.escaped(connection, statement))

    def end_item(self, connection: Connection) -> None:
        """Check the constraints that wait."""
        if self._deferred:
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def before_commit(self, connection: Connection) -> None:
        """Refuse to commit a transaction that an error has ended: its COMMIT would "succeed" and keep nothing.

        Raises:
            BatchWriteError: An error in the transaction was overlooked; nothing of it is kept.
        """
        raw: Any = connection.connection.driver_connection
        status = getattr(getattr(raw, "info", None), "transaction_status", None)
        name = getattr(status, "name", "INTRANS")
        if name != "INTRANS" or not connection.in_transaction():
            raise BatchWriteError(f"the transaction is {name} where it should be ready to be committed")
        if self._is_in_doubt and not self.is_lent:
            self._mark(connection)

    def note_doubt(self) -> None:
        """Read nothing any more that may be lost at a failover, until a COMMIT shows that it will not be."""
        self._is_in_doubt = True

    def commit(self, connection: Connection) -> None:
        """Commit the transaction.

        Raises:
            NotReplicated: It is committed, and may be lost.
        """
        raw: Any = connection.connection.driver_connection
        is_marked = connection in self._marked
        self._marked.discard(connection)
        if not hasattr(raw, "add_notice_handler"):  # psycopg's
            super().commit(connection)
            return
        doubts: list[bool] = []

        def hear(notice: Any) -> None:
            doubts.append(leaves_doubt(notice))  # at once: it holds nothing afterwards

        raw.add_notice_handler(hear)
        try:
            super().commit(connection)
        finally:
            raw.remove_notice_handler(hear)
        if any(doubts):
            raise NotReplicated
        if is_marked:
            self._is_in_doubt = False

    def _mark(self, connection: Connection) -> None:
        """Write a mark into the server's log: once COMMIT is answered, all that was committed before is replicated.

        What was read may have been committed without being replicated, and COMMIT waits for no standby where nothing
        was written.
        """
        savepoint = connection.begin_nested()
        try:
            connection.exec_driver_sql(_MARK)
        except ProgrammingError:  # a server that is PostgreSQL in name only: what is read has to do
            savepoint.rollback()
        else:
            savepoint.commit()
            self._marked.add(connection)

    def constraint_name(self, constraint: Constraint) -> str | None:
        """The name, or else the one that PostgreSQL makes up."""
        name = super().constraint_name(constraint)
        if name is not None or type(constraint) not in _SUFFIXES or constraint.table is None:
            return name
        middle: list[str] = []
        if isinstance(constraint, ColumnCollectionConstraint) and _SUFFIXES[type(constraint)] != "pkey":
            middle = [column.name for column in constraint.columns]
        return "_".join([constraint.table.name, *middle, _SUFFIXES[type(constraint)]])

    def insert(self, table: Table) -> Any:
        """PostgreSQL's INSERT with ON CONFLICT."""
        return postgresql.insert(table)


class LentPostgresqlRules(LentRules, PostgresqlRules):
    """PostgreSQL in somebody else's transaction."""

    def __init__(self) -> None:
        super().__init__()
        self._encodings: weakref.WeakKeyDictionary[Connection, str] = weakref.WeakKeyDictionary()

    def begin(self, connection: Connection) -> None:
        """Begin; whatever fails is undone by a savepoint."""
        super().begin(connection)
        self._prepare_nothing(connection)

    def _speak_utf8(self, connection: Connection) -> str | None:
        encoding = super()._speak_utf8(connection)
        if encoding is not None:
            self._encodings[connection] = encoding
        return encoding

    def commit(self, connection: Connection) -> None:
        """Release the savepoint, with the encoding as it was; going back to it undoes that, too."""
        encoding = self._encodings.pop(connection, None)
        if encoding is not None:
            connection.exec_driver_sql(f"SET LOCAL client_encoding TO '{encoding}'")
        super().commit(connection)

    @property
    def checks_late(self) -> bool:
        """No: what waits for COMMIT goes on waiting."""
        return False

    @property
    def has_deferred(self) -> bool:
        """Whether there are constraints that wait for COMMIT."""
        return bool(self._deferred)
