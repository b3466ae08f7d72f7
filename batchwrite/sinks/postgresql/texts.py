"""Values as the texts that PostgreSQL reads them from, a column at a time.

Rows sent as texts must end up as SQLAlchemy's own INSERT would write them. There a value goes through the column's
bind processor, is dumped by psycopg as a parameter of some type, and is cast to the column's. So a text may stand for
it where that cast changes nothing: where psycopg declares no type or the column's own, or where the table below says
that reading the text gives the same value. Anything else has no fast path.

The table is for values of Python's own classes alone. One of another class may say something else of itself than
psycopg sends (`pandas.Timestamp.isoformat()` has nanoseconds, psycopg's bytes have none): it is what those bytes say.
"""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy
from psycopg import DataError
from psycopg.adapt import PyFormat
from psycopg.postgres import types as postgres_types
from psycopg.pq import Format
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def _zoned(value: time) -> str:
    offset = value.utcoffset()
    if offset is None or offset.microseconds:
        raise NoFastPath("times without a time zone are given for a column with one, or zones of split seconds")
    return value.isoformat()


def _without_scope(value: IPv6Address) -> str:
    if value.scope_id:
        raise NoFastPath("IPv6 addresses with a scope are given")
    return str(value)


def _as_single(value: float) -> str:
    """The number of single precision that is nearest to a float, as PostgreSQL's own cast finds it.

    The digits of the float would not do: read as single precision they may be rounded the other way where it is halfway
    between two, as 18014399583223808 is, whose digits are 1.801439958322381e+16.
    """
    try:
        single: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        single = value  # for the server to refuse
    return repr(value if value and not single else single)


def _as_interval(value: timedelta) -> str:
    # Signs everywhere: one IntervalStyle would take the first for the others' too.
    return f"{value.days:+} days {value.seconds:+} seconds {value.microseconds:+} microseconds"


def _as_bytea(value: bytes) -> str:
    return "\\x" + value.hex()


def _as_numeric(value: float) -> str:
    return format(value, ".15g")  # what PostgreSQL's cast from double precision keeps. Source: float8_numeric()


def _as_boolean(value: bool) -> str:
    return "true" if value else "false"


_SINGLE = struct.Struct("!f")
_INTEGERS: dict[type, Any] = {int: int.__repr__}
_NUMBERS = _INTEGERS | {Decimal: Decimal.__str__, float: _as_numeric}
_FLOATS = _INTEGERS | {Decimal: Decimal.__str__, float: float.__repr__}
_SINGLES = _INTEGERS | {Decimal: Decimal.__str__, float: _as_single}
_TEXTS: dict[type, Any] = {int: int.__repr__}
_ADDRESSES: dict[type, Any] = {
    IPv4Address: IPv4Address.__str__,
    IPv4Interface: IPv4Interface.__str__,
    IPv6Address: _without_scope,
}
_NETWORKS: dict[type, Any] = {IPv4Network: IPv4Network.__str__, IPv6Network: IPv6Network.__str__}

_BUILT_IN = (int, str, bool, float, Decimal, bytes, date, datetime, time, timedelta, UUID)


_WHOLE = frozenset({"smallint", "integer", "bigint"})
_WORDS = frozenset({"text", "character varying", "bpchar", "citext"})


def _float_classes(dialect: Dialect) -> tuple[type, ...]:
    """What types of floats are instances of; up to SQLAlchemy 2.0 the dialect's are none of the general one."""
    return sqlalchemy.Float, type(sqlalchemy.Float().dialect_impl(dialect))


