"""What the databases' error codes mean: whose fault, and in words. Pure data.

The tables of the documentation are made of these (see `docs/fault_tables.py`).

Source: seen on PostgreSQL 15, SQLite 3.40 and MariaDB 10.11; otherwise the manuals' lists of codes: PostgreSQL's
appendix A, SQLite's result codes, and the error codes of MariaDB and of MySQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchwrite.fault import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping


class Code(NamedTuple):
    """What a code means.

    Attributes:
        kind: Whose fault it is.
        meaning: What it is, in words; Markdown.
    """

    kind: FaultKind
    meaning: str


def _codes(meanings: Mapping[FaultKind, Mapping[str, str]]) -> dict[str, Code]:
    return {code: Code(kind, meaning) for kind, of_kind in meanings.items() for code, meaning in of_kind.items()}


SQLSTATES = _codes(
    {
        FaultKind.TRANSIENT: {
            "40001": "serialization failure",
            "40P01": "deadlock",
            # A ROLLBACK makes psycopg forget what it has prepared, so that the next attempt prepares it anew.
            "26000": "a prepared statement is gone, or was never there (a pool between, or a statement that failed)",
            "42P05": "a prepared statement is there already (a pool between)",
            "55P03": "a lock was not to be had (`NOWAIT`, `lock_timeout`)",
            "57014": "the statement was cancelled (`statement_timeout`, or by an administrator)",
        },
        FaultKind.LOST: {
            "25P03": "the session was idle in a transaction for too long",
            "57P01": "the server is shutting down, or the backend was terminated",
            "57P02": "the server crashed",
            "57P03": "the server cannot take connections now",
            "57P05": "the session was idle for too long",
        },
        # One odd value must not end a run, and these are what PostgreSQL says of it where SQLAlchemy sends no cast:
        # False into numeric, True as a key of numeric, anything into a generated column. Where it is the program's
        # fault for every item, every item fails, and says so.
        FaultKind.ITEM: {
            "42804": "a value of a type that the column cannot hold",
            "42883": "a value of a type that cannot be compared with the column",
            "428C9": "a value for a column that the database generates",
            "42846": "a value of a type that cannot be cast to the column's",
            "54000": "a row too large for an index",
        },
        FaultKind.FATAL: {
            "XX001": "the table is damaged",
            "XX002": "an index is damaged",
        },
    }
)
"""What a whole SQLSTATE means; looked up before its class."""

SQLSTATE_CLASSES = _codes(
    {
        FaultKind.FATAL: {
            "01": "a warning raised as an error",
            "02": "no data",
            "03": "a statement that is not complete",
            "0A": "not supported",
            "0B": "a transaction could not be begun",
            "24": "a cursor in the wrong state",
            "25": "the transaction is in the wrong state, or read-only",
            "26": "an unknown prepared statement",
            "28": "authentication failed",
            "2D": "the transaction cannot be ended here",
            "34": "no such cursor",
            "3B": "no such savepoint",
            "3D": "no such database",
            "3F": "no such schema",
            "42": "no such table or column, no right to it, wrong syntax",
            "55": "an object is not in the state that is needed",
            "XX": "an internal error of the server",
        },
        FaultKind.LOST: {
            "08": "the connection",
            "57": "somebody intervened",
        },
        FaultKind.ITEM: {
            "09": "a trigger's action failed",
            "21": "two rows of one statement concern one row; each item by itself shows what it does",
            "22": "a value that cannot be read, is out of range, or is too long",
            "23": "a constraint refused the row",
            "44": "a view's `WITH CHECK OPTION` refused the row",
            "54": "a limit of the server, such as the size of a row",
            "P0": "a PL/pgSQL function raised",
        },
        FaultKind.TRANSIENT: {
            "40": "the transaction was rolled back",
        },
        FaultKind.CAPACITY: {
            "53": "disk, memory or connections are used up",
            "58": "the system below the server: files, devices",
        },
    }
)
"""What a class of SQLSTATEs means: fatal only if it holds without the item, else it is the item's. One not listed is a
trigger's or a function's own, and so the item's."""

SQLITE_CODES = _codes(
    {
        FaultKind.ITEM: {
            "SQLITE_CONSTRAINT": "a constraint, a foreign key or a trigger refused the row",
            "SQLITE_MISMATCH": "a value of a type that the column cannot hold",
            "SQLITE_TOOBIG": "a value larger than SQLite allows",
        },
        FaultKind.TRANSIENT: {
            "SQLITE_BUSY": "another connection is writing",
            "SQLITE_LOCKED": "a table is locked within the same process",
            "SQLITE_PROTOCOL": "the locks of the file could not be had in time",
        },
        FaultKind.CAPACITY: {
            "SQLITE_FULL": "the disk is full, or the file has reached `max_page_count`",
            "SQLITE_IOERR": "the operating system could not read or write",
            "SQLITE_NOMEM": "no memory",
        },
        FaultKind.FATAL: {
            "SQLITE_CORRUPT": "the file is damaged",
            "SQLITE_NOTADB": "the file is no database",
        },
    }
)
"""What SQLite's primary result codes mean; every other one is fatal if it holds without the item, else the item's."""

