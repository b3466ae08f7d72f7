"""Items as JSON: all that an item can hold comes back as it was, and nothing is made but what was named."""

import json
import math
import pickle
import sys
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ids import shown

from batchwrite.errors import ItemRefused
from batchwrite.item_json import decode, encode
from batchwrite.ledger import fingerprint, key_text


@dataclass(frozen=True)
class Line:
    name: str
    parts: tuple


class Pair(NamedTuple):
    left: object
    right: object


class Colour(Enum):
    RED = 1
    GREEN = (2, Decimal("0.1"))


class Word(StrEnum):
    ONE = "one"


NAMED = (Line, Pair, Colour, Word)

ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30))])
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=ZONES),
    st.times(timezones=st.sampled_from([None, UTC])),
    st.timedeltas(),
    st.sampled_from([*Colour, *Word]),
)
KEYS = st.recursive(
    HASHABLE,
    lambda some: st.one_of(
        st.lists(some, max_size=3).map(tuple),
        st.frozensets(some, max_size=3),
        st.builds(Line, st.text(), st.lists(some, max_size=2).map(tuple)),
        st.builds(Pair, some, some),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    KEYS,
    lambda some: st.one_of(
        st.lists(some, max_size=3),
        st.dictionaries(st.text(), some, max_size=3),
        st.dictionaries(KEYS, some, max_size=3),
        st.sets(KEYS, max_size=3),
        st.builds(Pair, some, some),
    ),
    max_leaves=10,
)


def same(one, other):
    """Whether two values are equal, and of the same types as far as that can be looked at in their order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return (
            one == other and list(map(type, one)) == list(map(type, other)) and all(same(one[k], other[k]) for k in one)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Line):
        return same((one.name, one.parts), (other.name, other.parts))
    return one == other


@given(VALUES)
def test_a_value_comes_back_as_what_it_was(value):
    text = encode(value)
    assert same(value, decode(text, NAMED))
    text.encode("ascii")
    assert "\0" not in text  # or a database could not hold it


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("-Infinity")])
def test_what_is_no_number_comes_back_too(value):
    assert repr(decode(encode(value))) == repr(value)


@pytest.mark.parametrize("value", ["\0", "\ud800", "\u2028", "\U0001f600", '"', "$type"])
def test_any_text_comes_back(value):
    assert decode(encode([value, {value: value}])) == [value, {value: value}]


@pytest.mark.parametrize("value", [{"$type": "decimal", "value": "1"}, {"$type": None}, [{"$type": {"$type": 1}}]])
def test_an_item_that_looks_like_a_letter_is_none(value):
    assert decode(encode(value)) == value


def test_mappings_of_other_kinds_come_back_as_dictionaries():
    value = defaultdict(list, {"a": OrderedDict(b=1)})
    assert decode(encode(value)) == {"a": {"b": 1}}


class Stamp(datetime):
    """As pandas has one."""


class Price(Decimal):
    pass


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Stamp(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 3, tzinfo=UTC)),
        (Price("1.50"), Decimal("1.50")),
        (type("Name", (str,), {})("x"), "x"),
        (type("Rows", (list,), {})([1]), [1]),
    ],
)
def test_a_value_of_a_class_that_is_not_named_comes_back_as_what_it_is_made_of(value, read):
    found = decode(encode(value))
    assert (found, type(found)) == (read, type(read))


def test_an_object_of_a_class_that_is_not_named_comes_back_as_its_attributes():
    assert decode(encode(Line("x", (1, Pair(2, Colour.RED))))) == {"name": "x", "parts": (1, {"left": 2, "right": 1})}


def test_an_object_that_shows_no_attributes_is_kept_as_what_it_says_of_itself():
    assert decode(encode({"a": 1 + 2j})) == {"a": "(1+2j)"}
    assert decode(encode(object())) == {}


def test_what_is_nested_too_deep_is_refused_and_not_cut():
    value = 1
    for _ in range(60):
        value = [value]
    with pytest.raises(ValueError, match="nested more than 50 levels"):
        encode(value)


# ---- tampered letters


class Bomb:
    made = 0

    def __init__(self, *parts, **more):
        Bomb.made += 1

    def __reduce__(self):
        return (Bomb, ())


TAMPERED = [
    {"$type": "object", "class": "Bomb", "value": {}},
    {"$type": "object", "class": "test_item_json.Bomb", "value": "x"},
    {"$type": "object", "class": "Path", "value": "/etc/passwd"},
    {"$type": "object", "class": "system", "value": "exit 1"},
    {"$type": "object", "class": "Line.__init__", "value": {}},
    {"$type": "mapping", "value": [[{"$type": "object", "class": "Bomb", "value": {}}, 1]]},
    {"$type": "bytes", "value": "eA=="},
]


@pytest.mark.parametrize("letter", TAMPERED, ids=json.dumps)
def test_a_tampered_letter_makes_no_other_classes(letter):
    Bomb.made = 0
    try:
        found = decode(json.dumps([letter]), NAMED)
    except Exception:
        found = []
    assert Bomb.made == 0
    assert {type(each) for each in found} <= {dict, str, bytes}


@pytest.mark.parametrize("name", ["Decimal", "eval", "__import__", "object ", "Line", 5, ["decimal"], {}, None])
def test_a_type_that_is_unknown_makes_nothing(name):
    Bomb.made = 0
    try:
        found = decode(json.dumps({"$type": name, "value": ["1"], "class": "Bomb"}), NAMED)
    except Exception:
        found = None
    assert Bomb.made == 0
    assert type(found) in {type(None), dict, set}


def test_a_pickle_is_never_read():
    with pytest.raises(ValueError, match=r"."):
        decode(pickle.dumps(Bomb()).decode("latin-1"), NAMED)
    assert "pickle" not in sys.modules["batchwrite.item_json"].__dict__


# ---- fingerprints and keys


@given(VALUES, VALUES)
def test_equal_items_have_equal_fingerprints_and_others_have_others(one, other):
    assert fingerprint([one]) == fingerprint([decode(encode(one), NAMED)]) or "fold=1" in repr(one)  # JSON has no word
    if one != other:
        assert fingerprint([one]) != fingerprint([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1 + 2j, 1 + 3j),
        (bytearray(b"a"), bytearray(b"b")),
        (range(3), range(4)),
        (Stamp(2026, 1, 1), Stamp(2026, 1, 2)),
    ],
    ids=shown,
)
def test_items_of_classes_without_attributes_are_told_apart(one, other):
    assert fingerprint([one]) != fingerprint([other])
    assert fingerprint([one]) == fingerprint([type(one)(one) if isinstance(one, bytearray) else one])


def test_where_an_object_is_in_memory_makes_no_difference():
    assert fingerprint([object(), len, Bomb]) == fingerprint([object(), len, Bomb])
    assert fingerprint([lambda: 1]) == fingerprint([lambda: 1])


PLAIN_KEYS = st.recursive(
    st.one_of(st.integers(), st.text(), st.booleans(), st.binary(), st.uuids(), st.dates(), st.datetimes()),
    lambda some: st.lists(some, max_size=3).map(tuple),
    max_leaves=4,
)


@given(PLAIN_KEYS, PLAIN_KEYS)
def test_keys_are_told_apart_by_their_texts(one, other):
    assert (key_text(one) == key_text(other)) == same(one, other)
    assert len(key_text(one)) <= 128
    key_text(one).encode("ascii")


Nameless = namedtuple("Nameless", ["id"])  # noqa: PYI024 - an untyped one is what people have


@pytest.mark.parametrize(
    "key", [object(), 1 + 2j, [1], {"a": 1}, {1}, (1, [2]), Nameless(1), Path("a"), Bomb, Stamp(2026, 1, 1)], ids=shown
)
def test_a_key_that_might_be_taken_for_another_is_refused(key):
    with pytest.raises(ItemRefused, match="an idempotency key is a text"):
        key_text(key)


@pytest.mark.parametrize("value", [Fraction(1, 3), UUID(int=5), date(2026, 1, 1), time(1), timedelta(1), b"x", 1.5])
def test_a_key_may_be_of_the_standard_types(value):
    assert key_text(value) == key_text(value) != key_text((value,))
