"""Values land as SQLAlchemy itself would write them: types, defaults, expressions, ORM instances."""

import enum
import itertools
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from generated import contents
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    ForeignKey,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    Sequence,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    func,
    insert,
    literal_column,
    null,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB, TSTZRANGE
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    composite,
    deferred,
    mapped_column,
    registry,
    relationship,
    synonym,
)

from batchwrite import BatchWriter, OutcomeStatus, Stage

BAD = object()
"""Stands for an item that fails, so that the others take the way of the fallback."""


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


class Shouted(TypeDecorator):
    """Texts that are stored in capitals and read in small letters."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.upper()

    def process_result_value(self, value, dialect):
        return None if value is None else value.lower()


class Reversed(TypeDecorator):
    """Texts that the database itself turns round, by an SQL function around the parameter."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindvalue):
        return func.replace(bindvalue, "a", "b")


def rows_by_sqlalchemy(engine, created, metadata, table, rows):
    with created(engine, metadata):
        with engine.begin() as connection:
            for row in rows:
                connection.execute(insert(table).values(row))
        return contents(engine, metadata)


def rows_by_batchwrite(engine, created, metadata, table, rows, *, method="insert", with_bad):
    """The rows as they land, on the bulk way or (with a bad item among them) on the way of the fallback."""

    def map_item(row, out):
        if row is BAD:
            out.update(table, {"id": 4711}, id=4712)
        else:
            getattr(out, method)(table, row)

    with created(engine, metadata):
        result = BatchWriter(engine).run([*rows, BAD] if with_bad else rows, map_item)
        assert (result.written, result.failed) == (len(rows), int(with_bad)), result.failures
        return contents(engine, metadata)


def table_of(*columns):
    metadata = MetaData()
    key = Column("id", Integer, primary_key=True, autoincrement=False)
    return metadata, Table("t", metadata, key, *columns)


def assert_same(engine, created, columns, rows, *, with_bad, method="insert"):
    metadata, table = table_of(*columns())
    numbered = [{"id": number, **row} for number, row in enumerate(rows)]
    expected = rows_by_sqlalchemy(engine, created, metadata, table, numbered)
    metadata, table = table_of(*columns())
    got = rows_by_batchwrite(engine, created, metadata, table, numbered, method=method, with_bad=with_bad)
    assert repr(got) == repr(expected)
    assert got == expected


