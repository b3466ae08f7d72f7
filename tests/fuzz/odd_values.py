"""Values that are not what they seem, and what their source texts are evaluated with.

A value of a case is a piece of Python (`"np.int8(100)"`): each way of writing it makes the value anew, nothing of one
way is left for the other, and a finding can be printed as a script.
"""

import enum
import inspect
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy import ForeignKey, TypeDecorator
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles

MARKER = "zq9"
"""Stands in values and in what they raise: no message of a run may hold it."""


def raising(*methods, base=object):
    """A class whose instances raise in some of their methods."""

    def fail(self, *_arguments):
        raise ValueError("not that, zq9")

    return type("Raising", (base,), dict.fromkeys(methods, fail))


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Word(str):
    """A text by another class."""

    __slots__ = ()


class Count(int):
    """A number by another class."""


class Choosy(TypeDecorator):
    """Numbers; what is not liked raises in the type's own conversion."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        if value == 13:
            raise RuntimeError("no such number, zq9")
        return value


class Doubled(TypeDecorator):
    """Numbers that are stored as their double: 1 and 1.0 are not all that may be equal here."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else abs(int(value)) * 2


class LTree(sa.types.UserDefinedType):
    """PostgreSQL's paths of labels, which SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_options):
        return "ltree"


@compiles(sa.Interval, "sqlite")
def _interval_by_its_epoch(kind, compiler, **_options):
    return "DATETIME"


NAMESPACE: dict[str, Any] = {
    **{name: thing for name, thing in vars(sa).items() if not name.startswith("_")},
    "ForeignKey": ForeignKey,
    "np": np,
    "pd": pd,
    "uuid": uuid,
    "enum": enum,
    "UTC": UTC,
    "date": date,
    "datetime": datetime,
    "time": time,
    "timedelta": timedelta,
    "timezone": timezone,
    "Decimal": Decimal,
    "mysql": mysql,
    "postgresql": postgresql,
    "sqlite": sqlite,
}

HELPERS = (raising, Colour, Size, Word, Count, Choosy, Doubled, LTree)
NAMESPACE |= {helper.__name__: helper for helper in HELPERS}

IMPORTS = """\
import enum, sys, uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy import *
from sqlalchemy.dialects import mysql, postgresql, sqlite
"""


def sources_of(text: str) -> str:
    """The source of the helpers that a text names."""
    return "\n\n".join(inspect.getsource(helper) for helper in HELPERS if f"{helper.__name__}" in text)


ODD = (
    # numpy's numbers, in every width
    *("np.int8(100)", "np.int16(2)", "np.int32(3)", "np.int64(1)", "np.uint8(200)", "np.uint16(2)", "np.uint32(3)"),
    *("np.uint64(2**63)", "np.uint64(2)", "np.float16(2048)", "np.float32(0.1)", "np.float64(0.5)"),
    *("np.float64('nan')", "np.longdouble(1)", "np.complex64(1)", "np.bool_(True)", "np.str_('x')", "np.bytes_(b'x')"),
    *("np.datetime64('2024-01-02')", "np.timedelta64(1, 's')", "np.datetime64('NaT')", "np.void(b'x')"),
    # its arrays
    *("np.array([1, 2])", "np.array(5)", "np.array([])", "np.array([[1, 2], [3, 4]])", "np.array(['a', None])"),
    *("pd.NA", "pd.NaT", "pd.Timestamp('2024-01-02 03:04:05.123456789')", "pd.Timestamp('2024-01-02', tz='UTC')"),
    *("pd.Timedelta(1500)", "pd.Interval(0, 1)", "pd.Series([1, 2])", "pd.Series([1])", "pd.Period('2024-01')"),
    *("Decimal('NaN')", "Decimal('sNaN')", "Decimal('Infinity')", "Decimal('1E+400')", "Decimal('1E-400')"),
    *("Decimal('0.1')", "Decimal('1.0')", "Decimal(2**70)"),
    *("float('nan')", "float('inf')", "-0.0", "1e308", "5e-324", "1.5", "1.0", "complex(1, 2)"),
    *("2**31", "-2**31 - 1", "2**63", "-2**63", "2**70", "10**400", "True", "False", "-1", "0"),
    *("Word('a')", "Count(1)", "Size.LARGE", "Colour.RED", "Word('2')", "Count(2**70)"),
    *("'\\ud800zq9'", "'a\\x00zq9'", "''", "'zq9' * 100", "'NULL'", "'null'", "'{}'", '"it\'s"', "'\\\\'", "'\"'"),
    *(
        "'1'",
        "' 1 '",
        "'1e2'",
        "'NaN'",
        "'infinity'",
        "'ä€\U0001f600'",
        "'a\\n b'",
        "'%s %(x)s'",
        "'zq9'",
        "'A'",
        "'a '",
    ),
    *("'(1'", "'[1,2'", "'t'", "'now'", "'\\\\x00'", "'$1'", "'{NULL}'"),
    *("b''", "b'\\x00\\xff'", "b'zq9'", "bytearray(b'ab')", "memoryview(b'ab')"),
    *("datetime(2024, 1, 2, 3, 4, 5, 678901)", "datetime(2024, 1, 2, tzinfo=UTC)", "date(2024, 1, 2)", "date(1, 1, 1)"),
    *("datetime(9999, 12, 31, 23, 59, 59, 999999)", "time(3, 4, 5)", "time(3, 4, tzinfo=UTC)", "timedelta(days=1)"),
    *("timedelta(days=-1, microseconds=1)", "timedelta.max", "uuid.UUID(int=7)"),
    *("object()", "[1]", "[]", "[None]", "['zq9']", "(1,)", "{1}", "frozenset({1})", "{'a': 1}", "{}", "range(2)"),
    *("int", "len", "ValueError('zq9')", "iter([1])", "...", "NotImplemented", "slice(1)"),
    *("raising('__eq__')()", "raising('__hash__')()", "raising('__bool__')()", "raising('__str__', '__repr__')()"),
    *(
        "raising('__eq__', '__hash__', base=int)(1)",
        "raising('__eq__', base=int)(1)",
        "raising('__bool__', base=int)(1)",
    ),
    *("raising('__str__', '__repr__', base=int)(1)", "raising('__eq__', base=str)('a')"),
    *("raising('__str__', '__repr__', base=str)('a')", "raising('__hash__', base=str)('a')"),
    *("raising('__eq__', '__ne__', '__hash__', base=str)('b')", "raising('__len__', base=str)('a')"),
    *("raising('__add__', '__radd__', base=int)(1)", "raising('__index__', '__int__', base=int)(2)"),
    *("raising('__lt__', '__gt__', base=int)(1)", "raising('__format__', base=float)(0.5)"),
    *("raising('__eq__', base=Decimal)('1.5')", "raising('__str__', base=Decimal)('1.5')"),
    *("raising('__getattr__')()", "raising('__iter__', base=list)([1])", "raising('encode', base=str)('a')"),
    *("null()", "literal(1)", "func.lower('A')", "text('1')"),
    "None",
)
"""Values of every sort, for any column."""

AMBIGUOUS = (
    *("np.array([1, 2])", "np.array(['a', 'b'])", "pd.NA", "pd.Series([1, 2])", "Decimal('sNaN')", "float('nan')"),
    *("raising('__eq__', '__ne__')()", "raising('__eq__', '__ne__', '__hash__', base=str)('b')"),
    *("raising('__eq__', '__ne__', base=int)(1)", "np.array([[1, 2], [3, 4]])"),
)
"""Values that cannot be compared, or answer with what is neither true nor false."""

ODD_DELTAS = (
    *("np.int8(100)", "np.int16(30000)", "np.int32(2 * 10**9)", "np.int64(2**40)", "np.uint8(200)", "np.uint64(5)"),
    *("np.int8(-100)", "np.float16(2048)", "np.float16(1)", "np.float32(2**24)", "np.float32(1)", "np.float64(0.5)"),
    *("Count(3)", "Size.LARGE", "True", "np.bool_(True)", "Decimal('2')", "Decimal('NaN')", "Decimal('sNaN')", "1.0"),
    *("np.array([1, 2])", "np.array(5)", "pd.NA", "pd.NaT", "None", "'1'", "float('nan')", "float('inf')", "2**70"),
    *("raising('__add__', '__radd__', base=int)(1)", "raising('__eq__', '__hash__', base=int)(1)", "object()"),
    *("timedelta(days=1)", "pd.Timedelta(1500)", "complex(1, 2)", "[1]", "raising('__mod__', base=int)(2)", "10**400"),
    *("raising('__sub__', '__rsub__', base=float)(0.5)", "np.longdouble(1)", "np.timedelta64(1, 's')"),
)
"""What may be added to a column, or may not."""
