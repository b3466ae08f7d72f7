import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwrite.sources import JsonLinesReader, LineReader, Record


def read(data: bytes, encoding: str = "utf-8") -> list[Record]:
    return list(JsonLinesReader(LineReader(io.BytesIO(data), encoding)))  # type: ignore[arg-type]


def test_records_carry_their_line_and_their_exact_bytes() -> None:
    records = read(b'{"a": 1}\r\n\n  \n{"b" : [1, {"c": null}]}')
    assert [(record.line, record.raw) for record in records] == [(1, b'{"a": 1}\r\n'), (4, b'{"b" : [1, {"c": null}]}')]
    assert [record.fields for record in records] == [{"a": 1}, {"b": [1, {"c": None}]}]


def test_fractions_are_exact() -> None:
    [record] = read(b'{"a": 0.1, "b": 12345678901234567890.123456789, "c": 1e2, "d": 7}')
    assert record.fields == {
        "a": Decimal("0.1"),
        "b": Decimal("12345678901234567890.123456789"),
        "c": Decimal("1e2"),
        "d": 7,
    }
    assert isinstance(record.fields["d"], int)


def test_nothing_and_blank_lines_are_no_records() -> None:
    assert read(b"") == read(b"\n \r\n\t\n") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"secret"', "not a JSON object"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at column 8"),
        (b"secret", "not JSON: Expecting value at column 1"),
        (b'{"a": 1} {"a": 2}', "not JSON: Extra data at column 10"),
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"a": NaN}', "not JSON: neither NaN nor Infinity is"),
        (b'{"a": -Infinity}', "not JSON: neither NaN nor Infinity is"),
        (b'{"a": 1, "a": 2}', "an object has a key twice"),
        (b'{"b": {"a": 1, "a": 1}}', "an object has a key twice"),
        (b'{"a": "\xff"}', "not utf-8 text"),
        (b'{"a": "\0"}', "contains a NUL character"),
        (b'{"a": 1e99999999999999999999}', "a number out of range"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "a number with too many digits"),
        (b"[" * 100_000, "JSON nested too deeply"),
    ],
)
def test_a_damaged_line_costs_itself(line: bytes, problem: str) -> None:
    records = read(b'{"a": 0}\n' + line + b'\n{"a": 2}')
    assert [record.problem for record in records] == [None, problem, None]
    assert records[1].raw == line + b"\n"
    assert records[1].fields is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(encoding: str) -> None:
    assert [record.fields for record in read('{"ä": "é"}\n{"ä": "ü"}'.encode(encoding), encoding)] == [
        {"ä": "é"},
        {"ä": "ü"},
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=5), max_size=6), st.booleans())
def test_what_the_json_module_writes_is_read(objects: list[dict[str, Any]], escaped: bool) -> None:
    data = "".join(json.dumps(fields, ensure_ascii=escaped) + "\n" for fields in objects)
    data = data.encode("utf-8", "surrogatepass")
    records = read(data)
    assert [record.fields for record in records] == objects
    assert b"".join(record.raw for record in records) == data
