"""Talking to PostgreSQL through libpq without waiting: each conversation is a generator.

A generator yields whenever it would have to wait: true where it waits to send as well as to receive, false where it
waits to receive only. Whoever drives it resumes it when the socket is ready, so that the same conversation can go on
while its caller does something else.
"""

from __future__ import annotations

import json
import logging
import selectors
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import errors, pq

from batchwrite.errors import BatchWriteError
from batchwrite.sinks.postgresql.names import EQUALS
from batchwrite.sinks.postgresql.notices import leaves_doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from psycopg.errors import Diagnostic
    from psycopg.pq.abc import PGconn, PGresult

IDLE = pq.TransactionStatus.IDLE
LinkError = errors.OperationalError
"""What psycopg raises where the connection is lost."""

_FAILED = frozenset({pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.PIPELINE_ABORTED})


_MOST_RESULTS_BEFORE_LAST_WORDS = 100

# What libpq gathers in a pipeline before it sends something of its own accord.
_BYTES_TO_GATHER = 65_536

_log = logging.getLogger("batchwrite.sql")


def _note(sql: bytes) -> None:
    """Log a statement that SQLAlchemy's own log does not see. Names stand in it, values do not.

    Of a block of many lines the first will do: below it are the constraints of tables, and what these quote.
    """
    if _log.isEnabledFor(logging.DEBUG):
        text, _, _ = sql.decode(errors="replace").partition("\n")
        _log.debug("%s", text, extra={"action": "statement"})


class Statement(NamedTuple):
    """A statement with its parameters, in text format; parameters stand for arrays of texts, or texts.

    Attributes:
        sql: The statement.
        parameters: The parameters.
    """

    sql: bytes
    parameters: Sequence[bytes | None] = ()


def insert_of(table: str, rows: Sequence[Mapping[str, Any]], quote: Callable[[str], str]) -> Statement:
    """The statement that inserts rows whose values can go into JSON, and which have the same columns.

    Args:
        table: The table's name, as it is written in SQL.
        rows: The rows.
        quote: Writes a column's name in SQL.
    """
    columns = ", ".join(map(quote, rows[0]))
    source = f"pg_catalog.json_populate_recordset(NULL::{table}, $1::pg_catalog.json)"
    sql = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {source} AS source"
    return Statement(sql.encode(), [json.dumps(list(map(dict, rows))).encode()])


def delete_of(table: str, rows: Sequence[Mapping[str, Any]], quote: Callable[[str], str]) -> Statement:
    """The statement that deletes the rows that `insert_of` has inserted; none of their values is missing."""
    same = " AND ".join(f"target.{quote(name)} {EQUALS} source.{quote(name)}" for name in rows[0])
    source = f"pg_catalog.json_populate_recordset(NULL::{table}, $1::pg_catalog.json)"
    sql = f"DELETE FROM {table} AS target USING {source} AS source WHERE {same}"
    return Statement(sql.encode(), [json.dumps(list(map(dict, rows))).encode()])


_COMMIT = b"COMMIT"


@dataclass(slots=True)
class Commit:
    """A COMMIT that goes along with other statements.

    Args:
        on_begin: Called when there is nothing before it any more that the server could be busy with.

    Attributes:
        is_sent: Whether it may have reached the server.
        is_running: Whether all before it has been answered.
        is_warned: Whether the server has warned that what is committed may be lost.
    """

    on_begin: Callable[[], None]
    is_sent: bool = False
    is_running: bool = False
    is_warned: bool = False

    def begin(self) -> None:
        """All before it has been answered."""
        self.is_running = True
        self.on_begin()

    def hear(self, notice: Diagnostic) -> None:
        """Take in what the server says, unasked, beside its answers."""
        self.is_warned |= self.is_running and leaves_doubt(notice)


