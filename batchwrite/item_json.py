"""Items as JSON and back: what dead letters hold. Pure.

JSON's own types are themselves. What JSON has no type for is an object with the name of its type, so that it comes back
as what it was. Nothing is ever made but what stands here and the classes that the caller names: a letter that somebody
has tampered with makes no others.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

from batchwrite.attributes import attributes_of

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

_MOST_LEVELS = 50


def encode(item: Any) -> str:
    """An item as JSON.

    Raises:
        ValueError: It is nested more than 50 levels deep.
    """
    return json.dumps(_encoded(item, _MOST_LEVELS), allow_nan=False)


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


def _encoded(value: Any, levels: int) -> Any:
    kind = type(value)
    if kind in {str, int, bool, type(None)} or (kind is float and math.isfinite(value)):
        return value
    if levels == 0:
        raise ValueError("an item is nested more than 50 levels deep")

    def all_of(values: Any) -> list[Any]:
        return [_encoded(each, levels - 1) for each in values]

    name = _NAMES.get(kind)
    if name is not None:
        return {_TYPE: name, _VALUE: _SCALARS[name][1](value)}
    if kind is list:
        return all_of(value)
    if kind is dict and all(type(key) is str for key in value) and _TYPE not in value:
        return {key: _encoded(each, levels - 1) for key, each in value.items()}
    if isinstance(value, Mapping):
        return {_TYPE: "mapping", _VALUE: [all_of(pair) for pair in value.items()]}
    if kind in {tuple, list}:
        return {_TYPE: "tuple", _VALUE: all_of(value)}
    if isinstance(value, AbstractSet):
        return {_TYPE: "set" if isinstance(value, MutableSet) else "frozenset", _VALUE: all_of(value)}
    return {_TYPE: "object", "class": kind.__qualname__, _VALUE: _parts(value, levels)}


def _parts(value: Any, levels: int) -> Any:
    """What an object of a class is made of."""
    if isinstance(value, Enum):
        return _encoded(value.value, levels - 1)
    if hasattr(value, "_asdict"):  # a named tuple
        attributes = value._asdict()
    elif isinstance(value, (str, int, float, bytes, tuple, list)):  # of a class of its own
        bases: tuple[Any, ...] = (str, int, float, bytes, tuple, list)
        base = next(each for each in bases if isinstance(value, each))
        return _encoded(base(value), levels - 1)
    elif isinstance(value, tuple(_NAMES)):  # likewise: a time stamp of pandas is a datetime
        name, (_, write, _) = next((name, each) for name, each in _SCALARS.items() if isinstance(value, each[0]))
        return {_TYPE: name, _VALUE: write(value)}
    else:
        attributes = attributes_of(value)
        if not attributes and not hasattr(value, "__dict__"):  # that it holds nothing is not said
            return shown(value) or {}
    return {name: _encoded(each, levels - 1) for name, each in attributes.items()}


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