VALUES = {
    "enum": (Enum(Colour, name="colour"), [Colour.RED, Colour.GREEN, None]),
    "enum-by-value": (Enum(Colour, name="c", values_callable=lambda kind: [c.value for c in kind]), [Colour.RED]),
    "json": (JSON, [{"a": [1, None, "ä"]}, [], "text", 1, True, None, {}, JSON.NULL]),
    "json-none-as-null": (JSON(none_as_null=True), [None, {"a": None}]),
    "uuid": (Uuid, [uuid.UUID(int=7), None]),
    "uuid-text": (Uuid(as_uuid=False), [str(uuid.UUID(int=7)), None]),
    "bytes": (LargeBinary, [b"", b"\x00\xff", bytearray(b"abc"), None]),
    "text": (Text, ["", "ä€\U0001f600", 'it\'s "quoted" %s :x \\ \n', None]),
    "decorated": (Shouted, ["abc", None]),
    "bind-expression": (Reversed, ["banana", "x"]),
    "integer": (BigInteger, [0, -(2**63), 2**63 - 1, None]),
    "boolean": (Boolean, [True, False, None]),
    "double": (Double, [0.1, -1e300, 5e-324, 3, None]),
    "float-inf": (Double, [float("inf"), -float("inf")]),
    "date": (Date, [date(1, 1, 1), date(9999, 12, 31), None]),
    "time": (Time, [time(0, 0), time(23, 59, 59, 999999), None]),
    "moment": (DateTime, [datetime(2024, 2, 29, 12, 0, 0, 1), None]),  # noqa: DTZ001 - a column without a zone
    "interval": (Interval, [timedelta(days=3, microseconds=5), -timedelta(seconds=1), None]),
}
POSTGRESQL_VALUES = {
    "numeric": (Numeric(30, 10), [Decimal("12345678901234567890.0123456789"), Decimal("-0.0000000001"), 1, None]),
    "numeric-free": (Numeric, [Decimal("1e-20"), Decimal(123456789012345678901234567890)]),
    "moment-with-zone": (
        DateTime(timezone=True),
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))],
    ),
    "array": (ARRAY(Integer), [[1, 2], [], [None], None]),
    "array-of-arrays": (ARRAY(String, dimensions=2), [[["a", "b"]], [["{", '"'], ["\\", ","]]]),
    "jsonb": (JSONB, [{"a": 1}, None, []]),
    "inet": (INET, ["127.0.0.1", None]),
    "range": (TSTZRANGE, [None]),
}


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize("method", ["insert", "upsert"])
@pytest.mark.parametrize(("kind", "values"), VALUES.values(), ids=VALUES)
def test_a_value_lands_as_sqlalchemy_writes_it(engine, created, kind, values, method, with_bad):
    rows = [{"v": value} for value in values]
    assert_same(engine, created, lambda: [Column("v", kind)], rows, method=method, with_bad=with_bad)


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize(("kind", "values"), POSTGRESQL_VALUES.values(), ids=POSTGRESQL_VALUES)
def test_a_value_of_postgresql_lands_as_sqlalchemy_writes_it(postgres_engine, created, kind, values, with_bad):
    rows = [{"v": value} for value in values]
    assert_same(postgres_engine, created, lambda: [Column("v", kind)], rows, with_bad=with_bad)


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize(("kind", "values"), VALUES.values(), ids=VALUES)
def test_an_updated_value_lands_as_sqlalchemy_writes_it(engine, created, kind, values, with_bad):
    metadata, table = table_of(Column("v", kind))

    def map_item(row, out):
        if row is BAD:
            raise ValueError
        out.insert(table, {"id": row["id"]})
        out.update(table, {"id": row["id"]}, v=row["v"])

    rows = [{"id": number, "v": value} for number, value in enumerate(values)]
    expected = rows_by_sqlalchemy(engine, created, metadata, table, rows)
    with created(engine, metadata):
        BatchWriter(engine).run([*rows, BAD] if with_bad else rows, map_item)
        got = contents(engine, metadata)
    assert repr(got) == repr(expected)


def test_a_value_of_a_decorated_type_is_a_key_like_any_other(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("k", Shouted, primary_key=True), Column("n", Integer, nullable=False))

    def map_item(item, out):
        out.upsert(table, {"k": item, "n": 0}, set=())
        out.increment(table, {"k": item}, n=1)

    with created(engine, metadata):
        result = BatchWriter(engine).run(["a", "b", "a"], map_item)
        rows = contents(engine, metadata)["t"]
        with engine.connect() as connection:
            raw = connection.exec_driver_sql("SELECT k FROM t ORDER BY k").scalars().all()
    assert (rows, raw) == ([("a", 2), ("b", 1)], ["A", "B"])
    assert result.written == 3


@given(
    deltas=st.lists(
        st.decimals(-(10**12), 10**12, places=6, allow_nan=False, allow_infinity=False), min_size=1, max_size=8
    )
)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_decimals_stay_exact_in_sums(postgres_module_engine, created, deltas, chunk_size):
    metadata, table = table_of(Column("n", Numeric(38, 6), nullable=False))
    with created(postgres_module_engine, metadata):
        with postgres_module_engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "n": 0})
        writer = BatchWriter(postgres_module_engine, chunk_size=chunk_size)
        writer.run(deltas, lambda delta, out: out.increment(table, {"id": 1}, n=delta))
        ((_, total),) = contents(postgres_module_engine, metadata)["t"]
    assert total == sum(deltas)


@pytest.fixture(scope="module")
def postgres_module_engine(postgres_databases):
    from conftest import postgres_database

    with postgres_database(postgres_databases) as engine:
        yield engine


