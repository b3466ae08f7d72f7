"""Items as JSON and back: what dead letters hold. Pure.

JSON's own types are themselves. What JSON has no type for is an object with the name of its type, so that it comes back
as what it was. Nothing is ever made but what stands here and the classes that the caller names: a letter that somebody
has tampered with makes no others. What cannot come back as an equal value (an array of numpy, nanoseconds of pandas) is
written as far as it can be shown, and said to be lost.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

from batchwrite.attributes import attributes_of
from batchwrite.comparing import exact_number, is_not_itself

_TYPE, _VALUE = "$type", "value"

# How a type's values are written, and read back.
_SCALARS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "timedelta": (timedelta, lambda it: [it.days, it.seconds, it.microseconds], lambda parts: timedelta(*parts)),
    "decimal": (Decimal, str, Decimal),
    "fraction": (Fraction, str, Fraction),
    "uuid": (UUID, str, UUID),
    "bytearray": (
        bytearray,
        lambda raw: base64.b64encode(raw).decode(),
        lambda text: bytearray(base64.b64decode(text)),
    ),
    "bytes": (bytes, lambda raw: base64.b64encode(raw).decode(), base64.b64decode),
    "float": (float, repr, float),  # NaN and infinity, for which JSON has no word
}
_NAMES = {kind: name for name, (kind, _, _) in _SCALARS.items()}

# What a class of somebody else's may be a kind of.
_BASES: tuple[Any, ...] = (str, int, float, bytes, tuple, list)

_MOST_LEVELS = 50


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item as JSON.

    Attributes:
        text: The JSON.
        lost: Names of the classes whose values in the item do not come back as equal ones, in order.
    """

    text: str
    lost: tuple[str, ...]


def encode(item: Any) -> str:
    """An item as JSON.

    Raises:
        ValueError: It is nested more than 50 levels deep.
    """
    return encoded(item).text


def encoded(item: Any, types: Sequence[type] = ()) -> Encoded:
    """An item as JSON, and what of it is lost.

    Args:
        item: The item.
        types: Classes that `decode` is going to be given. Objects of others come back as their attributes, which is no
            loss as long as they have any.

    Raises:
        ValueError: It is nested more than 50 levels deep.
    """
    encoder = _Encoder(frozenset(types))
    parts = encoder.encoded(item, _MOST_LEVELS)
    return Encoded(json.dumps(parts, allow_nan=False), tuple(sorted(encoder.lost)))


def is_plain(value: Any) -> bool:
    """Whether a value is a scalar that comes back as what it was, or a tuple of such."""
    if type(value) is tuple:
        return all(map(is_plain, value))
    return type(value) in {str, int, float, bool, type(None)} or type(value) in _NAMES


def decode(text: str, types: Sequence[type] = ()) -> Any:
    """The item that `encode` has been given.

    Args:
        text: What it has returned.
        types: Classes (dataclasses, named tuples, enumerations) whose objects are to come back as such; an object of
            any other class comes back as a dictionary of its attributes.
    """
    return _decoded(json.loads(text), {kind.__qualname__: kind for kind in types})


class _Encoder:
    """Makes what JSON has types for of an item.

    Args:
        types: Classes whose objects come back as such.

    Attributes:
        lost: Names of the classes whose values do not come back as equal ones.
    """

    def __init__(self, types: frozenset[type]) -> None:
        self._types = types
        self.lost: set[str] = set()

    def encoded(self, value: Any, levels: int) -> Any:
        """A value, at most so many levels deep."""
        kind = type(value)
        if kind in {str, int, bool, type(None)} or (kind is float and math.isfinite(value)):
            return value
        if levels == 0:
            raise ValueError("an item is nested more than 50 levels deep")

        def all_of(values: Any) -> list[Any]:
            return [self.encoded(each, levels - 1) for each in values]

        name = _NAMES.get(kind)
        if name is not None:
            return {_TYPE: name, _VALUE: _SCALARS[name][1](value)}
        if kind is list:
            return all_of(value)
        if kind is dict and all(type(key) is str for key in value) and _TYPE not in value:
            return {key: self.encoded(each, levels - 1) for key, each in value.items()}
        if isinstance(value, Mapping):
            return {_TYPE: "mapping", _VALUE: [all_of(pair) for pair in value.items()]}
        if kind in {tuple, list}:
            return {_TYPE: "tuple", _VALUE: all_of(value)}
        if isinstance(value, AbstractSet):
            return {_TYPE: "set" if isinstance(value, MutableSet) else "frozenset", _VALUE: all_of(value)}
        return {_TYPE: "object", "class": kind.__qualname__, _VALUE: self._parts(value, levels)}

    def _parts(self, value: Any, levels: int) -> Any:
        """What an object of a class is made of."""
        if isinstance(value, Enum):
            return self.encoded(value.value, levels - 1)
        if hasattr(value, "_asdict"):  # a named tuple
            return self._attributes(value._asdict(), levels)
        base = next((each for each in _BASES if isinstance(value, each)), None)
        if base is not None:  # of a class of its own
            return self.encoded(self._same(value, base(value)), levels - 1)
        if isinstance(value, tuple(_NAMES)):  # likewise: a time stamp of pandas is a datetime
            name, (_, write, read) = next((name, each) for name, each in _SCALARS.items() if isinstance(value, each[0]))
            written = write(value)
            self._same(value, read(written))
            return {_TYPE: name, _VALUE: written}
        number = exact_number(value)
        if number is not None:  # of numpy's, say
            return self.encoded(self._same(value, number), levels - 1)
        attributes = attributes_of(value)
        if not attributes and type(value) not in self._types:
            self._note_lost(value)
        if not attributes and not hasattr(value, "__dict__"):  # that it holds nothing is not said
            return shown(value) or {}
        return self._attributes(attributes, levels)

    def _attributes(self, attributes: Mapping[str, Any], levels: int) -> dict[str, Any]:
        return {name: self.encoded(each, levels - 1) for name, each in attributes.items()}

    def _same(self, value: Any, read: Any) -> Any:
        """What is read back in place of a value; the value is lost if that is not equal to it."""
        try:
            is_same = bool(value == read) or (is_not_itself(value) and is_not_itself(read))
        except Exception:  # noqa: BLE001 - code of its class
            is_same = False
        if not is_same:
            self._note_lost(value)
        return read

    def _note_lost(self, value: Any) -> None:
        self.lost.add(type(value).__qualname__)


def shown(value: Any) -> str | None:
    """What an object says of itself that has no attributes, as those of C have none; nothing where it says nothing."""
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__:
        return None
    text = repr(value)
    return None if " at 0x" in text else text  # where it is in memory


def _decoded(value: Any, classes: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return [_decoded(each, classes) for each in value]
    if not isinstance(value, dict):
        return value
    name = value.get(_TYPE)
    if name is None:
        return {key: _decoded(each, classes) for key, each in value.items()}
    parts = value[_VALUE]
    if name in _SCALARS:
        return _SCALARS[name][2](parts)
    if name == "mapping":
        return {_decoded(key, classes): _decoded(each, classes) for key, each in parts}
    if name == "object":
        return _made(classes.get(value["class"]), _decoded(parts, classes))
    found = [_decoded(each, classes) for each in parts]
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[name](found)


def _made(kind: type | None, parts: Any) -> Any:
    """An object of a class that the caller has named; its parts where there is no such class."""
    if kind is None:
        return parts
    if isinstance(parts, dict) and not issubclass(kind, Enum):
        return kind(**parts)
    return kind(parts)
