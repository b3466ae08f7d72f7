"""What MariaDB and MySQL do otherwise."""

from __future__ import annotations

import logging
import numbers
import re
import sys
import weakref
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import sqlalchemy
from sqlalchemy import func, text
from sqlalchemy.dialects import mysql

from batchwrite.errors import BatchWriteError, ConfigurationError, ItemRefused
from batchwrite.sinks.dialects import DialectRules
from batchwrite.sinks.lent import LentRules
from batchwrite.sinks.said import said_of
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from sqlalchemy import Column, Connection, Constraint, Table
    from sqlalchemy.exc import DBAPIError

    from batchwrite.plan import Block
    from batchwrite.write import Write

_log = logging.getLogger("batchwrite")

# Set when a chunk's transaction begins and released before COMMIT, which fails if anything (DDL, a deadlock that was
# overlooked) has ended the transaction in between.
_MARK = "batchwrite_chunk"

_STRICT = {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"}

# Connection charsets in which what was escaped as a text is still escaped as bytes: all that PyMySQL knows and Python
# has a codec for, of which ASCII is a part, and whose other characters hold no byte of ASCII. In sjis and ujis Python
# writes U+00A5 (the yen sign) as the byte of a backslash; in big5, cp932, gb18030, gbk and sjis the server takes a
# backslash for the second byte of a character: bytes that end in the first, and a quote behind them, end the literal.
# tests/faults/test_mariadb_charsets.py works the list out from the codecs.
SAFE_CHARSETS = frozenset(
    {
        *("ascii", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "euckr", "gb2312", "greek"),
        *("hebrew", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macroman", "tis620"),
        *("utf8", "utf8mb3", "utf8mb4"),
    }
)

_SESSION = "SELECT @@SESSION.sql_mode, @@SESSION.character_set_client"

_ENGINE = text("""
SELECT t.engine, e.transactions FROM information_schema.tables t
LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = COALESCE(:schema, DATABASE()) AND t.table_name = :name AND t.table_type = 'BASE TABLE'
""")
_COLUMNS = text("""
SELECT column_name, extra LIKE '%auto_increment%', datetime_precision FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
""")
# A part of an index that is a prefix or an expression is no column: no two rows may agree in less than the column.
_UNIQUE_INDEXES = text("""
SELECT index_name, CASE WHEN sub_part IS NULL THEN column_name END FROM information_schema.statistics
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name AND non_unique = 0
""")

# An expression that fails where it is evaluated, and only there.
_FAILS = text("(SELECT 1 UNION ALL SELECT 2)")
_FAILED = "1242"

# Written out: a parameter behind the values would have every upsert go alone (see `MysqlRules.sends_singly`).
_ONE = sqlalchemy.literal_column("1", sqlalchemy.Integer)

# An INSERT of which drivers can make one for many rows: nothing but parameters for values, and none behind them. (In a
# name, `%` is doubled.)
_PARAMETER = r"(?:%s|%\(\w+\)s)"
_OF_MANY_ROWS = re.compile(rf".*? VALUES \({_PARAMETER}(?:, {_PARAMETER})*\)[^%]*", re.DOTALL)

_TIMES = (datetime, time, timedelta)
_OF_BYTES = (
    *(sqlalchemy.LargeBinary, sqlalchemy.BINARY, sqlalchemy.VARBINARY),
    *(mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB),
)
_BYTES = frozenset({bytes, bytearray, memoryview, type(None)})
_SEVERAL = frozenset({list, tuple, set, frozenset})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """What a table's definition in the database says of its columns.

    Attributes:
        counted: The column that gets the next number where it is given 0, if there is one.
        precisions: Digits behind the seconds, for columns of times that keep fewer than Python does.
    """

    counted: str | None
    precisions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """What is to be known while a chunk is written.

    Attributes:
        mode: The words of `sql_mode`.
        strict: The driver's connection, where it is PyMySQL's or aiomysql's and has been made strict.
        unique_indexes: The columns of every unique index, by table.
    """

    mode: frozenset[str]
    strict: Any
    unique_indexes: dict[Table, list[frozenset[str]]] = field(default_factory=dict)


class Upsert(mysql.Insert):
    """INSERT with ON DUPLICATE KEY UPDATE, for rows of one key alone, by the names that PostgreSQL's INSERT has.

    ON DUPLICATE KEY UPDATE changes the row that stands in the way by whichever unique key. Here it fails, with an
    error that is known (see `MysqlRules`), where that row has another key than the one that the upsert is for.
    """

    inherit_cache = mysql.Insert.inherit_cache  # which is False up to SQLAlchemy 2.0

    @property
    def excluded(self) -> Mapping[str, Any]:
        """The row that was to be inserted, by column."""
        # SQLAlchemy doubles a percent sign twice where it writes `inserted`.
        return {
            column.key: func.values(column) if "%" in column.name else self.inserted[column.key]
            for column in self.table.columns
        }

    def on_conflict_do_update(self, *, index_elements: Sequence[Column[Any]], set_: Mapping[Any, Any]) -> Self:
        """Change the row that has the key."""
        first = index_elements[0]
        excluded = self.excluded
        is_same = sqlalchemy.and_(*(column.op("<=>")(excluded[column.key]) for column in index_elements))
        changes = {first: first, **set_}
        # Not as a value of the column: a type such as UUID goes with no number.
        changes[first] = sqlalchemy.case((func.if_(is_same, _ONE, _FAILS) == _ONE, changes[first]))
        return self.on_duplicate_key_update({column.key: value for column, value in changes.items()})

    def on_conflict_do_nothing(self, *, index_elements: Sequence[Column[Any]]) -> Self:
        """Leave the row that has the key as it is."""
        return self.on_conflict_do_update(index_elements=index_elements, set_={})


class MysqlRules(DialectRules):
    """MariaDB and MySQL, through PyMySQL or another driver."""

    locks_rows = True
    survives_errors = True
    folds_texts = True
    compares_loosely = True

    def __init__(self) -> None:
        self._chunks: weakref.WeakKeyDictionary[Connection, _Chunk] = weakref.WeakKeyDictionary()
        self._undoable: set[tuple[str | None, str]] = set()
        self._columns: dict[tuple[str | None, str], _Columns] = {}
        self._rounded: set[tuple[str, str]] = set()
        self._compiled: dict[tuple[Any, tuple[str, ...]], Any] = {}
        self._singly: dict[tuple[Any, tuple[str, ...]], bool] = {}

    # ---- the transaction

    def begin(self, connection: Connection) -> None:
        """Begin, in strict mode only, and see to it that the driver sends no value as something else.

        Raises:
            ConfigurationError: The engine commits every statement by itself; the mode is not strict: the database
                would cut what does not fit, and store it; or the connection's charset is one in which a value may
                become a part of the statement.
        """
        super().begin(connection)
        raw: Any = connection.connection.driver_connection
        session = connection.exec_driver_sql(_SESSION).one()
        for charset in (session[1], _charset_of(raw)):  # SET NAMES changes the server's alone
            require_safe_charset(charset)
        mode = frozenset(str(session[0]).split(","))
        if _STRICT.isdisjoint(mode):
            raise ConfigurationError(
                "the database is not in strict mode, in which it refuses values instead of changing them: "
                "add STRICT_TRANS_TABLES to sql_mode, on the server or for the engine's connections, "
                'e.g. by create_engine(…, connect_args={"sql_mode": "TRADITIONAL"})'
            )
        is_known = type(raw).__module__.partition(".")[0] in {"pymysql", "aiomysql"}
        self._chunks[connection] = _Chunk(mode=mode, strict=raw if is_known else None)
        if is_known:
            raw.escape = _strict_escape(raw)
        connection.exec_driver_sql(f"SAVEPOINT {_MARK}")

    def end(self, connection: Connection) -> None:
        """Give the driver its own ways back."""
        chunk = self._chunks.pop(connection, None)
        if chunk is not None and chunk.strict is not None:
            del chunk.strict.escape

    def commits_by_itself(self, raw: Any) -> bool:
        """Whether a driver's connection commits every statement; PyMySQL and mysqlclient have a function for it."""
        asked = getattr(raw, "get_autocommit", None)
        return bool(asked()) if callable(asked) else super().commits_by_itself(raw)

    def before_commit(self, connection: Connection) -> None:
        """Refuse to go on as if the transaction were the one that was begun, where it is not.

        Raises:
            BatchWriteError: It was ended while the chunk was written: part of it may be there.
        """
        try:
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_MARK}")
        except sqlalchemy.exc.DBAPIError as error:
            if _number(error) != "1305":
                raise
            raise BatchWriteError(
                "the chunk's transaction was ended while it was written, as DDL does: part of it may have been written"
            ) from error

    # ---- tables

    def require(self, connection: Connection, table: Table) -> None:
        """Refuse tables whose engine knows no transactions: what is written there cannot be undone.

        Raises:
            ConfigurationError: The table is one.
        """
        place = _place(connection, table)
        if place in self._undoable:
            return
        for engine, transactions in _asked(connection, _ENGINE, place):
            if str(transactions).upper() != "YES":
                raise ConfigurationError(
                    f"table {table.fullname} has the engine {engine}, which knows no transactions: "
                    f"what an item has written there could not be undone; use ALTER TABLE … ENGINE=InnoDB"
                )
        self._undoable.add(place)

    def _columns_of(self, connection: Connection, table: Table) -> _Columns:
        place = _place(connection, table)
        if place not in self._columns:
            rows = _asked(connection, _COLUMNS, place)
            self._columns[place] = _Columns(
                counted=next((str(name) for name, is_counted, _ in rows if is_counted), None),
                precisions={str(name): digits for name, _, digits in rows if digits is not None and digits < 6},
            )
        return self._columns[place]

    # ---- values

    def check(self, connection: Connection, block: Block) -> None:
        """Look for what the database would store otherwise than it is given.

        Raises:
            ItemRefused: There is such a value: 0 for a column that would get the next number then, NULL for one that
                would get the time, bytes for a number, which PyMySQL sends as the digits of another, or a number for
                bytes, of which it makes so many zeros.
        """
        table: Table = block.table.handle
        is_new = block.writes[0].kind in {Kind.INSERT, Kind.UPSERT}
        for name, values, types in zip(block.columns, block.values, block.types, strict=True):
            column = table.columns[name]
            is_of_time = any(issubclass(each, _TIMES) for each in types)
            if is_of_time and (block.table.name, name) not in self._rounded:
                self._note_rounding(connection, block, column, values)
            if isinstance(column.type, _OF_BYTES) and not types.issubset(_BYTES):
                self._refuse_other_than_bytes(block, column, values)
            is_number = isinstance(column.type, (sqlalchemy.Integer, sqlalchemy.Numeric, sqlalchemy.Float))
            if is_number and not types.isdisjoint({bytes, bytearray}):
                raise ItemRefused(f"bytes are no value for column {name}", table=table.fullname, column=name)
            if type(None) in types and isinstance(column.type, sqlalchemy.TIMESTAMP) and not column.nullable:
                raise ItemRefused(
                    f"a value is missing for column {name}, which must have one", table=table.fullname, column=name
                )
            if is_new and name in block.table.integers and self._is_counted_on(connection, column, values):
                raise ItemRefused(
                    f"0 is no value for column {name}: the database would put the next number in its place",
                    table=table.fullname,
                    column=name,
                )

    def _refuse_other_than_bytes(self, block: Block, column: Column[Any], values: Sequence[Any]) -> None:
        for value in values:
            if type(value) not in _BYTES and not block.table.is_expression(value):
                text = f"a {type(value).__name__} is no value for column {column.name}, which holds bytes"
                raise ItemRefused(text, table=block.table.name, column=column.name)

    def _is_counted_on(self, connection: Connection, column: Column[Any], values: Sequence[Any]) -> bool:
        """Whether one of some values is the 0 in whose place the database puts the next number."""
        if "NO_AUTO_VALUE_ON_ZERO" in self._chunks[connection].mode:
            return False
        if self._columns_of(connection, column.table).counted != column.name:
            return False
        return any(map(_becomes_zero, values))

    def _note_rounding(self, connection: Connection, block: Block, column: Column[Any], values: Sequence[Any]) -> None:
        """Say once a column that it does not keep all digits behind the seconds of what it is given."""
        digits = self._columns_of(connection, block.table.handle).precisions.get(column.name)
        if digits is None or not any(_microseconds(value) % 10 ** (6 - digits) for value in values):
            return
        self._rounded.add((block.table.name, column.key))
        if not said_of(connection.engine).is_new("rounded", block.table.name, column.name):
            return
        _log.warning(
            "column %s of table %s keeps %d digits behind the seconds, and is given more: the database drops the rest",
            column.name,
            block.table.name,
            digits,
            extra={"action": "rounded", "table": block.table.name, "column": column.name},
        )

    # ---- statements

    def no_upsert_because(self, connection: Connection, write: Write) -> str | None:
        """A view or a temporary table, of which nothing is known.

        Raises:
            ConfigurationError: No unique index is over exactly the key's columns: rows would be doubled.
        """
        table: Table = write.table.handle
        known = self._chunks[connection].unique_indexes
        if table not in known:
            indexes: dict[str, set[str]] = {}
            for index, column in _asked(connection, _UNIQUE_INDEXES, _place(connection, table)):
                indexes.setdefault(index, set()).add(str(column).lower())
            known[table] = [frozenset(columns) for columns in indexes.values()]
        key = frozenset(table.columns[name].name.lower() for name in write.key_columns)
        if not known[table]:
            return "its unique indexes are not known, as with a view"
        if key not in known[table]:
            raise ConfigurationError(
                f"an upsert into {table.fullname} names the key ({', '.join(write.key_columns)}), "
                "over which the database has no unique index"
            )
        return None

    def hits_another_key(self, error: DBAPIError) -> bool:
        """Whether an upsert has failed because a row with another key stands in the way."""
        return _number(error) == _FAILED

    def sends_singly(self, connection: Connection, statement: Any, columns: tuple[str, ...]) -> bool:
        """Whether an INSERT is not one statement for many rows.

        The drivers' `executemany` gets parameters and `%` wrong that stand behind the values, and sends rows one by one
        where anything but a parameter stands among them, as with `VALUES (%s, now())`.
        """
        made_for = (statement, columns)
        if made_for not in self._singly:
            sql = str(self._compile(connection, statement, columns))
            is_known = _drivers_form(connection)
            self._singly[made_for] = not (_OF_MANY_ROWS.fullmatch(sql) and is_known(sql))
        return self._singly[made_for]

    def ready(self, connection: Connection, statement: Any, columns: tuple[str, ...]) -> Any:
        """The statement, compiled where SQLAlchemy would do that again each time, as up to SQLAlchemy 2.0."""
        is_translated = connection.get_execution_options().get("schema_translate_map")
        if Upsert.inherit_cache or is_translated or not isinstance(statement, Upsert):
            return statement
        return self._compile(connection, statement, columns)

    def _compile(self, connection: Connection, statement: Any, columns: tuple[str, ...]) -> Any:
        made_for = (statement, columns)
        if made_for not in self._compiled:
            self._compiled[made_for] = statement.compile(
                dialect=connection.dialect, column_keys=list(columns), for_executemany=True
            )
        return self._compiled[made_for]

    def insert(self, table: Table) -> Any:
        """INSERT with ON DUPLICATE KEY UPDATE."""
        return Upsert(table)

    def constraint_name(self, constraint: Constraint) -> str | None:
        """The name, or else the one that the database makes up; a primary key is always called the same."""
        if isinstance(constraint, sqlalchemy.PrimaryKeyConstraint):
            return "PRIMARY"
        name = super().constraint_name(constraint)
        if name is None and isinstance(constraint, sqlalchemy.UniqueConstraint):
            return next((column.name for column in constraint.columns), None)
        return name


def require_safe_charset(charset: object) -> None:
    """Make sure that values stay values in a connection's charset; nothing for one that is not known yet.

    Raises:
        ConfigurationError: They do not.
    """
    if charset is not None and str(charset).lower() not in SAFE_CHARSETS:
        raise ConfigurationError(
            f"the connection's charset is {charset}, in which values that were escaped may still end the text that they"
            " are in: use utf8mb4, e.g. by ?charset=utf8mb4 in the database's URL"
        )


def _charset_of(raw: Any) -> object:
    """The charset that a driver writes in, if it tells."""
    named = getattr(raw, "character_set_name", None)  # mysqlclient's
    return named() if callable(named) else getattr(raw, "charset", None)


class LentMysqlRules(LentRules, MysqlRules):
    """MariaDB and MySQL in somebody else's transaction."""


def _becomes_zero(value: Any) -> bool:
    """Whether a value is 0 once it is read as a whole number and rounded."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    try:
        number = Decimal(value.strip() if isinstance(value, str) else value)
    except (ArithmeticError, TypeError, ValueError):  # no number: the database refuses it, or it is an expression
        return False
    return number.is_finite() and abs(number) < Decimal("0.5")


def _place(connection: Connection, table: Table) -> tuple[str | None, str]:
    """The schema of a table, if it has one, and its name."""
    return connection.schema_for_object(table), table.name


def _asked(connection: Connection, question: Any, place: tuple[str | None, str]) -> Sequence[Any]:
    schema, name = place
    return connection.execute(question, {"schema": schema, "name": name}).all()


def _number(error: DBAPIError) -> str | None:
    arguments = getattr(error.orig, "args", ())
    return str(arguments[0]) if arguments else None


def _drivers_form(connection: Connection) -> Callable[[str], Any]:
    """Tells whether an INSERT is of the form of which the driver makes one statement for many rows.

    PyMySQL, and what has been made of it, keep the form under one name. Of other drivers nothing is known.
    """
    package = type(connection.connection.driver_connection).__module__.partition(".")[0]
    form = getattr(sys.modules.get(f"{package}.cursors"), "RE_INSERT_VALUES", None)
    return bool if form is None else form.match


def _microseconds(value: Any) -> int:
    if isinstance(value, timedelta):
        return value.microseconds
    return value.microsecond if isinstance(value, (datetime, time)) else 0


# ---- what PyMySQL sends


def _strict_escape(raw: Any) -> Callable[..., Any]:
    """PyMySQL's `Connection.escape`, but that it sends no value as something else.

    It sends an object that it does not know as the text that `str` makes of it, and a list as what stands between the
    parentheses of IN, so that a list of one number becomes that number. Encoders that somebody has added stay.
    """
    escape = raw.escape
    if type(raw).__module__.startswith("aiomysql"):  # whose escape takes no encoders
        escape = partial(_escape, raw)
    # Texts do not need an encoder; what has none of its own gets that of texts.
    encoders = {**raw.encoders, str: _encode_relative, Decimal: _encode_decimal, dict: _refuse}

    def strict_escape(value: Any, _mapping: Any = None) -> Any:
        return _refuse(value) if type(value) in _SEVERAL else escape(value, encoders)

    return strict_escape


def _escape(raw: Any, value: Any, encoders: Mapping[Any, Any]) -> Any:
    """What PyMySQL's `escape` does, for a connection of aiomysql's."""
    if isinstance(value, (str, bytes, bytearray)):
        return type(raw).escape(raw, bytes(value) if isinstance(value, bytearray) else value)
    converters = import_module("pymysql.converters")  # on which aiomysql stands
    return converters.escape_item(value, raw.charset, mapping=encoders)


def _refuse(value: Any, _encoders: Any = None) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} cannot be sent to the database")


def _encode_relative(value: Any, encoders: Mapping[Any, Any]) -> Any:
    """What a value is sent as whose class is not known, but that is a number or a time (an enum, one of numpy's)."""
    if isinstance(value, (numbers.Rational, type(sqlalchemy.JSON.NULL))) and not _is_whole(value):
        return _refuse(value)
    if isinstance(value, numbers.Integral):
        return encoders[int](int(value), encoders)
    if isinstance(value, numbers.Real):
        return encoders[float](float(value), encoders)
    if isinstance(value, UUID):  # as SQLAlchemy leaves it for MariaDB's type, whose text it is
        return f"'{value}'"
    for kind in (Decimal, datetime, date, time, timedelta):
        if isinstance(value, kind):
            return encoders[kind](value, encoders)
    return _refuse(value)


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number by its class, and no mark of SQLAlchemy's, which are numbers, too."""
    return isinstance(value, numbers.Integral) and not isinstance(value, type(sqlalchemy.JSON.NULL))


def _encode_decimal(value: Decimal, _encoders: Any = None) -> str:
    if not value.is_finite():
        raise ValueError("a number that is not finite cannot be sent to the database")
    return format(value, "f")