def test_time_spans_are_added_to_dates(postgres_engine, created):
    metadata, table = table_of(Column("at", DateTime(timezone=True), nullable=False))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    with created(postgres_engine, metadata):
        with postgres_engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "at": start})
        BatchWriter(postgres_engine).run([hour, hour], lambda span, out: out.increment(table, {"id": 1}, at=span))
        assert contents(postgres_engine, metadata)["t"] == [(1, start + 2 * hour)]


# ---- NaN and infinity

NOT_FINITE = [float("nan"), float("inf"), -float("inf"), Decimal("NaN"), Decimal("Infinity"), Decimal("sNaN")]


@pytest.mark.parametrize("value", NOT_FINITE, ids=repr)
@pytest.mark.parametrize("method", ["insert", "upsert", "update"])
def test_what_is_not_finite_is_refused_for_money(engine, created, value, method):
    metadata, table = table_of(Column("money", Numeric(8, 2)))

    def map_item(item, out):
        row = {"id": item, "money": value if item == 2 else 1}
        if method == "update":
            out.insert(table, {"id": item})
            out.update(table, {"id": item}, money=row["money"])
        else:
            getattr(out, method)(table, row)

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        assert [row[0] for row in contents(engine, metadata)["t"]] == [1, 3]
    (failure,) = result.failures
    assert (failure.index, failure.table, failure.column) == (1, "t", "money")


def test_a_value_refused_is_refused_although_a_later_item_covers_it_up(engine, created):
    """NaN, and then a number, for one key in one chunk."""
    metadata, table = table_of(Column("money", Numeric(8, 2)))
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1})
        items = [float("nan"), 5]
        result = BatchWriter(engine).run(items, lambda value, out: out.update(table, {"id": 1}, money=value))
    assert [failure.index for failure in result.failures] == [0]


def test_nan_does_not_become_null(sqlite_engine, created):
    metadata, table = table_of(Column("v", Float))
    with created(sqlite_engine, metadata):
        result = BatchWriter(sqlite_engine).run([{"id": 1, "v": float("nan")}], lambda row, out: out.insert(table, row))
        assert contents(sqlite_engine, metadata)["t"] == []
    assert result.failures[0].column == "v"


def test_nan_is_a_value_of_a_float_of_postgresql(postgres_engine, created):
    metadata, table = table_of(Column("v", Double))
    with created(postgres_engine, metadata):
        BatchWriter(postgres_engine).run([{"id": 1, "v": float("nan")}], lambda row, out: out.insert(table, row))
        ((_, value),) = contents(postgres_engine, metadata)["t"]
    assert value != value


# ---- defaults


def columns_with_defaults():
    numbers = itertools.count(1)
    return [
        Column("v", Integer),
        Column("constant", Integer, default=7),
        Column("counted", Integer, default=lambda: next(numbers)),
        Column("derived", Integer, default=lambda context: (context.get_current_parameters()["v"] or 0) * 2),
        Column("sql", Integer, default=text("1 + 1")),
        Column("scalar", Integer, default=select(func.length("abc")).scalar_subquery()),
        Column("server", String, server_default="from the server"),
        Column("computed", Integer, Computed("id + 100", persisted=True)),
    ]


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize("method", ["insert", "upsert"])
def test_columns_left_out_get_their_defaults(engine, created, method, with_bad):
    rows = [{"v": 1}, {"v": 2}, {"v": None}]
    if with_bad:  # a callable that counts is called again for what is written again
        metadata, table = table_of(*columns_with_defaults())
        numbered = [{"id": number, **row} for number, row in enumerate(rows)]
        got = rows_by_batchwrite(engine, created, metadata, table, numbered, method=method, with_bad=True)["t"]
        assert [(row[2], row[5], row[7]) for row in got] == [(7, 2, "from the server")] * 3
    else:
        assert_same(engine, created, columns_with_defaults, rows, with_bad=False, method=method)


