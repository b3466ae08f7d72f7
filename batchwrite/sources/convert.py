"""Text and JSON values to the Python values that a column takes. Pure but for SQLAlchemy's types.

Strict: what can't be read as the column's type is refused with `ItemRefused`, in words that never quote the value.
Nothing is rounded, cut or guessed here; what the database does with a good value of the type (a text longer than the
column, more decimals than it keeps) is the database's.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import ARRAY, JSON, DateTime, Enum, String, Time
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import NullType, TypeEngine

Converter = Callable[[Any], Any]
"""Takes a value, gives what the column takes, or raises `ValueRefused`."""

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})

# What is longer is refused before any expression sees it: a line may have megabytes. PostgreSQL's numbers have at most
# 131,072 digits before the point and 16,383 behind it; times of any form are much shorter than this.
_MOST_OF_A_NUMBER = 150_000
_MOST_OF_A_TIME = 200

# Possessive where a digit could be taken by two parts: else a long number with an "x" behind it takes quadratic time.
_INTEGER = re.compile(r"[+-]?[0-9]++")
_NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = (
    r"(?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(?:0*) ?(?P<zone>Z|z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_TIME = re.compile(_CLOCK)
_DATETIME = re.compile(rf"(?P<date>{_DATE.pattern})(?:[Tt ]{_CLOCK})?")
_INTERVAL = re.compile(
    r"(?:(?P<days>[+-]?[0-9]+) days?,? ?)?"
    r"(?:(?P<sign>[+-])?(?P<hours>[0-9]+):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9](?:\.[0-9]{1,6})?))?)?"
)
_HEX = re.compile(r"(?:\\x)?(?P<digits>(?:[0-9a-fA-F]{2})*)")


class ValueRefused(Exception):
    """A value that does not fit: the text says why and never quotes it, unlike those of Python's own exceptions."""


def is_text(column_type: TypeEngine[Any]) -> bool:
    """Whether the column holds text, so that an empty text is a value and not the lack of one."""
    plain = _undomained(column_type)
    return isinstance(plain, NullType) or (isinstance(plain, String) and not isinstance(plain, Enum))


def text_converter(column_type: TypeEngine[Any]) -> Converter:
    """How a text becomes a value of the type; types this does not know take the text as it is."""
    plain = _undomained(column_type)
    if isinstance(plain, JSON):
        return _json_text
    if isinstance(plain, ARRAY):
        array = json_converter(plain)
        return lambda text: array(parse_json(text))
    converter = _by_python_type(plain, _FROM_TEXT, _text)
    return _without_zone(converter) if isinstance(plain, DateTime | Time) and not plain.timezone else converter


def json_converter(column_type: TypeEngine[Any]) -> Converter:
    """How a value of a JSON document, with decimals for its fractions, becomes a value of the type.

    A string is read as text in a file of delimited text would be, a number only goes where numbers are kept.
    """
    plain = _undomained(column_type)
    if isinstance(plain, JSON):
        return _plain_json
    if isinstance(plain, ARRAY):
        return _array_converter(json_converter(plain.item_type))
    from_text = text_converter(plain)
    from_number = _by_python_type(plain, _FROM_NUMBER, _same if isinstance(plain, NullType) else _no_number)

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            return from_text(value)
        if isinstance(value, dict | list):
            raise ValueRefused(f"{'an object' if isinstance(value, dict) else 'an array'} where one value is expected")
        return from_number(value)

    return convert