class StatementFailed(Exception):
    """A statement of a conversation was refused; the cause is psycopg's exception.

    Attributes:
        number: Position of the statement, from 0.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"statement {number} failed")
        self.number = number


def _flush(connection: PGconn) -> Generator[bool, None, None]:
    """Send what libpq holds, taking in what the server sends: it may not read on before somebody takes that."""
    while connection.flush():
        yield True
        consume(connection)


def _next_result(connection: PGconn) -> Generator[bool, None, PGresult | None]:
    while connection.is_busy():
        yield False
        consume(connection)
    return connection.get_result()


def _has_ended(connection: PGconn) -> bool:
    """Whether the server has already closed a connection on which nothing is going on."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.socket, selectors.EVENT_READ)
        try:
            while selector.select(0):  # a notice first, perhaps, and then the end
                connection.consume_input()
        except errors.OperationalError:
            return True
    return False


def consume(connection: PGconn) -> None:
    """Take in what the server has sent; where it has ended the connection, raise what it said before it did."""
    try:
        connection.consume_input()
    except errors.OperationalError as error:
        for _ in range(_MOST_RESULTS_BEFORE_LAST_WORDS):
            result = connection.get_result()
            if result is not None and result.error_field(pq.DiagnosticField.SQLSTATE):
                raise errors.error_from_result(result) from error
        raise


def _raise_if_failed(result: PGresult, number: int, encoding: str) -> None:
    if result.status in _FAILED:
        raise StatementFailed(number) from errors.error_from_result(result, encoding=encoding)


def query(connection: PGconn, sql: bytes, encoding: str) -> Generator[bool, None, list[PGresult]]:
    """Statements without parameters, in one message: all results, up to a COPY that begins.

    Raises:
        StatementFailed: The server refused one, and so left out those after it.
    """
    _note(sql)
    connection.send_query(sql)
    yield from _flush(connection)
    results: list[PGresult] = []
    while (result := (yield from _next_result(connection))) is not None:
        results.append(result)
        if result.status == pq.ExecStatus.COPY_IN:
            return results
    for number, result in enumerate(results):
        _raise_if_failed(result, number, encoding)
    return results


def copy(connection: PGconn, pieces: Iterable[bytes], encoding: str) -> Generator[bool, None, None]:
    """The data of a COPY that has begun, to its end.

    Raises:
        StatementFailed: The server refused a row; the number is -1, that of no statement.
        Exception: What making a piece raises; the COPY is ended then, and its transaction is one that has failed.
    """
    made = iter(pieces)
    while True:
        try:
            piece = next(made, None)
        except Exception:
            yield from _end_copy(connection, b"a row could not be made")
            raise
        if piece is None:
            break
        connection.put_copy_data(piece)
        yield from _flush(connection)
    for result in (yield from _end_copy(connection)):
        _raise_if_failed(result, -1, encoding)


def _end_copy(connection: PGconn, failure: bytes | None = None) -> Generator[bool, None, list[PGresult]]:
    """The results of a COPY, of which this is the end, or which is given up."""
    connection.put_copy_end(failure)
    yield from _flush(connection)
    results: list[PGresult] = []
    while (result := (yield from _next_result(connection))) is not None:
        results.append(result)
    return results


def pipeline(
    connection: PGconn, statements: Sequence[Statement], encoding: str, commit: Commit | None = None
) -> Generator[bool, None, list[PGresult]]:
    """Statements sent one after the other without waiting for answers: one result each.

    Args:
        connection: The connection.
        statements: The statements.
        encoding: The connection's encoding.
        commit: A COMMIT to come after them.

    Raises:
        StatementFailed: The server refused one, and so left out those after it.
    """
    for sql, _ in statements:
        _note(sql)
    if commit is not None:
        _note(_COMMIT)
        statements = [*statements, Statement(_COMMIT)]
        if _has_ended(connection):
            raise errors.OperationalError("the server has ended the connection")
    connection.enter_pipeline_mode()
    results: list[PGresult] = []
    try:
        yield from _send(connection, statements, commit)
        yield from _gather(connection, results, commit, len(statements) - 1)
    except errors.OperationalError:
        _add_last_words(connection, results)
        _raise_if_any_failed(
            results, encoding, commit, len(statements) - 1
        )  # what a server says before it ends the connection says more
        raise
    connection.exit_pipeline_mode()
    _raise_if_any_failed(results, encoding, commit, len(statements) - 1)
    return results