def test_rows_of_one_table_may_have_different_columns(engine, created):
    rows = [{"v": 1}, {"constant": 1}, {"v": 1, "server": "x"}, {}, {"server": None, "constant": None}]
    numbered = [{"id": number, **row} for number, row in enumerate(rows)]

    def columns():
        return [
            Column("v", Integer),
            Column("constant", Integer, default=7),
            Column("server", String, server_default="s"),
        ]

    metadata, table = table_of(*columns())
    got = rows_by_batchwrite(engine, created, metadata, table, numbered, with_bad=False)["t"]
    assert got == [(0, 1, 7, "s"), (1, None, 1, "s"), (2, 1, 7, "x"), (3, None, 7, "s"), (4, None, None, None)]


def test_a_row_of_defaults_only_can_be_inserted(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("v", Integer, server_default="5"))
    with created(engine, metadata):
        result = BatchWriter(engine).run([{}, {}, {}], lambda row, out: out.insert(table, row))
        assert contents(engine, metadata)["t"] == [(1, 5), (2, 5), (3, 5)]
    assert result.written == 3


@pytest.mark.parametrize("key", [Identity, lambda: Identity(always=True), lambda: Sequence("numbers")])
def test_generated_keys_are_generated(postgres_engine, created, key):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, key(), primary_key=True), Column("v", Integer))
    with created(postgres_engine, metadata):
        BatchWriter(postgres_engine).run([5, 6, 7], lambda value, out: out.insert(table, {"v": value}))
        assert contents(postgres_engine, metadata)["t"] == [(1, 5), (2, 6), (3, 7)]


def table_with_onupdate(**column):
    return table_of(
        Column("v", Integer),
        Column("touched", Integer, default=0, **column),
    )


ONUPDATE = {
    "constant": 9,
    "callable": lambda: 9,
    "context": lambda context: 9 if context is not None else None,
    "parameters": lambda context: 9 + 0 * len(context.get_current_parameters()),
    "sql": text("4 + 5"),
    "function": func.abs(-9),
}


@pytest.mark.parametrize("onupdate", ONUPDATE.values(), ids=ONUPDATE)
@pytest.mark.parametrize("method", ["update", "increment", "upsert"])
def test_a_row_that_changes_is_touched(engine, created, method, onupdate):
    metadata, table = table_with_onupdate(onupdate=onupdate)

    def map_item(item, out):
        if method == "upsert":
            out.upsert(table, {"id": 1, "v": 2})
        else:
            getattr(out, method)(table, {"id": 1}, v=1)

    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "v": 1})
        result = BatchWriter(engine).run([1], map_item)
        assert (result.failures, result.abort) == ((), None)
        assert contents(engine, metadata)["t"] == [(1, 1 if method == "update" else 2, 9)]


def test_a_value_given_is_not_overwritten_by_the_touch(engine, created):
    metadata, table = table_with_onupdate(onupdate=9)
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1})
        BatchWriter(engine).run([1], lambda item, out: out.upsert(table, {"id": 1, "touched": 5}))
        assert contents(engine, metadata)["t"] == [(1, None, 5)]


def test_an_insert_if_absent_touches_nothing(engine, created):
    metadata, table = table_with_onupdate(onupdate=9)
    with created(engine, metadata):
        items = [1, 1]
        BatchWriter(engine).run(items, lambda item, out: out.upsert(table, {"id": 1, "v": 5}, set=()))
        assert contents(engine, metadata)["t"] == [(1, 5, 0)]


@pytest.mark.parametrize("chunk_size", [1, 2])
@pytest.mark.parametrize("methods", list(itertools.product(["insert", "upsert"], ["update", "upsert"])))
def test_a_row_is_touched_whether_its_writes_share_a_chunk_or_not(engine, created, methods, chunk_size):
    metadata, table = table_with_onupdate(onupdate=9)

    def map_item(method, out):
        if method == "update":
            out.update(table, {"id": 1}, v=2)
        else:
            getattr(out, method)(table, {"id": 1, "v": 1})

    with created(engine, metadata):
        BatchWriter(engine, chunk_size=chunk_size).run(methods, map_item)
        ((_, _, touched),) = contents(engine, metadata)["t"]
    assert touched == 9


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_a_version_that_each_update_raises_counts_every_update(engine, created, chunk_size):
    metadata, table = table_with_onupdate(onupdate=literal_column("touched") + 1)
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1})
        writer = BatchWriter(engine, chunk_size=chunk_size)
        writer.run([1, 2, 3], lambda item, out: out.update(table, {"id": 1}, v=item))
        assert contents(engine, metadata)["t"] == [(1, 3, 3)]