def parse_json(text: str) -> Any:
    """A JSON document as strict as it is written: decimals exact, no NaN or Infinity, no key twice.

    Raises:
        ValueRefused: It is none.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueRefused(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueRefused("JSON nested too deeply") from error
    except InvalidOperation as error:
        raise ValueRefused("a number out of range") from error
    except ValueError as error:
        raise ValueRefused("a number with too many digits") from error


def _undomained(column_type: TypeEngine[Any]) -> TypeEngine[Any]:
    return _undomained(column_type.data_type) if isinstance(column_type, DOMAIN) else column_type


def _by_python_type(column_type: TypeEngine[Any], choices: dict[type, Converter], default: Converter) -> Converter:
    try:
        python_type = column_type.python_type
    except NotImplementedError:  # SQLAlchemy 2.0; 2.1 says `object`
        return default
    return choices.get(python_type, default)


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueRefused("contains a NUL character")
    return text


def _same(value: Any) -> Any:
    return value


def _bounded(text: str, most: int, problem: str) -> str:
    if len(text) > most:
        raise ValueRefused(problem)
    return text


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueRefused("not a boolean (true or false)")


def _integer(text: str) -> int:
    digits = _bounded(text.strip(" \t"), _MOST_OF_A_NUMBER, "a whole number with too many digits")
    if not _INTEGER.fullmatch(digits):
        raise ValueRefused("not a whole number")
    try:
        return int(digits)
    except ValueError as error:  # Python refuses thousands of digits: reading them takes quadratic time
        raise ValueRefused("a whole number with too many digits") from error


def _decimal(text: str) -> Decimal:
    digits = _bounded(text.strip(" \t"), _MOST_OF_A_NUMBER, "a number with too many digits")
    if not _NUMBER.fullmatch(digits):
        raise ValueRefused("not a decimal number")
    try:
        return Decimal(digits)
    except InvalidOperation as error:
        raise ValueRefused("a number out of range") from error


def _float(text: str) -> float:
    digits = _bounded(text.strip(" \t"), _MOST_OF_A_NUMBER, "a number with too many digits")
    if not _NUMBER.fullmatch(digits):
        raise ValueRefused("not a number")
    return _finite(float(digits))


def _finite(number: float) -> float:
    if math.isinf(number):
        raise ValueRefused("a number out of range")
    return number


def _date(text: str) -> date:
    problem = "not a date (YYYY-MM-DD)"
    written = _bounded(text.strip(), _MOST_OF_A_TIME, problem)
    try:
        if _DATE.fullmatch(written):
            return date.fromisoformat(written)
    except ValueError:
        pass
    raise ValueRefused(problem)


def _datetime(text: str) -> datetime:
    """ISO 8601, with a blank for the T if you like; a date alone is its midnight."""
    problem = "not a date and time (YYYY-MM-DD HH:MM:SS)"
    found = _DATETIME.fullmatch(_bounded(text.strip(), _MOST_OF_A_TIME, problem))
    if found:
        try:
            return datetime.fromisoformat(f"{found['date']}T{found['clock'] or '00:00'}{_zone(found['zone'])}")
        except ValueError:
            pass
    raise ValueRefused(problem)


def _time(text: str) -> time:
    problem = "not a time (HH:MM:SS)"
    found = _TIME.fullmatch(_bounded(text.strip(), _MOST_OF_A_TIME, problem))
    if found:
        try:
            return time.fromisoformat(f"{found['clock']}{_zone(found['zone'])}")
        except ValueError:
            pass
    raise ValueRefused(problem)


def _zone(written: str | None) -> str:
    return "+00:00" if written in {"Z", "z"} else written or ""


def _without_zone(read: Callable[[str], Any]) -> Converter:
    """For a column that keeps no time zone. UTC goes in as it stands; any other offset would be lost without a word."""

    def convert(text: str) -> Any:
        moment = read(text)
        if moment.tzinfo is None:
            return moment
        if moment.utcoffset():
            raise ValueRefused("a UTC offset, which the column would lose: it has no time zone")
        return moment.replace(tzinfo=None)

    return convert


def _interval(text: str) -> timedelta:
    """Seconds, or days and a clock: `90`, `1.5`, `2 days`, `1 day 12:30`, `-0:00:01.5`."""
    problem = "not an interval (seconds, or DAYS days HH:MM:SS)"
    written = _bounded(text.strip(), _MOST_OF_A_TIME, problem)
    try:
        if _NUMBER.fullmatch(written):
            return timedelta(seconds=float(written))
        found = _INTERVAL.fullmatch(written)
        if written and found:
            clock = timedelta(
                hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0), seconds=float(found["seconds"] or 0)
            )
            return timedelta(days=int(found["days"] or 0)) + (-clock if found["sign"] == "-" else clock)
    except (OverflowError, ValueError) as error:
        raise ValueRefused("an interval out of range") from error
    raise ValueRefused(problem)


def _bytes(text: str) -> bytes:
    found = _HEX.fullmatch(text.strip())
    if not found:
        raise ValueRefused("not hexadecimal digits")
    return bytes.fromhex(found["digits"])


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text.strip())
    except ValueError as error:
        raise ValueRefused("not a UUID") from error


def _no_number(value: Any) -> Any:
    raise ValueRefused(f"{'a boolean' if isinstance(value, bool) else 'a number'} where the column takes text")


def _number_as(convert: Callable[[Any], Any]) -> Converter:
    def from_number(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueRefused("a boolean where a number is expected")
        return convert(value)

    return from_number


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return value
    raise ValueRefused("not a whole number")


def _float_of(value: Any) -> float:
    try:
        return _finite(float(value))
    except OverflowError as error:
        raise ValueRefused("a number out of range") from error


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise ValueRefused("not a boolean (true or false)")


def _seconds(value: Any) -> timedelta:
    try:
        return timedelta(seconds=float(value))
    except OverflowError as error:
        raise ValueRefused("an interval out of range") from error


_FROM_TEXT: dict[type, Converter] = {
    bool: _boolean,
    int: _integer,
    Decimal: _decimal,
    float: _float,
    date: _date,
    datetime: _datetime,
    time: _time,
    timedelta: _interval,
    bytes: _bytes,
    uuid.UUID: _uuid,
}

_FROM_NUMBER: dict[type, Converter] = {
    bool: _truth,
    int: _number_as(_whole),
    Decimal: _number_as(Decimal),
    float: _number_as(_float_of),
    timedelta: _number_as(_seconds),
}


def _array_converter(convert_item: Converter) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueRefused("not an array")
        return [convert(item) if isinstance(item, list) else _unless_null(convert_item, item) for item in value]

    return convert


def _unless_null(convert: Converter, value: Any) -> Any:
    return None if value is None else convert(value)


def _json_text(text: str) -> Any:
    value = _plain_json(parse_json(text))
    return JSON.NULL if value is None else value


def _plain_json(value: Any) -> Any:
    """A parsed document with floats for its decimals: what the JSON serialisers of the drivers take."""
    if isinstance(value, Decimal):
        return _float_of(value)
    if isinstance(value, dict):
        return {key: _plain_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_json(item) for item in value]
    return value


def _refuse_constant(_name: str) -> Any:
    raise ValueRefused("not JSON: neither NaN nor Infinity is")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueRefused("an object has a key twice")
    return fields
