"""What went wrong, classified: is it the item's, the weather's, or the program's?

By SQLSTATE, by SQLite's error name, by MySQL's number and by the driver's own word on a lost connection; never by
exception class where a code exists, because `OperationalError` alone spans all kinds.

Source: the rules were gathered from real servers (PostgreSQL 15, SQLite 3.40, MariaDB 10.11); the SQLSTATE classes are
those of the PostgreSQL manual, appendix A.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sqlalchemy_errors

from batchwrite.codes import SQLITE_CODES, SQLSTATE_CLASSES, SQLSTATES
from batchwrite.errors import BatchWriteError, ItemRefused, text_of
from batchwrite.fault import Fault, FaultKind, FlushFailed
from batchwrite.faults_mysql import fault_of_mysql, mysql_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import URL


__all__ = ["Fault", "FaultKind", "FlushFailed", "classify", "reported_fault", "secrets_in"]

_SQLITE_NAMES = {
    5: "SQLITE_BUSY",
    6: "SQLITE_LOCKED",
    7: "SQLITE_NOMEM",
    10: "SQLITE_IOERR",
    13: "SQLITE_FULL",
    15: "SQLITE_PROTOCOL",
    18: "SQLITE_TOOBIG",
    19: "SQLITE_CONSTRAINT",
    20: "SQLITE_MISMATCH",
}
"""Names of SQLite's primary result codes, the last byte of any code. Source: SQLite manual, result codes."""

_PLAIN_WORDS = {
    "23502": "a value is missing for a column that must have one",
    "23503": "a foreign key has no matching row",
    "23505": "a row with the same unique key exists",
    "23514": "a check constraint refused the row",
    "23P01": "an exclusion constraint refused the row",
    "22000": "a value cannot be sent to the database as the column's type",
    "22001": "a text is too long for its column",
    "22003": "a number is out of range for its column",
    "22007": "a value is no date or time that the column can hold",
    "22008": "a date or time is out of range",
    "22021": "a text holds a character that the database's encoding cannot store",
    "22P02": "a value cannot be read as the column's type",
    "22P05": "a text holds a character that cannot be converted",
    "42501": "a policy of row-level security, or a right that the row asks for, refused it",
    "42804": "a value is of a type that the column cannot hold",
    "42846": "a value is of a type that the column cannot hold",
    "42883": "a value is of a type that cannot be compared with the column",
    "428C9": "a value is given for a column that the database generates",
    "54000": "a value is too large for an index or a row",
    "P0001": "a trigger or function refused the row",
    "SQLITE_CONSTRAINT_NOTNULL": "a value is missing for a column that must have one",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "a foreign key has no matching row",
    "SQLITE_CONSTRAINT_UNIQUE": "a row with the same unique key exists",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "a row with the same unique key exists",
    "SQLITE_CONSTRAINT_ROWID": "a row with the same unique key exists",
    "SQLITE_CONSTRAINT_CHECK": "a check constraint refused the row",
    "SQLITE_CONSTRAINT_TRIGGER": "a trigger refused the row",
    "SQLITE_MISMATCH": "a value has a type that the column cannot hold",
    "SQLITE_TOOBIG": "a value is larger than the database allows",
    "SQLITE_CONSTRAINT_DATATYPE": "a value has a type that the column cannot hold",
}

_CHECK_VIOLATION = "23514"

# Texts of these name settings or servers, which a person needs to act on, but never a row's values. Those of 42, 3F and
# others name tables, but may as well quote a value that was looked up as a name.
_SHOWN_CLASSES = frozenset({"08", "25", "28", "3D", "40", "53", "57", "58"})


def secrets_in(url: URL) -> tuple[str, ...]:
    """What a database URL says that must not be shown: its password, wherever it stands."""
    named = [value for name, value in url.query.items() if "password" in name.lower()]
    texts = [url.password, *(text for value in named for text in ([value] if isinstance(value, str) else value))]
    return tuple(text for text in texts if text)