# ---- SQL expressions as values


def test_sql_functions_are_values(engine, created):
    metadata, table = table_of(Column("v", Integer), Column("at", DateTime(timezone=True)))
    rows = [{"id": 1, "v": func.abs(-5)}, {"id": 2, "v": 1, "at": func.now()}, {"id": 3, "v": null()}]
    with created(engine, metadata):
        result = BatchWriter(engine).run(rows, lambda row, out: out.insert(table, row))
        got = contents(engine, metadata)["t"]
    assert result.written == 3
    assert [row[:2] for row in got] == [(1, 5), (2, 1), (3, None)]
    assert got[1][2] is not None


@pytest.mark.parametrize("chunk_size", [1, 2, 10])
def test_an_update_may_be_computed_from_the_row(engine, created, chunk_size):
    metadata, table = table_of(Column("n", Integer))

    def map_item(item, out):
        if item == 0:
            out.insert(table, {"id": 1, "n": 1})
        else:
            out.update(table, {"id": 1}, n=table.c.n * 2 + 1)

    with created(engine, metadata):
        result = BatchWriter(engine, chunk_size=chunk_size).run(range(5), map_item)
        assert contents(engine, metadata)["t"] == [(1, 31)]
    assert result.written == 5


def test_a_value_may_be_a_query(engine, created):
    metadata, table = table_of(Column("n", Integer))

    def map_item(item, out):
        out.insert(table, {"id": item, "n": select(func.count()).select_from(table).scalar_subquery()})

    with created(engine, metadata):
        BatchWriter(engine).run([10, 11, 12], map_item)
        assert contents(engine, metadata)["t"] == [(10, 0), (11, 1), (12, 2)]


def test_an_upsert_may_set_an_expression(engine, created):
    metadata, table = table_of(Column("n", Integer))
    with created(engine, metadata):
        rows = [{"id": 1, "n": func.abs(-1)}, {"id": 1, "n": func.abs(-2)}]
        result = BatchWriter(engine).run(rows, lambda row, out: out.upsert(table, row))
        assert contents(engine, metadata)["t"] == [(1, 2)]
    assert result.written == 2


def test_a_slower_way_is_said_once(engine, created, caplog):
    metadata, table = table_of(Column("n", Integer))
    rows = [{"id": number, "n": func.abs(-number)} for number in range(6)]
    with created(engine, metadata), caplog.at_level("WARNING", "batchwrite"):
        BatchWriter(engine, chunk_size=2).run(rows, lambda row, out: out.insert(table, row))
    assert [record.action for record in caplog.records if record.name == "batchwrite"] == ["slow_path"]


# ---- ORM instances


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    full_name: Mapped[str] = mapped_column("name", String(20))
    colour: Mapped[Colour | None] = mapped_column(default=Colour.RED)
    note: Mapped[str | None] = mapped_column(server_default="none")
    label: Mapped[str] = column_property(literal_column("'x' || name"))
    alias = synonym("full_name")
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner")


class Pet(Base):
    __tablename__ = "pet"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    owner: Mapped[Person | None] = relationship(back_populates="pets")


class Vehicle(Base):
    __tablename__ = "vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    wheels: Mapped[int] = mapped_column(default=4)


class Truck(Vehicle):
    __tablename__ = "truck"
    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    load: Mapped[int] = mapped_column(default=10)


class Bicycle(Vehicle):
    __mapper_args__ = {"polymorphic_identity": "bicycle"}  # noqa: RUF012

    bell: Mapped[str | None]


