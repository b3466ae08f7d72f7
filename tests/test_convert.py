import json
import math
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.sources import Record, RecordMapper
from batchwrite.sources.convert import ValueRefused, is_text, json_converter, text_converter

TWO_HOURS = timezone(timedelta(hours=2))
AWARE = sa.DateTime(timezone=True)
AN_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


def from_text(column_type: Any, text: str) -> Any:
    return text_converter(column_type)(text)


@pytest.mark.parametrize(
    ("column_type", "text", "value"),
    [
        (sa.Integer(), "42", 42),
        (sa.BigInteger(), " -7\t", -7),
        (sa.SmallInteger(), "+007", 7),
        (sa.Numeric(10, 2), "12.30", Decimal("12.30")),
        (sa.Numeric(), " -.5 ", Decimal("-0.5")),
        (sa.Numeric(), "1e3", Decimal("1e3")),
        (sa.Numeric(), "12345678901234567890.0123456789", Decimal("12345678901234567890.0123456789")),
        (sa.Float(), "1.5e-3", 0.0015),
        (sa.Double(), "7", 7.0),
        (postgresql.REAL(), "2.", 2.0),
        (sa.Boolean(), "True", True),
        (sa.Boolean(), " f ", False),
        (sa.Boolean(), "YES", True),
        (sa.Boolean(), "0", False),
        (sa.Date(), "2011-12-09", date(2011, 12, 9)),
        (sa.DateTime(), "2011-12-09 08:26:00", datetime(2011, 12, 9, 8, 26)),  # noqa: DTZ001
        (sa.DateTime(), "2011-12-09T08:26", datetime(2011, 12, 9, 8, 26)),  # noqa: DTZ001
        (sa.DateTime(), "2011-12-09", datetime(2011, 12, 9)),  # noqa: DTZ001
        (sa.DateTime(), "2011-12-09 08:26:00.5", datetime(2011, 12, 9, 8, 26, 0, 500_000)),  # noqa: DTZ001
        (sa.DateTime(), "2011-12-09 08:26:00.123456000", datetime(2011, 12, 9, 8, 26, 0, 123_456)),  # noqa: DTZ001
        (sa.DateTime(), "2011-12-09T08:26:00Z", datetime(2011, 12, 9, 8, 26)),  # noqa: DTZ001
        (AWARE, "2011-12-09T08:26:00Z", datetime(2011, 12, 9, 8, 26, tzinfo=UTC)),
        (AWARE, "2011-12-09 08:26:00 +02", datetime(2011, 12, 9, 8, 26, tzinfo=TWO_HOURS)),
        (AWARE, "2011-12-09 08:26:00+0200", datetime(2011, 12, 9, 8, 26, tzinfo=TWO_HOURS)),
        (AWARE, "2011-12-09 08:26:00+02:00", datetime(2011, 12, 9, 8, 26, tzinfo=TWO_HOURS)),
        (AWARE, "2011-12-09 08:26:00", datetime(2011, 12, 9, 8, 26)),  # noqa: DTZ001
        (sa.Time(), "08:26:01.25", time(8, 26, 1, 250_000)),
        (sa.Time(timezone=True), "08:26+02:00", time(8, 26, tzinfo=TWO_HOURS)),
        (sa.Interval(), "90", timedelta(seconds=90)),
        (sa.Interval(), "-1.5", timedelta(seconds=-1.5)),
        (postgresql.INTERVAL(), "2 days", timedelta(days=2)),
        (postgresql.INTERVAL(), "1 day 12:30", timedelta(days=1, hours=12, minutes=30)),
        (postgresql.INTERVAL(), "-1 days, 0:00:01.5", timedelta(days=-1, seconds=1.5)),
        (postgresql.INTERVAL(), "-100:00:30", -timedelta(hours=100, seconds=30)),
        (sa.JSON(), '{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        (postgresql.JSONB(), '"text"', "text"),
        (sa.JSON(), "null", sa.JSON.NULL),
        (sa.LargeBinary(), "00ffAB", b"\x00\xff\xab"),
        (postgresql.BYTEA(), r"\x00ff", b"\x00\xff"),
        (sa.Uuid(), str(AN_ID), AN_ID),
        (postgresql.UUID(), AN_ID.hex.upper(), AN_ID),
        (sa.Uuid(as_uuid=False), str(AN_ID), str(AN_ID)),
        (sa.Enum("a", "b"), "a", "a"),
        (postgresql.ENUM("a", name="letter"), "z", "z"),  # whether it is one of them is the database's to say
        (sa.String(3), " too long ", " too long "),
        (sa.Text(), "", ""),
        (postgresql.ARRAY(sa.Integer()), "[1, null, 3]", [1, None, 3]),
        (postgresql.ARRAY(sa.Date()), '[["2011-12-09"], []]', [[date(2011, 12, 9)], []]),
        (postgresql.DOMAIN("amount", sa.Numeric()), "1.5", Decimal("1.5")),
        (postgresql.INET(), "10.0.0.1", "10.0.0.1"),
        (sa.types.NullType(), "anything", "anything"),
    ],
)
def test_text_becomes_the_type(column_type: Any, text: str, value: Any) -> None:
    converted = from_text(column_type, text)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("column_type", "texts", "message"),
    [
        (sa.Integer(), ["1.0", "1_000", "1,000", "--1", "", "x", "1e3", "\u0661", "0x1f", "1 2"], "not a whole number"),
        (sa.Integer(), ["9" * 5_000], "a whole number with too many digits"),
        (
            sa.Numeric(),
            ["NaN", "Infinity", "1_0.5", "1,5", "", ".", "$1", "1e", "\u0663.\u0665"],
            "not a decimal number",
        ),
        (sa.Numeric(), ["1e99999999999999999999"], "a number out of range"),
        (sa.Float(), ["nan", "-inf", "1_0", "", "0x1p3"], "not a number"),
        (sa.Float(), ["1e999"], "a number out of range"),
        (sa.Boolean(), ["2", "", "maybe", "truee", "1.0"], "not a boolean (true or false)"),
        (
            sa.Date(),
            ["09/12/2011", "2011-02-30", "20111209", "2011-W01-1", "2011-12-09 00:00:00", "", "2011-1-1"],
            "not a date (YYYY-MM-DD)",
        ),
        (
            sa.DateTime(),
            ["2011-12-09 25:00:00", "2011-12-09T", "20111209T082600", "1323419160", "2011-12-09 08:26:00.1234567"],
            "not a date and time (YYYY-MM-DD HH:MM:SS)",
        ),
        (
            sa.DateTime(),
            ["2011-12-09 08:26:00+02:00"],
            "a UTC offset, which the column would lose: it has no time zone",
        ),
        (sa.Time(), ["8:26", "24:00:01", "0826", "08:26+01"[:4]], "not a time (HH:MM:SS)"),
        (
            sa.Interval(),
            ["", "1 hour", "1:2:3", "P1D", "days", "1:60"],
            "not an interval (seconds, or DAYS days HH:MM:SS)",
        ),
        (sa.Interval(), ["1e300", "99999999999 days"], "an interval out of range"),
        (sa.JSON(), ["{"], "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (sa.JSON(), ["[NaN]"], "not JSON: neither NaN nor Infinity is"),
        (sa.JSON(), ['{"a": 1, "a": 2}'], "an object has a key twice"),
        (sa.JSON(), ["[1e999]"], "a number out of range"),
        (sa.LargeBinary(), ["abc", "zz", "0x00", "00 ff"], "not hexadecimal digits"),
        (sa.Uuid(), ["1234", "", "x" * 32], "not a UUID"),
        (
            postgresql.ARRAY(sa.Integer()),
            ["{1,2}"],
            "not JSON: Expecting property name enclosed in double quotes at column 2",
        ),
        (postgresql.ARRAY(sa.Integer()), ["1"], "not an array"),
        (postgresql.ARRAY(sa.Integer()), ["[1.5]", '["x"]'], "not a whole number"),
    ],
)
def test_text_that_is_refused(column_type: Any, texts: list[str], message: str) -> None:
    for text in texts:
        with pytest.raises(ValueRefused) as caught:
            from_text(column_type, text)
        assert str(caught.value) == message, text


@pytest.mark.parametrize(
    ("column_type", "value", "converted"),
    [
        (sa.Integer(), 5, 5),
        (sa.Integer(), "5", 5),
        (sa.Numeric(), Decimal("0.1"), Decimal("0.1")),
        (sa.Numeric(), 3, Decimal(3)),
        (sa.Numeric(), "0.30", Decimal("0.30")),
        (sa.Float(), Decimal("0.1"), 0.1),
        (sa.Float(), 2, 2.0),
        (sa.Boolean(), True, True),
        (sa.Boolean(), 0, False),
        (sa.Boolean(), "yes", True),
        (sa.Date(), "2011-12-09", date(2011, 12, 9)),
        (sa.Interval(), 90, timedelta(seconds=90)),
        (sa.JSON(), {"a": [Decimal("1.5"), 1, None, "x", True]}, {"a": [1.5, 1, None, "x", True]}),
        (sa.JSON(), "text", "text"),
        (sa.String(), "text", "text"),
        (sa.LargeBinary(), "00ff", b"\x00\xff"),
        (postgresql.ARRAY(sa.Numeric()), [Decimal("1.5"), None], [Decimal("1.5"), None]),
        (sa.types.NullType(), 5, 5),
    ],
)
def test_json_values_become_the_type(column_type: Any, value: Any, converted: Any) -> None:
    result = json_converter(column_type)(value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("column_type", "value", "message"),
    [
        (sa.String(), 5, "a number where the column takes text"),
        (sa.String(), Decimal("1.5"), "a number where the column takes text"),
        (sa.String(), True, "a boolean where the column takes text"),
        (sa.String(), {}, "an object where one value is expected"),
        (sa.Integer(), [1], "an array where one value is expected"),
        (sa.String(), "a\0b", "contains a NUL character"),
        (sa.Integer(), Decimal("1.0"), "not a whole number"),
        (sa.Integer(), True, "a boolean where a number is expected"),
        (sa.Numeric(), False, "a boolean where a number is expected"),
        (sa.Numeric(), "x", "not a decimal number"),
        (sa.Float(), 10**400, "a number out of range"),
        (sa.Float(), Decimal("1e999"), "a number out of range"),
        (sa.Boolean(), 2, "not a boolean (true or false)"),
        (sa.Date(), 20111209, "a number where the column takes text"),
        (sa.Interval(), 10**400, "an interval out of range"),
        (postgresql.ARRAY(sa.Integer()), 1, "not an array"),
    ],
)
def test_json_values_that_are_refused(column_type: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        json_converter(column_type)(value)
    assert str(caught.value) == message


@given(st.text(max_size=40))
def test_any_text_is_converted_or_refused_without_being_quoted(text: str) -> None:
    for column_type in (
        *(sa.Integer(), sa.Numeric(), sa.Float(), sa.Boolean(), sa.Date(), sa.DateTime(), AWARE, sa.Time(), sa.Uuid()),
        *(sa.Interval(), sa.JSON(), sa.LargeBinary(), postgresql.ARRAY(sa.Integer())),
    ):
        for marked in (text, f"{text}☃", f"☃{text}"):
            try:
                from_text(column_type, marked)
            except ValueRefused as refusal:
                assert "☃" not in str(refusal)  # noqa: PT017


@given(
    st.one_of(
        st.tuples(st.just(sa.Integer()), st.integers()),
        st.tuples(st.just(sa.Numeric()), st.decimals(allow_nan=False, allow_infinity=False)),
        st.tuples(st.just(sa.Float()), st.floats(allow_nan=False, allow_infinity=False)),
        st.tuples(st.just(sa.Date()), st.dates()),
        st.tuples(st.just(sa.DateTime()), st.datetimes()),
        st.tuples(st.just(AWARE), st.datetimes(timezones=st.just(TWO_HOURS))),
        st.tuples(st.just(sa.Time()), st.times()),
        st.tuples(st.just(sa.Interval()), st.timedeltas(timedelta(-9_999), timedelta(9_999))),
        st.tuples(st.just(sa.Uuid()), st.uuids()),
    )
)
def test_what_python_writes_is_read_back(pair: tuple[Any, Any]) -> None:
    column_type, value = pair
    assert from_text(column_type, str(value)) == value


def test_columns_of_text() -> None:
    for column_type in (sa.String(), sa.Text(), postgresql.CITEXT(), sa.types.NullType()):
        assert is_text(column_type)
    for column_type in (sa.Enum("a"), sa.Integer(), sa.JSON(), postgresql.INET(), sa.LargeBinary()):
        assert not is_text(column_type)
    assert is_text(postgresql.DOMAIN("name", sa.Text()))


# Fields and columns

TABLE = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("size", sa.Integer),
    sa.Column("price", sa.Numeric),
    sa.Column("tags", sa.JSON(none_as_null=True)),
    sa.Column("double", sa.Integer, sa.Computed("size * 2")),
)


class Rows(list[dict[str, Any]]):
    def insert(self, table: Any, row: dict[str, Any], /) -> None:
        assert table is TABLE
        self.append(row)


def mapped(fields: dict[str, Any], **options: Any) -> dict[str, Any]:
    rows = Rows()
    RecordMapper(TABLE, **options)(Record(line=1, raw=b"", fields=fields), rows)
    [row] = rows
    return row


def test_fields_feed_the_columns_of_their_names() -> None:
    row = mapped({"size": "5", "name": "x", "price": "1.5", "tags": "[1]"})
    assert row == {"size": 5, "name": "x", "price": Decimal("1.5"), "tags": [1]}


def test_an_empty_text_is_null_except_in_columns_of_text() -> None:
    row = mapped({"name": "", "size": "", "price": "", "tags": ""})
    assert row == {"name": "", "size": None, "price": None, "tags": None}


def test_with_a_text_for_null_an_empty_text_is_nothing_special() -> None:
    assert mapped({"name": "-", "size": "-", "tags": "-"}, null="-") == {"name": None, "size": None, "tags": None}
    assert mapped({"name": "", "size": "1"}, null="-") == {"name": "", "size": 1}
    assert mapped({"name": ""}, null="") == {"name": None}
    with pytest.raises(ItemRefused, match="not a whole number"):
        mapped({"size": ""}, null="-")


def test_null_in_json() -> None:
    row = mapped({"name": None, "size": None, "tags": None}, json=True)
    assert row == {"name": None, "size": None, "tags": None}
    assert mapped({"name": "", "price": "-"}, json=True, null="-") == {"name": "", "price": None}
    with pytest.raises(ItemRefused, match="not a whole number"):
        mapped({"size": ""}, json=True)


def test_mapped_and_ignored_fields() -> None:
    row = mapped(
        {"Title": "x", "amount": "5", "note": "y"}, mapping={"name": "Title", "size": "amount"}, ignore=["note"]
    )
    assert row == {"name": "x", "size": 5}


def test_one_field_may_feed_two_columns_and_two_may_swap() -> None:
    assert mapped({"n": "5"}, mapping={"name": "n", "size": "n"}) == {"name": "5", "size": 5}
    assert mapped({"name": "5", "size": "x"}, mapping={"name": "size", "size": "name"}) == {"name": "x", "size": 5}


@pytest.mark.parametrize(
    ("fields", "problem", "message", "column"),
    [
        ({"size": "secret"}, None, "not a whole number", "size"),
        ({"name": "x", "unheard": "y"}, None, "no column for the field 'unheard'", None),
        ({"id": "1"}, None, "no column for the field 'id'", None),
        (None, "3 fields where the header has 2", "3 fields where the header has 2", None),
    ],
)
def test_records_that_are_refused(fields: Any, problem: str | None, message: str, column: str | None) -> None:
    record = Record(line=1, raw=b"", fields=fields, problem=problem)
    with pytest.raises(ItemRefused) as caught:
        RecordMapper(TABLE)(record, Rows())
    assert (str(caught.value), caught.value.table, caught.value.column) == (message, "things", column)


COLUMNS = "'name', 'size', 'price', 'tags'"


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        (
            ["name", "colour", "x\ny"],
            {},
            rf"no column for the field 'colour', 'x\ny' in table things, whose columns are {COLUMNS}; map or ignore",
        ),
        (["double"], {}, "no column for the field 'double'"),
        (["name"], {"mapping": {"nome": "name"}}, f"no column 'nome' in table things, whose columns are {COLUMNS}"),
        (["name"], {"mapping": {"id": "name"}}, "no column 'id' in table things"),
        (["name"], {"mapping": {"size": "amount"}}, "no field 'amount' in the header, which has 'name'"),
        (["name", "title"], {"mapping": {"name": "title"}}, "column 'name' would be fed twice"),
        (["name"], {"mapping": {"name": "title"}, "ignore": ["title"]}, "the field 'title' is both mapped and ignored"),
        (["name"], {"ignore": ["name"]}, "every field is ignored: there is nothing to load"),
        (["f" * 100_000], {}, f"no column for the field '{'f' * 60}…' in table things"),
        ([f"f{n}" for n in range(100)], {}, "'f29' and 70 more in table things"),
    ],
)
def test_headers_that_do_not_match(fields: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RecordMapper(TABLE, **options).check_fields(fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_headers_that_match() -> None:
    RecordMapper(TABLE).check_fields(["name", "size"])
    RecordMapper(TABLE, mapping={"name": "title"}, ignore=["name", "not there"]).check_fields(["title", "name"])


@given(st.dictionaries(st.sampled_from(["name", "size", "price", "tags"]), st.none() | st.integers() | st.text()))
def test_a_json_record_is_mapped_or_refused(fields: dict[str, Any]) -> None:
    try:
        row = mapped(json.loads(json.dumps(fields)), json=True)
    except ItemRefused as refusal:
        assert refusal.column in fields  # noqa: PT017
    else:
        assert row.keys() == fields.keys()
        assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())