def _family(kind: Any, server: ServerColumn, dialect: Dialect) -> tuple[dict[type, Any], frozenset[str]] | None:
    """How values of a column's type are written, by their own type, and the types in the database that they suit.

    What has no writer goes through psycopg. A type that is not here has no fast path: SQLAlchemy may cast to it in
    ways of its own (to BIT(3) or to an array of VARCHAR(3), say, it cuts values off).
    """
    zone = "with" if getattr(kind, "timezone", False) else "without"
    moment = datetime.isoformat if zone == "with" else _naive
    floats = _SINGLES if server.type_name == "real" else _FLOATS
    uuids = frozenset({"uuid"}) if getattr(kind, "native_uuid", True) else _WORDS
    families: list[tuple[type | tuple[type, ...], dict[type, Any], frozenset[str]]] = [
        (sqlalchemy.Integer, _INTEGERS, _WHOLE),
        (_float_classes(dialect), floats, frozenset({"real", "double precision"})),
        (sqlalchemy.Numeric, _NUMBERS, frozenset({"numeric"})),
        (sqlalchemy.Enum, {}, _WORDS),
        (sqlalchemy.String, _TEXTS, _WORDS),
        (sqlalchemy.Boolean, {bool: _as_boolean}, frozenset({"boolean"})),
        (sqlalchemy.Date, {date: date.isoformat}, frozenset({"date"})),
        (sqlalchemy.DateTime, {datetime: moment, date: date.isoformat}, frozenset({f"timestamp {zone} time zone"})),
        (sqlalchemy.Time, {time: _zoned if zone == "with" else _naive}, frozenset({f"time {zone} time zone"})),
        (postgresql.INTERVAL, {timedelta: _as_interval}, frozenset({"interval"})),
        (sqlalchemy.LargeBinary, {bytes: _as_bytea}, frozenset({"bytea"})),
        (sqlalchemy.Uuid, {UUID: UUID.__str__}, uuids),
        (sqlalchemy.JSON, {}, frozenset({"json", "jsonb"})),
        (postgresql.INET, _ADDRESSES, frozenset({"inet"})),
        (postgresql.CIDR, _NETWORKS, frozenset({"cidr"})),
        (postgresql.MACADDR, {}, frozenset({"macaddr"})),
        (postgresql.MACADDR8, {}, frozenset({"macaddr8"})),
        (postgresql.MONEY, {}, frozenset({"money"})),
    ]
    return next(((writers, names) for family, writers, names in families if isinstance(kind, family)), None)


def _cuts_off(kind: Any, server: ServerColumn) -> bool:
    """Whether SQLAlchemy's cast to a type may change what the column would keep, as one to INTERVAL(0) drops digits."""
    if not isinstance(kind, postgresql.INTERVAL) or (kind.precision is None and kind.fields is None):
        return False
    fields = f" {kind.fields.lower()}" if kind.fields else ""
    precision = "" if kind.precision is None else f"({kind.precision})"
    return server.declared_as != f"interval{fields}{precision}"


# ---- what psycopg sends


def _oid(name: str) -> int:
    return postgres_types[name].oid


_PERHAPS_SINGLE = _oid("float4")
_FIRST_DAY, _FIRST_MOMENT = date(2000, 1, 1), datetime(2000, 1, 1)  # noqa: DTZ001 - of both kinds of moments