@dataclass
class Point:
    x: int
    y: int


class Place(Base):
    __tablename__ = "place"

    id: Mapped[int] = mapped_column(primary_key=True)
    point: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))


class Versioned(Base):
    __tablename__ = "versioned"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(nullable=False)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Coin(DataBase):
    __tablename__ = "coin"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=5)


def add(item, out):
    out.add(item)


@pytest.fixture
def orm(engine):
    Base.metadata.create_all(engine)
    DataBase.metadata.create_all(engine)
    return engine


def added(engine, *instances):
    result = BatchWriter(engine).run(instances, add)
    assert (result.failures, result.abort) == ((), None)
    return result


def refused(engine, instance):
    """The failure of an instance that cannot be added."""
    result = BatchWriter(engine).run([instance], add)
    (failure,) = result.failures
    assert (failure.stage, failure.error_type) == (Stage.MAP, "ItemRefused")
    return failure


def rows_of(engine, name, metadata=Base.metadata):
    return contents(engine, metadata)[name]


def test_an_instance_is_added_with_its_renamed_columns_and_defaults(orm):
    added(orm, Person(id=1, full_name="Ann"), Person(id=2, full_name="Bob", colour=None, note="x"))
    assert rows_of(orm, "person") == [(1, "Ann", Colour.RED, "none"), (2, "Bob", Colour.RED, "x")]


def test_an_instance_is_added_as_a_session_would(orm):
    def made():
        return [
            Person(id=1, full_name="Ann"),
            Person(id=2, full_name="Bob", colour=None, note=None),
            Person(id=3, alias="Cid", colour=Colour.GREEN),
            Pet(id=1),
            Pet(id=2, owner_id=2),
            Vehicle(id=1),
            Truck(id=2, load=3),
            Bicycle(id=3, bell="ring", wheels=2),
            Place(id=1, point=Point(3, 4)),
        ]

    with Session(orm) as session:
        session.add_all(made())
        session.commit()
    expected = contents(orm, Base.metadata)
    Base.metadata.drop_all(orm)
    Base.metadata.create_all(orm)
    added(orm, *made())
    assert contents(orm, Base.metadata) == expected


def test_generated_keys_of_instances_are_generated(orm):
    added(orm, Person(full_name="Ann"), Person(full_name="Bob"))
    assert [row[0] for row in rows_of(orm, "person")] == [1, 2]


def test_an_instance_that_is_a_dataclass_is_added(orm):
    added(orm, Coin(id=1), Coin(id=2, value=7))
    assert rows_of(orm, "coin", DataBase.metadata) == [(1, 5), (2, 7)]


def test_an_instance_mapped_without_a_base_is_added(engine, created):
    mapping = registry()
    table = Table("plain", mapping.metadata, Column("id", Integer, primary_key=True), Column("v", Integer))

    class Plain:
        def __init__(self, number):
            self.number = number

    mapping.map_imperatively(Plain, table, properties={"number": table.c.id})
    with created(engine, mapping.metadata):
        added(engine, Plain(3))
        assert contents(engine, mapping.metadata)["plain"] == [(3, None)]


def test_an_instance_of_several_tables_is_written_to_all(orm):
    added(orm, Truck(id=1, load=3), Truck(id=2))
    assert rows_of(orm, "vehicle") == [(1, "truck", 4, None), (2, "truck", 4, None)]
    assert rows_of(orm, "truck") == [(1, 3), (2, 10)]


def test_an_instance_of_several_tables_without_a_key_is_refused(orm):
    assert refused(orm, Truck(load=3)).column == "id"


@pytest.mark.parametrize("instance", [Person(id=1, full_name="Ann", pets=[Pet(id=1)]), Pet(id=1, owner=Person(id=1))])
def test_related_objects_are_refused_and_not_dropped(orm, instance):
    assert "relationship" in refused(orm, instance).message