MYSQL_NUMBERS = _codes(
    {
        FaultKind.ITEM: {
            "1062": "a row with the same unique key exists",
            "1169": "a row with the same unique key exists",
            "1586": "a row with the same unique key exists",
            "1859": "a row with the same unique key exists",
            "1048": "a value is missing for a column that must have one",
            "1364": "a value is missing for a column that must have one",
            "1216": "a foreign key has no matching row",
            "1217": "a foreign key refers to the row",
            "1451": "a foreign key refers to the row",
            "1452": "a foreign key has no matching row",
            "1557": "a foreign key's change would double a unique key",
            "1761": "a foreign key's change would double a unique key",
            "1762": "a foreign key's change would double a unique key",
            "3819": "a check constraint refused the row",
            "4025": "a check constraint refused the row",
            "1264": "a number is out of range for its column",
            "1365": "a division by zero",
            "1406": "a text is too long for its column",
            "1416": "no geometry",
            "1441": "a date out of range",
            "1690": "a number is out of range for its column",
            "3669": "a value out of range",
            "1265": "a value cannot be read as the column's type",
            "1292": "a value cannot be read as the column's type",
            "1300": "a text holds a character that the database's encoding cannot store",
            "1366": "a value cannot be read as the column's type",
            "1367": "a value cannot be read as the column's type",
            "1411": "a value for a function that cannot be read",
            "1525": "a value of the wrong form",
            "3140": "a text that is no JSON",
            "1241": "several values where one belongs",
            "1267": "texts whose collations cannot be compared",
            "1270": "texts whose collations cannot be compared",
            "1271": "texts whose collations cannot be compared",
            "3988": "a text holds a character that the database's encoding cannot store",
            "4078": "types that cannot be compared",
            "1118": "a row is too large",
            "1242": "an expression gives more than one value",
            "1369": "a view's WITH CHECK OPTION refused the row",
            "1526": "the table has no partition for the row",
            "1748": "no partition for the row",
            "1906": "a value is given for a column that the database generates",
            "3105": "a value is given for a column that the database generates",
            "1642": "a trigger or function refused the row",
            "1643": "a trigger or function refused the row",
            "1644": "a trigger or function refused the row",
        },
        FaultKind.TRANSIENT: {
            "1020": "the row has changed since the transaction began (`innodb_snapshot_isolation`)",
            "1205": "a lock was not given up in time (`innodb_lock_wait_timeout`)",
            "1213": "a deadlock",
            "1412": "the table's definition has changed meanwhile",
            "1613": "a distributed transaction was rolled back",
            "1614": "a distributed transaction was rolled back",
            "1689": "the wait for a lock was aborted",
            "3572": "a lock was not to be had (`NOWAIT`)",
            "1317": "the statement was cancelled (`KILL QUERY`)",
            "1969": "the statement took longer than `max_statement_time`",
            "3024": "the statement took longer than `max_statement_time` (MySQL)",
        },
        FaultKind.LOST: {
            "1053": "the server is shutting down",
            "1080": "the server closes the connection",
            "1152": "the connection was aborted",
            # The server has closed the connection by then.
            "1153": "a packet larger than `max_allowed_packet`; an item that is alone with it fails",
            "1154": "the network",
            "1155": "the network",
            "1156": "the network",
            "1157": "the network",
            "1158": "the network",
            "1159": "the network",
            "1160": "the network",
            "1161": "the network",
            "1184": "the connection was aborted",
            "1927": "the connection was killed",
            "4031": "the session was idle for too long",
            "1047": "the node has left its cluster (Galera)",
        },
        FaultKind.CAPACITY: {
            "1021": "the disk is full",
            "1026": "a file cannot be written",
            "1030": "an error of the storage engine",
            "1037": "no memory",
            "1038": "no memory to sort",
            "1041": "no memory",
            "1114": "the table, or its disk, is full",
            "1206": "no memory for locks",
            "1040": "too many connections",
            "1203": "too many connections of the user",
            "1226": "the user has used up what he may use",
        },
        FaultKind.FATAL: {
            "2059": "an authentication that the client does not know",
        },
    }
)
"""What the numbers of MariaDB and MySQL mean. Those not listed: from 2000 to 2999 they are the client's own, of a
connection that is lost or could not be made; from 10000 a trigger's own, and so the item's; all others are fatal if
they hold without the item, else the item's."""