def _send(connection: PGconn, statements: Sequence[Statement], commit: Commit | None) -> Generator[bool, None, None]:
    """Send all, what is little in one piece: a server that ends the connection at once can say why first.

    What is large has left before COMMIT is put behind it: a value that costs the connection leaves no doubt.
    """
    for number, (sql, parameters) in enumerate(statements, 1):
        if commit is not None and number == len(statements):
            connection.send_flush_request()  # the answers to all before it are to come while it may be waiting
            commit.is_sent = True
        connection.send_query_params(sql, list(parameters))  # psycopg 3.2 takes no other sequence
        if sum(map(len, filter(None, parameters))) > _BYTES_TO_GATHER:
            yield from _flush(connection)
    connection.pipeline_sync()
    yield from _flush(connection)


def _add_last_words(connection: PGconn, results: list[PGresult]) -> None:
    """What the server has answered before it ended the connection, and nobody has taken: in the statements' order."""
    if connection.status != pq.ConnStatus.BAD:
        return  # it might keep us waiting
    for _ in range(_MOST_RESULTS_BEFORE_LAST_WORDS):
        result = connection.get_result()
        if result is not None:
            if result.status in _FAILED and not result.error_field(pq.DiagnosticField.SQLSTATE):
                return  # libpq's own words: what the server has done with this statement is not known
            results.append(result)


def _raise_if_any_failed(
    results: Sequence[PGresult], encoding: str, commit: Commit | None, place_of_commit: int
) -> None:
    for number, result in enumerate(results):
        if commit is not None and result.status in _FAILED and number < place_of_commit:
            commit.is_sent = False  # the server leaves out what comes after a failure
        _raise_if_failed(result, number, encoding)


def _gather(
    connection: PGconn, results: list[PGresult], commit: Commit | None, place_of_commit: int
) -> Generator[bool, None, None]:
    """All results of a pipeline, one for each statement."""
    is_between = True  # the results of two statements, where nothing more would mean that the connection is dead
    while True:
        if commit is not None and len(results) == place_of_commit and not commit.is_running:
            commit.begin()
        result = yield from _next_result(connection)
        if result is None:
            if is_between:
                raise errors.OperationalError("the connection ended in the middle of a pipeline")
            is_between = True
            continue
        is_between = False
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return
        results.append(result)


def begin(connection: Any) -> bytes:
    """The statement that begins a transaction as a psycopg connection is set to."""
    words = ["BEGIN"]
    if connection.isolation_level is not None:
        words.append(f"ISOLATION LEVEL {connection.isolation_level.name.replace('_', ' ')}")
    if connection.read_only is not None:
        words.append("READ ONLY" if connection.read_only else "READ WRITE")
    if connection.deferrable is not None:
        words.append("DEFERRABLE" if connection.deferrable else "NOT DEFERRABLE")
    return " ".join(words).encode()


def commit(connection: PGconn, encoding: str) -> Generator[bool, None, None]:
    """COMMIT by itself.

    Raises:
        StatementFailed: The server refused.
        BatchWriteError: The transaction was one that cannot be committed.
    """
    (result,) = yield from query(connection, _COMMIT, encoding)
    require_committed(result)


def require_committed(result: PGresult) -> None:
    """Make sure that COMMIT was not answered by a rollback, as that of a failed transaction is, without an error.

    Raises:
        BatchWriteError: It was.
    """
    if result.command_status != b"COMMIT":
        raise BatchWriteError("the server answered COMMIT by a rollback")


def error_name(sqlstate: str) -> str:
    """The name of psycopg's exception for a code."""
    try:
        return errors.lookup(sqlstate).__name__
    except KeyError:
        return "DatabaseError"


def error_of(sqlstate: str, text: str) -> Exception:
    """Psycopg's exception for a code."""
    try:
        return errors.lookup(sqlstate)(text)
    except KeyError:
        return errors.DatabaseError(text)


def first_value(result: PGresult) -> Any:
    """The first column of the first row, as bytes, or nothing."""
    return result.get_value(0, 0) if result.ntuples else None