def classify(
    error: BaseException,
    *,
    is_disconnect: bool = False,
    scrub: Iterable[str] = (),
    while_writing: bool = False,
    has_rows: bool = True,
) -> Fault:
    """What an exception means, for any database reached through SQLAlchemy.

    Args:
        error: What was raised, by SQLAlchemy, by a driver, or while a value was converted.
        is_disconnect: What the dialect says of it (see `sqlalchemy.engine.Dialect.is_disconnect`).
        scrub: Passwords to strike out of texts that are shown (see `secrets_in`).
        while_writing: Whether it was raised while values were written: what has no code is the values' fault then.
        has_rows: Whether rows were sent, so that the text of the exception may quote them.
    """
    if isinstance(error, ItemRefused):
        return _from_refusal(error)
    original = error.orig if isinstance(error, sqlalchemy_errors.StatementError) else error
    original = original or error
    lost = is_disconnect or bool(getattr(error, "connection_invalidated", False))
    sqlstate = getattr(original, "sqlstate", None)
    number = mysql_number(original)
    if number is not None:  # before the SQLSTATE that PyMySQL has since 1.2: HY000 may be anything
        fault = fault_of_mysql(number, original)
    elif sqlstate:
        fault = _from_sqlstate(original, sqlstate, has_rows=has_rows)
    elif getattr(original, "sqlite_errorname", None):
        fault = _from_sqlite(original, has_rows=has_rows)
    else:
        fault = _from_class(error, original, lost=lost, while_writing=while_writing, has_rows=has_rows)
    if lost and fault.kind is not FaultKind.LOST:
        text = "the connection to the database was lost"
        fault = replace(fault, kind=FaultKind.LOST, is_unproven=False, message=text)
    return _scrubbed(fault, scrub)


def _from_refusal(error: ItemRefused) -> Fault:
    return Fault(
        kind=FaultKind.ITEM,
        error_type=type(error).__name__,
        message=str(error),
        table=error.table,
        column=error.column,
        constraint=error.constraint,
    )


def _from_sqlstate(error: BaseException, sqlstate: str, *, has_rows: bool) -> Fault:
    diagnostics: Any = getattr(error, "diag", None)
    # RAISE lets a function choose any code, and write any value into the text.
    is_raised = getattr(diagnostics, "source_function", None) == "exec_stmt_raise"
    return reported_fault(
        sqlstate,
        type(error).__name__,
        has_rows=has_rows,
        shown=None if is_raised else getattr(diagnostics, "message_primary", None),
        table=getattr(diagnostics, "table_name", None),
        column=getattr(diagnostics, "column_name", None),
        constraint=getattr(diagnostics, "constraint_name", None),
        detail=str(error),
    )


def reported_fault(
    sqlstate: str,
    error_type: str,
    *,
    shown: str | None = None,
    has_rows: bool = True,
    table: str | None,
    column: str | None,
    constraint: str | None,
    detail: str,
) -> Fault:
    """The fault that a PostgreSQL server reports by a code.

    Args:
        sqlstate: The code.
        error_type: Name of the exception that stands for it.
        shown: The server's words, where they are its own; quoted only for codes whose texts hold no row's values.
        has_rows: Whether rows were sent.
        table: The table that the report names.
        column: The column that it names.
        constraint: The constraint that it names.
        detail: All of the report.
    """
    code = SQLSTATES.get(sqlstate) or SQLSTATE_CLASSES.get(sqlstate[:2])
    is_shown = sqlstate[:2] in _SHOWN_CLASSES or not has_rows
    words = _PLAIN_WORDS.get(sqlstate)
    if sqlstate == _CHECK_VIOLATION and constraint is None:
        words = "the table has no partition for the row"  # every other check has a name
    message = _one_line(shown if is_shown else None) or words or _spell(error_type)
    kind = code.kind if code else FaultKind.ITEM
    return Fault(
        kind=kind,
        is_unproven=kind is FaultKind.FATAL and sqlstate not in SQLSTATES,
        error_type=error_type,
        message=message,
        sqlstate=sqlstate,
        table=table,
        column=column,
        constraint=constraint,
        detail=detail,
    )