def _whole(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _interval(data: bytes) -> timedelta:
    microseconds, days, _months = struct.unpack("!qii", data)
    return timedelta(days=days, microseconds=microseconds)


_READERS: dict[int, Callable[[bytes], Any]] = {
    **dict.fromkeys(map(_oid, ("int2", "int4", "int8")), _whole),
    _PERHAPS_SINGLE: lambda data: _SINGLE.unpack(data)[0],
    _oid("float8"): lambda data: struct.unpack("!d", data)[0],
    _oid("bool"): lambda data: data != b"\0",
    _oid("date"): lambda data: _FIRST_DAY + timedelta(days=_whole(data)),
    _oid("time"): lambda data: (_FIRST_MOMENT + timedelta(microseconds=_whole(data))).time(),
    _oid("timestamp"): lambda data: _FIRST_MOMENT + timedelta(microseconds=_whole(data)),
    _oid("timestamptz"): lambda data: (_FIRST_MOMENT + timedelta(microseconds=_whole(data))).replace(tzinfo=UTC),
    _oid("interval"): _interval,
    _oid("uuid"): lambda data: UUID(bytes=data),
    _oid("bytea"): bytes,
}
"""What PostgreSQL's binary forms stand for in Python's own classes, by the number of the type."""


_SIZED = frozenset({int, Decimal, float})

_BYTES = frozenset({bytes, type(None)})


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
        while isinstance(kind, (TypeDecorator, postgresql.DOMAIN)):
            inner = kind.data_type if isinstance(kind, postgresql.DOMAIN) else kind.impl_instance
            kind = inner.dialect_impl(dialect)
        self._takes_texts = isinstance(kind, (sqlalchemy.String, sqlalchemy.JSON)) or self._process is not None
        self._longest = getattr(kind, "length", None) if isinstance(kind, sqlalchemy.String) else None
        self._below = _bound(kind)
        self._takes_singles = isinstance(kind, _float_classes(dialect))
        self._is_binary = isinstance(kind, sqlalchemy.LargeBinary)
        # What only wraps bytes for the driver is needed for what is none, as an array.
        self._only_wraps_bytes = self._is_binary and not isinstance(column.type, TypeDecorator)
        # Types as which psycopg may declare a text that stands for a value of the column's.
        self._own_types = {server.type_oid} if self._is_binary else {0, server.type_oid}
        if server.type_name == "jsonb":
            self._own_types.add(_oid("json"))  # the cast reads it as the column would
        self._name = column.name
        self._refusal = None
        self._writers, suited = _family(kind, server, dialect) or ({}, frozenset())
        declared = f"column {column.name}, declared as {_shown(column.type)}"
        if has_expression or _has_bind_expression(kind):
            self._refusal = f"the type of column {column.name} is written as an SQL expression"
        elif not suited:
            self._refusal = f"{declared}: how that is written, SQLAlchemy alone knows"
        elif (server.kind != "e" and _base(server.type_name) not in suited) or _cuts_off(kind, server):
            self._refusal = f"{declared}, is {server.declared_as} in the database"

    def require(self) -> None:
        """Make sure that values of the column's type can be written so.

        Raises:
            NoFastPath: They cannot.
        """
        if self._refusal:
            raise NoFastPath(self._refusal)

    def texts(self, values: Sequence[Any], types: frozenset[type], transformer: Transformer) -> Texts:
        """The values as texts, `None` for NULL.

        Raises:
            NoFastPath: A value cannot be written so.
            Exception: Whatever a bind processor raises.
        """
        self.require()
        if self._only_wraps_bytes:
            self._require_no_texts(types)
        if self._process is not None and not (self._only_wraps_bytes and types <= _BYTES):
            values = list(map(self._process, values))
            types = frozenset(map(type, values))
        if self._is_binary:
            self._require_no_texts(types)
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

    def _require_no_texts(self, types: frozenset[type]) -> None:
        if any(issubclass(kind, str) for kind in types):
            raise NoFastPath(f"column {self._name} of bytes is given texts")

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
        dumper = transformer.get_dumper(value, PyFormat.AUTO)  # the one that SQLAlchemy's INSERT uses
        dumped = dumper.dump(value)
        if dumped is None:
            return None
        data = memoryview(dumped).tobytes()  # and not bytes(), which makes so many zeros of a number
        if dumper.format == Format.TEXT and dumper.oid in self._own_types:
            return data.decode(transformer.encoding)
        return self._reread(data, dumper.format, dumper.oid, type(value))

    def _reread(self, data: bytes, form: int, oid: int, kind: type) -> str:
        """The text for what stands in psycopg's bytes, as a value of Python's own classes."""
        read = _READERS.get(oid) if form == Format.BINARY else None
        if read is not None and (oid != _PERHAPS_SINGLE or self._takes_singles):
            plain = read(data)
            writer = self._writers.get(type(plain))
            if writer is not None:
                written: str = writer(plain)
                return written
        raise NoFastPath(f"column {self._name} is given values of type {kind.__name__}")


def _base(type_name: str) -> str:
    """The name of a type; that of an extension's may be that of any schema."""
    return "citext" if type_name.endswith(".citext") else type_name


def _shown(kind: Any) -> str:
    """A type in words; of one of the user's own only the name, since it may hold a key of his."""
    return repr(kind) if type(kind).__module__.startswith("sqlalchemy.") else type(kind).__name__


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
