"""Faults of MariaDB and MySQL, by the number of the error.

The drivers give a number and a text and nothing else: what kind of fault it is follows from the number alone; names of
tables, columns and constraints can only be had from the text, which quotes rows as well, and is shown only where it is
one of the server's or the client's own that holds no row's values.

Source: seen on MariaDB 10.11 through PyMySQL; otherwise the list of error codes in the manuals of MariaDB and of MySQL.
"""

from __future__ import annotations

import re

from batchwrite.codes import MYSQL_NUMBERS
from batchwrite.fault import Fault, FaultKind

# What people need to act on, and words cannot say: names of tables, columns, users, settings and servers. The texts are
# the server's own or the client's where they look like that; a trigger can write anything under any number.
_NAMED = r"[^'\n]*"
_SHOWN = {
    number: re.compile(pattern.replace("NAME", _NAMED))
    for number, pattern in {
        "1020": r"Record has changed since last read in table 'NAME'.*",
        "1044": r"Access denied for user 'NAME'@'NAME' to database 'NAME'",
        "1045": r"Access denied for user 'NAME'@'NAME' \(using password: (YES|NO)\)",
        "1046": r"No database selected",
        "1049": r"Unknown database 'NAME'",
        "1054": r"Unknown column 'NAME' in '[a-zA-Z ]*'",
        "1114": r"The table 'NAME' is full",
        "1136": r"Column count doesn't match value count at row \d+",
        "1142": r"[A-Z, ]+ command denied to user 'NAME'@'NAME' for table [`'.\w]+",
        "1143": r"[A-Z, ]+ command denied to user 'NAME'@'NAME' for column 'NAME' in table 'NAME'",
        "1146": r"Table 'NAME' doesn't exist",
        "1203": r"User \S* already has more than 'max_user_connections' active connections",
        "1226": r"User 'NAME' has exceeded the 'NAME' resource \(current value: -?\d+\)",
        "1227": r"Access denied; you need \(at least one of\) the [A-Z, ]+ privilege\(s\) for this operation",
        "1290": r"The (MariaDB|MySQL) server is running with the [-\w=]+ option so it cannot execute this statement",
        "1305": r"(FUNCTION|PROCEDURE|SAVEPOINT) [`.\w]+ does not exist",
        "1370": r"[a-z ]+ command denied to user 'NAME'@'NAME' for routine 'NAME'",
        "1792": r"Cannot execute statement in a READ ONLY transaction",
        "1836": r"Running in read-only mode",
    }.items()
}
_SHOWN_OF_CLIENTS = re.compile(
    r"(Can't connect to|Lost connection to|Can't create|Unknown) [^\n]*|[A-Za-z ]+ has gone away"
)

_NAME = r"`((?:[^`]|``)*)`"
_OF_COLUMN = re.compile(rf".* for column (?:'([^']*)'|(?:{_NAME}\.)*{_NAME}) at row \d+", re.DOTALL)
_OF_KEY = re.compile(r".* for key '([^']*)'", re.DOTALL)
_OF_FOREIGN_KEY = re.compile(
    rf".* fails \((?:{_NAME}\.)?{_NAME}, CONSTRAINT {_NAME} FOREIGN KEY \(([^)]*)\) REFERENCES .*", re.DOTALL
)
_OF_CHECK = re.compile(rf"CONSTRAINT {_NAME} failed for (?:{_NAME}\.)?{_NAME}")
_OF_CHECK_OF_MYSQL = re.compile(r"Check constraint '([^']*)' is violated\.?")
_OF_MISSING = re.compile(r"(?:Column|Field) '([^']*)' (?:cannot be null|doesn't have a default value)")

# The server's texts have 512 bytes at most. What is longer is not looked through: values may stand in it.
_MOST_OF_A_TEXT = 1_000

_NAMES_A_COLUMN = frozenset({"1264", "1265", "1292", "1366", "1406"})


def mysql_number(error: BaseException) -> str | None:
    """The number of an error of MariaDB or MySQL; nothing for errors of others, and for those without a number."""
    if not any(base.__name__ == "MySQLError" for base in type(error).__mro__):  # as PyMySQL and mysqlclient call it
        return None
    number = error.args[0] if error.args else None
    return str(number) if isinstance(number, int) and number >= 1_000 else None


def fault_of_mysql(number: str, error: BaseException) -> Fault:
    """The fault that a number stands for.

    Args:
        number: The number.
        error: The driver's exception.
    """
    text = str(error.args[1]) if len(error.args) > 1 else ""
    text = text if len(text) <= _MOST_OF_A_TEXT else ""
    code = MYSQL_NUMBERS.get(number)
    kind = code.kind if code else _kind_of_unlisted(int(number))
    table, column, constraint = _place(number, text)
    own = _SHOWN_OF_CLIENTS if 2_000 <= int(number) < 3_000 else _SHOWN.get(number)
    first_line = text.strip().partition("\n")[0]
    shown = first_line if own is not None and own.fullmatch(first_line) else ""
    meaning = code.meaning.replace("`", "") if code else ""
    return Fault(
        kind=kind,
        is_unproven=kind is FaultKind.FATAL and code is None,
        error_type=type(error).__name__,
        message=shown or meaning or _other_words(number, kind),
        sqlstate=number,
        table=table,
        column=column,
        constraint=constraint,
        detail=str(error),
    )


def _kind_of_unlisted(number: int) -> FaultKind:
    if 2_000 <= number < 3_000:
        return FaultKind.LOST
    return FaultKind.ITEM if number >= 10_000 else FaultKind.FATAL


def _other_words(number: str, kind: FaultKind) -> str:
    return f"the row was refused (error {number})" if kind is FaultKind.ITEM else f"the database reports error {number}"


def _place(number: str, text: str) -> tuple[str | None, str | None, str | None]:
    """Table, column and constraint, which are in the text and nowhere else.

    A text may quote a value that looks like the rest of a text: each must match to its very end.
    """
    if number in {"1062", "1586"}:
        found = _OF_KEY.fullmatch(text)
        return None, None, found[1].rpartition(".")[2] if found else None  # MySQL 8 puts the table in front
    if number in {"1048", "1364"}:
        found = _OF_MISSING.fullmatch(text)
        return None, found[1] if found else None, None
    if number in _NAMES_A_COLUMN:
        found = _OF_COLUMN.fullmatch(text)
        return None, _unquoted(found[1] or found[3]) if found else None, None
    if number in {"1451", "1452"}:
        found = _OF_FOREIGN_KEY.fullmatch(text)
        if not found:
            return None, None, None
        columns = ", ".join(map(_unquoted, re.findall(_NAME, found[4])))
        return _unquoted(found[2]), columns if number == "1452" else None, _unquoted(found[3])
    if number == "4025":
        found = _OF_CHECK.fullmatch(text)
        return (_unquoted(found[3]), None, _unquoted(found[1])) if found else (None, None, None)
    if number == "3819":
        found = _OF_CHECK_OF_MYSQL.fullmatch(text)
        return None, None, found[1] if found else None
    return None, None, None


def _unquoted(name: str) -> str:
    return name.replace("``", "`")
