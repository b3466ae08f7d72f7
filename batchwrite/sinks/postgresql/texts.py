"""Values as the texts that PostgreSQL reads them from, a column at a time.

Rows sent as texts must end up as SQLAlchemy's own INSERT would write them. There a value goes through the column's
bind processor, is dumped by psycopg as a parameter of some type, and is cast to the column's. So a text may stand for
it where that cast changes nothing: where psycopg declares no type or the column's own, or where the table below says
that reading the text gives the same value. Anything else has no fast path.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy
from psycopg import DataError
from psycopg.adapt import PyFormat
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection
    from psycopg.abc import Transformer
    from sqlalchemy.engine import Dialect

    from batchwrite.sinks.postgresql.catalog import ServerColumn

    Texts = Sequence[str | None]


class NoFastPath(Exception):
    """Some rows cannot be sent as texts; the reason is the exception's text."""


def _naive(value: Any) -> str:
    if value.tzinfo is not None:
        raise NoFastPath("times with a time zone are given for a column without one")
    text: str = value.isoformat()
    return text


def _as_interval(value: timedelta) -> str:
    # Signs everywhere: one IntervalStyle would take the first for the others' too.
    return f"{value.days:+} days {value.seconds:+} seconds {value.microseconds:+} microseconds"


def _as_bytea(value: bytes) -> str:
    return "\\x" + value.hex()


def _as_numeric(value: float) -> str:
    return format(value, ".15g")  # what PostgreSQL's cast from double precision keeps. Source: float8_numeric()


def _as_boolean(value: bool) -> str:
    return "true" if value else "false"


_INTEGERS: dict[type, Any] = {int: int.__repr__}
_NUMBERS = _INTEGERS | {Decimal: Decimal.__str__, float: _as_numeric}
_FLOATS = _INTEGERS | {Decimal: Decimal.__str__, float: float.__repr__}
_TEXTS: dict[type, Any] = {int: int.__repr__}
_SINGLE_PRECISION_BITS = 24

_BUILT_IN = (int, str, bool, float, Decimal, bytes, date, datetime, time, timedelta, UUID)


_WHOLE = frozenset({"smallint", "integer", "bigint"})
_WORDS = frozenset({"text", "character varying", "bpchar"})


def _family(kind: Any) -> tuple[dict[type, Any], frozenset[str]] | None:
    """How values of a column's type are written, by their own type, and the types in the database that they suit.

    What has no writer goes through psycopg. A type that is not here has no fast path: SQLAlchemy may cast to it in
    ways of its own (to BIT(3) or to an array of VARCHAR(3), say, it cuts values off).
    """
    is_single = isinstance(kind, sqlalchemy.Float) and (
        isinstance(kind, sqlalchemy.REAL) or (kind.precision or 53) <= _SINGLE_PRECISION_BITS
    )
    zone = "with" if getattr(kind, "timezone", False) else "without"
    moment = datetime.isoformat if zone == "with" else _naive
    families: list[tuple[type, dict[type, Any], frozenset[str]]] = [
        (sqlalchemy.Integer, _INTEGERS, _WHOLE),
        (sqlalchemy.Float, _INTEGERS if is_single else _FLOATS, frozenset({"real", "double precision"})),
        (sqlalchemy.Numeric, _NUMBERS, frozenset({"numeric"})),
        (sqlalchemy.Enum, {}, _WORDS),
        (sqlalchemy.String, _TEXTS, _WORDS),
        (sqlalchemy.Boolean, {bool: _as_boolean}, frozenset({"boolean"})),
        (sqlalchemy.Date, {date: date.isoformat}, frozenset({"date"})),
        (sqlalchemy.DateTime, {datetime: moment, date: date.isoformat}, frozenset({f"timestamp {zone} time zone"})),
        (sqlalchemy.Time, {} if zone == "with" else {time: _naive}, frozenset({f"time {zone} time zone"})),
        (sqlalchemy.Interval, {timedelta: _as_interval}, frozenset({"interval"})),
        (sqlalchemy.LargeBinary, {bytes: _as_bytea}, frozenset({"bytea"})),
        (sqlalchemy.Uuid, {UUID: UUID.__str__}, frozenset({"uuid"})),
        (sqlalchemy.JSON, {}, frozenset({"json", "jsonb"})),
    ]
    return next(((writers, names) for family, writers, names in families if isinstance(kind, family)), None)


_SIZED = frozenset({int, Decimal, float})

_BINARY = frozenset({bytes, bytearray, memoryview, type(None)})


def _bound(kind: Any) -> int | None:
    """What the numbers of a column are below, and not below its negative."""
    if isinstance(kind, sqlalchemy.Integer):
        bits = (
            15 if isinstance(kind, sqlalchemy.SmallInteger) else 63 if isinstance(kind, sqlalchemy.BigInteger) else 31
        )
        return 1 << bits
    if isinstance(kind, sqlalchemy.Numeric) and not isinstance(kind, sqlalchemy.Float) and kind.precision:
        return int(10 ** (kind.precision - (kind.scale or 0)))
    return None


def _has_bind_expression(kind: Any) -> bool:
    own = type(kind).bind_expression
    return own not in {sqlalchemy.types.TypeEngine.bind_expression, TypeDecorator.bind_expression}


# Enumerations and domains: what they take is for them to say.
_KINDS_TO_BE_TRUSTED = frozenset({"e", "d"})