def _from_sqlite(error: BaseException, *, has_rows: bool) -> Fault:
    name = str(getattr(error, "sqlite_errorname", ""))
    if not name.startswith("SQLITE_"):  # Python has no name for codes that are younger than it is
        name = _SQLITE_NAMES.get(int(getattr(error, "sqlite_errorcode", 0)) & 0xFF, "SQLITE_ERROR")
    primary = "_".join(name.split("_")[:2])
    code = SQLITE_CODES.get(primary)
    kind = code.kind if code else FaultKind.FATAL
    table, column, constraint = _sqlite_place(name, str(error))
    is_shown = not has_rows or (kind is not FaultKind.ITEM and name != "SQLITE_ERROR")  # a function's own words
    shown = str(error) if is_shown else None
    return Fault(
        kind=kind,
        is_unproven=code is None,
        error_type=type(error).__name__,
        message=_PLAIN_WORDS.get(name) or _PLAIN_WORDS.get(primary) or _one_line(shown) or "the row was refused",
        sqlstate=name,
        table=table,
        column=column,
        constraint=constraint,
        detail=str(error),
    )


def _sqlite_place(name: str, text: str) -> tuple[str | None, str | None, str | None]:
    """Table, columns and constraint, which SQLite gives in its message and nowhere else."""
    _, _, place = text.partition(" constraint failed: ")
    if not place:
        return None, None, None
    if name == "SQLITE_CONSTRAINT_CHECK":
        return None, None, place
    if name not in {
        "SQLITE_CONSTRAINT_UNIQUE",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
        "SQLITE_CONSTRAINT_ROWID",
        "SQLITE_CONSTRAINT_NOTNULL",
    }:
        return None, None, None
    index = re.fullmatch(r"index '(.*)'", place)
    if index:
        return None, None, index[1]
    parts = [part.rpartition(".") for part in place.split(", ")]
    return parts[0][0] or None, ", ".join(column for _, _, column in parts), None


def _from_class(
    error: BaseException, original: BaseException, *, lost: bool, while_writing: bool, has_rows: bool
) -> Fault:
    """No code at all: an error of the client side, a failed connect, or a driver that gives none."""
    detail = text_of(original)
    kind, message = FaultKind.FATAL, _one_line(detail) or _spell(type(original).__name__)
    if lost:
        kind = FaultKind.LOST
    elif isinstance(error, sqlalchemy_errors.DBAPIError):
        if isinstance(error, sqlalchemy_errors.OperationalError):
            kind = FaultKind.LOST
        elif not isinstance(error, (sqlalchemy_errors.InternalError, sqlalchemy_errors.NotSupportedError)):
            kind, message = FaultKind.ITEM, "a value cannot be sent to the database as the column's type"
    elif _is_conversion(error, original, while_writing=while_writing):
        kind, message = FaultKind.ITEM, "a value cannot be converted to the column's type"
    elif isinstance(original, OSError):
        kind = FaultKind.LOST
    elif not isinstance(original, BatchWriteError) and has_rows:
        message = f"{type(original).__name__} was raised"  # by whom is not known, nor what its text quotes
    is_unproven = kind is FaultKind.FATAL and not isinstance(original, (BatchWriteError, MemoryError))
    return Fault(
        kind=kind,
        is_unproven=is_unproven and isinstance(original, Exception),
        error_type=type(original).__name__,
        message=message,
        detail=detail,
    )


def _is_conversion(error: BaseException, original: BaseException, *, while_writing: bool) -> bool:
    """Whether turning a value into what the driver takes has raised, be it by code of the user's own."""
    if isinstance(original, (sqlalchemy_errors.SQLAlchemyError, BatchWriteError)):
        return False
    if isinstance(error, sqlalchemy_errors.StatementError):
        return True
    is_machine = isinstance(original, (OSError, MemoryError))
    return while_writing and isinstance(original, Exception) and not is_machine


def _one_line(text: str | None) -> str | None:
    """The first line that says something; drivers add hints and SQL below it."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[0] if lines else None


def _spell(class_name: str) -> str:
    """`NumericValueOutOfRange` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name).lower()


def _scrubbed(fault: Fault, secrets: Iterable[str]) -> Fault:
    for secret in secrets:
        whole_word = re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)")
        detail = whole_word.sub("***", fault.detail) if fault.detail else fault.detail
        fault = replace(fault, message=whole_word.sub("***", fault.message), detail=detail)
    return fault