def test_a_related_object_whose_key_is_set_is_fine(orm):
    ann = Person(id=1, full_name="Ann")
    added(orm, Person(id=1, full_name="Ann"), Pet(id=1, owner_id=1, owner=ann))
    assert rows_of(orm, "pet") == [(1, 1)]


def test_a_related_object_of_another_key_is_refused(orm):
    """The object says 2 and the column says 1: a session would write 2."""
    refused(orm, Pet(id=1, owner_id=1, owner=Person(id=2, full_name="Bob")))


@pytest.mark.parametrize("thing", [None, 5, "text", {}, object(), Person, Point(1, 2)], ids=repr)
def test_what_is_no_instance_is_refused(orm, thing):
    refused(orm, thing)


def test_an_instance_whose_attributes_have_expired_is_not_written_without_them(orm):
    """After a commit an instance holds nothing until it is looked at."""
    with Session(orm) as session:
        ann = Person(id=1, full_name="Ann", colour=Colour.GREEN)
        session.add(ann)
        session.commit()
        pet = Pet(id=5, owner_id=1)
        session.add(pet)
        session.commit()
        with orm.begin() as connection:
            connection.execute(Pet.__table__.delete())
        result = BatchWriter(orm).run([pet], add)
        session.rollback()
    rows = rows_of(orm, "pet")
    assert (rows, result.failed) in [([], 1), ([(5, 1)], 0)]


def test_an_instance_with_a_version_gets_its_first(orm):
    added(orm, Versioned(id=1))
    assert rows_of(orm, "versioned") == [(1, 1)]


def test_a_deferred_attribute_that_is_set_is_written(engine, created):
    class Own(DeclarativeBase):
        pass

    class Document(Own):
        __tablename__ = "document"

        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str | None] = deferred(mapped_column(Text))

    with created(engine, Own.metadata):
        added(engine, Document(id=1, body="text"))
        assert contents(engine, Own.metadata)["document"] == [(1, "text")]


def test_a_mapped_class_is_a_table(orm):
    def map_item(item, out):
        out.insert(Person, {"id": item, "full_name": "Ann"})
        out.upsert(Person, {"id": item, "full_name": "Bob"}, set="full_name")
        out.update(Person, {"id": item}, full_name="Cid", note=None)
        if item == 2:
            out.delete(Person, {"id": item})

    assert BatchWriter(orm).run([1, 2], map_item).written == 2
    assert rows_of(orm, "person") == [(1, "Cid", Colour.RED, None)]


def test_a_mapped_class_of_several_tables_is_refused_as_a_table(orm):
    result = BatchWriter(orm).run([1], lambda item, out: out.insert(Truck, {"id": 1}))
    assert "several tables" in result.failures[0].message


def test_a_class_of_a_shared_table_gets_its_identity_or_is_refused(orm):
    """A row without its discriminator could not be read as a bicycle again."""
    outcomes = list(BatchWriter(orm).stream([1], lambda item, out: out.insert(Bicycle, {"id": 1, "wheels": 2})))
    rows = rows_of(orm, "vehicle")
    assert outcomes[0].status is OutcomeStatus.FAILED or rows[0][1] == "bicycle"


def test_one_instance_may_be_added_again_by_another_item(orm):
    ann = Person(id=1, full_name="Ann")
    result = BatchWriter(orm).run([ann, ann], add)
    assert (result.written, result.failed) == (1, 1)


def test_an_instance_added_stays_out_of_every_session(orm):
    ann = Person(id=1, full_name="Ann")
    with Session(orm) as session:
        added(orm, ann)
        assert ann not in session
        assert session.get(Person, 1).full_name == "Ann"


def test_an_instance_may_be_changed_after_it_was_added(orm):
    ann = Person(id=1, full_name="Ann")
    with BatchWriter(orm).collect() as batch:
        with batch.item() as out:
            out.add(ann)
        ann.id, ann.full_name = 2, "Bob"
        with batch.item() as out:
            out.add(ann)
    assert [row[:2] for row in rows_of(orm, "person")] == [(1, "Ann"), (2, "Bob")]