class TextColumn:
    """Writes the values of one column.

    Args:
        column: The column.
        dialect: The engine's dialect.
        server: What the database says of it.
    """

    def __init__(self, column: sqlalchemy.Column[Any], dialect: Dialect, server: ServerColumn) -> None:
        kind = column.type.dialect_impl(dialect)
        self._process = kind.bind_processor(dialect)
        has_expression = _has_bind_expression(column.type)
        while isinstance(kind, TypeDecorator):
            kind = kind.impl_instance.dialect_impl(dialect)
        self._takes_texts = isinstance(kind, (sqlalchemy.String, sqlalchemy.JSON)) or self._process is not None
        self._longest = getattr(kind, "length", None) if isinstance(kind, sqlalchemy.String) else None
        self._below = _bound(kind)
        self._is_binary = isinstance(kind, sqlalchemy.LargeBinary)
        if self._is_binary and not isinstance(column.type, TypeDecorator):
            self._process = None  # it would only wrap the bytes for the driver
        self._type_oid = server.type_oid
        self._name = column.name
        self._refusal = None
        self._writers, suited = _family(kind) or ({}, frozenset())
        if has_expression or _has_bind_expression(kind):
            self._refusal = f"the type of column {column.name} is written as an SQL expression"
        elif server.type_name not in suited and not (suited and server.kind in _KINDS_TO_BE_TRUSTED):
            self._refusal = f"column {column.name}, declared as {kind!r}, is {server.type_name} in the database"

    def texts(self, values: Sequence[Any], types: frozenset[type], transformer: Transformer) -> Texts:
        """The values as texts, `None` for NULL.

        Raises:
            NoFastPath: A value cannot be written so.
            Exception: Whatever a bind processor raises.
        """
        if self._refusal:
            raise NoFastPath(self._refusal)
        if self._process is not None:
            values = list(map(self._process, values))
            types = frozenset(map(type, values))
        if self._is_binary and not types <= _BINARY:
            raise NoFastPath(f"column {self._name} of bytes is given other values")
        kinds = types - {type(None)}
        if kinds == {str}:
            return values
        if len(kinds) == 1:
            writer = self._writers.get(next(iter(kinds)))
            if writer is not None and kinds == types:
                return list(map(writer, values))
            if writer is not None:
                return [None if value is None else writer(value) for value in values]
        return [self._text(value, transformer) for value in values]

    def unlikely(self, values: Sequence[Any], types: frozenset[type]) -> list[int]:
        """Places of values that the column will hardly take. Suspicion need not be right, only cheap."""
        if self._longest is not None and types <= {str, type(None)}:
            longest = self._longest
            return [place for place, value in enumerate(values) if value is not None and len(value) > longest]
        places: list[int] = []
        if str in types and not self._takes_texts:
            places = [place for place, value in enumerate(values) if type(value) is str]
        if self._below is not None and not types.isdisjoint(_SIZED):
            below = self._below
            places += [
                place for place, value in enumerate(values) if type(value) in _SIZED and not -below <= value < below
            ]
        return places

    def _text(self, value: Any, transformer: Transformer) -> str | None:
        if value is None or type(value) is str:
            return value
        writer = self._writers.get(type(value))
        if writer is not None:
            written: str = writer(value)
            return written
        dumper = transformer.get_dumper(value, PyFormat.TEXT)
        if dumper.oid not in {0, self._type_oid}:
            raise NoFastPath(f"column {self._name} is given values of type {type(value).__name__}")
        text = dumper.dump(value)
        return None if text is None else bytes(text).decode(transformer.encoding)


def trusts_adapters(connection: Connection[Any]) -> bool:
    """Whether psycopg dumps the types that are written here in its own way, and not in one of the user's."""
    adapters = connection.adapters
    return all(adapters.get_dumper(kind, PyFormat.AUTO).__module__.startswith("psycopg") for kind in _BUILT_IN)


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(columns: Sequence[Texts]) -> str:
    """Rows in COPY's text format."""
    count, nulls = len(columns[0]), 0
    written: list[Sequence[str]] = []
    for texts in columns:
        if None in texts:
            nulls += texts.count(None)
            written.append(["\\N" if text is None else text for text in texts])
        else:
            written.append(texts)  # type: ignore[arg-type]
    rows = "\n".join(map("\t".join, zip(*written, strict=True))) + "\n"
    is_plain = (
        rows.count("\t") == count * (len(columns) - 1)
        and rows.count("\n") == count
        and rows.count("\\") == nulls
        and "\r" not in rows
    )
    if is_plain:  # nothing to be escaped, told by four looks at all rows and not by one at each text
        return rows
    escaped = [["\\N" if text is None else text.translate(_COPY_ESCAPES) for text in texts] for texts in columns]
    return "\n".join(map("\t".join, zip(*escaped, strict=True))) + "\n"


def array_literal(texts: Texts) -> str:
    """An array of texts, as PostgreSQL reads one.

    Raises:
        DataError: A text holds a NUL, with which a parameter would end.
    """
    if None not in texts:
        literal = '{"' + '","'.join(texts) + '"}'  # type: ignore[arg-type]
        if literal.count('"') == 2 * len(texts) and "\\" not in literal and "\0" not in literal:
            return literal
    parts = ["NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    literal = "{" + ",".join(parts) + "}"
    if "\0" in literal:
        raise DataError("PostgreSQL texts cannot hold NUL characters")
    return literal
