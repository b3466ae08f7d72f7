"""Odd names, keys and tables; rules of the database that Python does not see."""

import pytest
from databases import LIKE_A_PARAMETER, TAKES_NAMES_LIKE_PARAMETERS
from generated import contents
from items import AT_ONCE, ITEMS, METADATA, accounted, counts, execute_script, write_one
from reference import write_sequentially
from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    func,
    insert,
    select,
)

from batchwrite import (
    BatchWriter,
    Stage,
)

# ---- names, keys, tables

ODD = ["order", "a b", "x%y", 'quo"te', "per%%cent", "semi;colon", "colon:x", "paren(x)", "Größe"]
if TAKES_NAMES_LIKE_PARAMETERS:
    ODD.append(LIKE_A_PARAMETER)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_tables_and_columns_serve(engine, created, name):
    metadata = MetaData()
    table = Table(
        name,
        metadata,
        Column(name, Integer, primary_key=True, autoincrement=False),
        Column(name + "2", Integer, nullable=False),
    )

    def map_item(item, out):
        key = {name: item}
        out.insert(table, {name: item, name + "2": None if item == 2 else 1})
        out.upsert(table, {name: item, name + "2": 5})
        out.increment(table, key, {name + "2": 1})
        out.increment(table, key, {name + "2": 2})
        out.insert(table, {name: item + 100, name + "2": 1})
        out.update(table, {name: item + 100}, {name + "2": 2})
        out.delete(table, {name: item + 100})

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        rows = contents(engine, metadata)[name]
    assert rows == [(1, 8), (3, 8)]
    (failure,) = result.failures
    assert (failure.index, failure.table, failure.column) == (1, name, name + "2")


def test_a_column_may_have_a_key_that_is_not_its_name(engine, created):
    metadata = MetaData()
    table = Table(
        "t",
        metadata,
        Column("order", Integer, key="number", primary_key=True, autoincrement=False),
        Column("from", Integer, key="start", nullable=False),
    )

    def map_item(item, out):
        out.insert(table, {"number": item, "start": item})
        out.upsert(table, {"number": item, "start": 10})
        out.increment(table, {"number": item}, start=1)
        out.update(table, {"number": item}, start=None if item == 2 else 7)

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        rows = contents(engine, metadata)["t"]
    assert rows == [(1, 7), (3, 7)]
    assert [failure.index for failure in result.failures] == [1]


def test_a_table_in_a_schema_serves(postgres_engine, created):
    execute_script(postgres_engine, 'CREATE SCHEMA "odd schema"; CREATE SCHEMA other')
    metadata = MetaData()
    one = Table("t", metadata, Column("id", Integer, primary_key=True), schema="odd schema")
    parent = ForeignKey("odd schema.t.id")
    two = Table("t", metadata, Column("id", Integer, primary_key=True), Column("p", parent), schema="other")

    def map_item(item, out):
        out.insert(two, {"id": item, "p": item})
        out.upsert(one, {"id": item} if item != 2 else {"id": None})

    with created(postgres_engine, metadata):
        result = BatchWriter(postgres_engine).run([1, 2, 3], map_item)
        rows = contents(postgres_engine, metadata)
    assert rows == {"odd schema.t": [(1,), (3,)], "other.t": [(1, 1), (3, 3)]}
    assert [failure.table for failure in result.failures] == ["odd schema.t"]


def test_a_failure_in_a_schema_names_the_table_with_its_schema(postgres_engine, created):
    execute_script(postgres_engine, "CREATE SCHEMA s")
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), schema="s")
    with created(postgres_engine, metadata):
        result = BatchWriter(postgres_engine).run([1, 1], lambda item, out: out.insert(table, {"id": item}))
    (failure,) = result.failures
    assert (failure.table, failure.column, failure.constraint) == ("s.t", "id", "t_pkey")


def test_composite_keys_serve(engine, created):
    metadata = MetaData()
    parent = Table("a", metadata, Column("x", Integer, primary_key=True), Column("y", String(5), primary_key=True))
    child = Table(
        "b",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("x", Integer),
        Column("y", String(5)),
        Column("n", Integer, default=0),
        ForeignKeyConstraint(["x", "y"], ["a.x", "a.y"]),
    )

    def map_item(item, out):
        out.insert(child, {"id": item, "x": item, "y": "k"})
        if item != 2:
            out.upsert(parent, {"x": item, "y": "k"})
        out.increment(child, {"id": item}, n=1)

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        rows = contents(engine, metadata)
    assert rows == {"a": [(1, "k"), (3, "k")], "b": [(1, 1, "k", 1), (3, 3, "k", 1)]}
    assert [failure.index for failure in result.failures] == [1]


def test_a_table_may_refer_to_itself(engine, created):
    metadata = MetaData()
    tree = Table(
        "tree",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("p", ForeignKey("tree.id")),
    )
    rows = [{"id": 5}, {"id": 1, "p": 5}, {"id": 2, "p": 3}, {"id": 3}, {"id": 4, "p": 3}]
    with created(engine, metadata):
        result = BatchWriter(engine).run(rows, lambda row, out: out.insert(tree, row))
    assert [failure.index for failure in result.failures] == [2]


def test_tables_may_refer_to_each_other(engine, created):
    metadata = MetaData()
    one = Table("one", metadata, Column("id", Integer, primary_key=True), Column("p", Integer))
    two = Table("two", metadata, Column("id", Integer, primary_key=True), Column("p", ForeignKey("one.id")))
    with created(engine, metadata):
        if engine.dialect.name == "postgresql":
            execute_script(engine, "ALTER TABLE one ADD FOREIGN KEY (p) REFERENCES two")
            one.append_constraint(ForeignKeyConstraint(["p"], ["two.id"], name="one_p_fkey", use_alter=True))

        def map_item(item, out):
            out.insert(one, {"id": item})
            out.insert(two, {"id": item, "p": item if item != 2 else 99})
            out.update(one, {"id": item}, p=item)

        result = BatchWriter(engine).run([1, 2, 3], map_item)
        with engine.connect() as connection:
            assert connection.execute(select(one).order_by(one.c.id)).all() == [(1, 1), (3, 3)]
    assert [failure.index for failure in result.failures] == [1]


def test_big_numbers_are_exact(engine, created):
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", BigInteger, primary_key=True, autoincrement=False), Column("n", BigInteger)
    )
    big = 2**63 - 1

    def map_item(item, out):
        out.insert(table, {"id": item, "n": big})
        out.increment(table, {"id": item}, n=-1)

    with created(engine, metadata):
        result = BatchWriter(engine).run([big, -big - 1, 2**63, 5], map_item)
        rows = contents(engine, metadata)["t"]
    assert sorted(rows) == [(-big - 1, big - 1), (5, big - 1), (big, big - 1)]
    assert [failure.index for failure in result.failures] == [2]


def test_an_increment_past_the_largest_number_is_refused_and_does_not_become_a_fraction(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("n", BigInteger))
    big = 2**63 - 1
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "n": big})
        result = BatchWriter(engine).run([1], lambda item, out: out.increment(table, {"id": 1}, n=1))
        assert contents(engine, metadata)["t"] == [(1, big)]
    assert counts(result) == (0, 1, 0, 0, 0)


def test_many_keys_at_once_stay_below_the_limit_of_parameters(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
    table.append_column(Column("n", Integer, nullable=False))
    # PostgreSQL has 65,535 parameters, SQLite no more; PyMySQL writes values into the statement, and is slow at it.
    size = 4_000 if engine.dialect.name == "mariadb" else 40_000

    def map_item(item, out):
        out.upsert(table, {"a": item, "b": item, "n": 0})
        out.increment(table, {"a": item, "b": item}, n=1)

    with created(engine, metadata):
        result = BatchWriter(engine, chunk_size=size, chunk_rows=10**6, chunk_seconds=None).run(range(size), map_item)
        with engine.connect() as connection:
            assert connection.execute(select(func.count(), func.sum(table.c.n)).select_from(table)).one() == (
                size,
                size,
            )
    assert result.chunks == 1


# ---- rules of the database that Python does not see: a key that Python holds for another may be the same row


def case_blind(engine):
    """A column type in which the texts `a` and `a ` or `A` are one key."""
    return (String(5, collation="NOCASE"), "A") if engine.dialect.name == "sqlite" else (CHAR(5), "a ")


@pytest.mark.parametrize("first", ["update", "increment"])
def test_a_change_of_a_row_that_only_a_later_item_creates_fails_under_any_spelling_of_its_key(engine, created, first):
    kind, twin = case_blind(engine)
    metadata = MetaData()
    table = Table("t", metadata, Column("id", kind, primary_key=True), Column("n", Integer, nullable=False))

    def map_item(item, out):
        if item == "change":
            getattr(out, first)(table, {"id": twin}, n=5)
        else:
            out.insert(table, {"id": "a", "n": 0})

    with created(engine, metadata):
        expected = write_sequentially(engine, ["change", "insert"], map_item)
    with created(engine, metadata):
        outcomes = [str(outcome.status) for outcome in BatchWriter(engine).stream(["change", "insert"], map_item)]
    assert expected == ["failed Missing", "written"]
    assert outcomes == ["failed", "written"]


def test_a_reference_to_a_row_that_only_a_later_item_creates_fails_under_any_spelling(engine, created):
    kind, twin = case_blind(engine)
    metadata = MetaData()
    parent = Table("parent", metadata, Column("id", kind, primary_key=True))
    child = Table(
        "child", metadata, Column("id", Integer, primary_key=True), Column("p", kind, ForeignKey(parent.c.id))
    )

    def map_item(item, out):
        if item == "child":
            out.insert(child, {"id": 1, "p": twin})
        else:
            out.insert(parent, {"id": "a"})

    with created(engine, metadata):
        expected = write_sequentially(engine, ["child", "parent"], map_item)
    with created(engine, metadata):
        outcomes = [str(outcome.status) for outcome in BatchWriter(engine).stream(["child", "parent"], map_item)]
    assert expected[0].startswith("failed")
    assert outcomes == ["failed", "written"]


# ---- deferred constraints that are none of ours


def engine_as(engine, role):
    return create_engine(engine.url.set(username=role, password="x"), poolclass=NullPool)  # noqa: S106 - a test's role


def test_a_deferred_constraint_in_a_schema_out_of_reach_does_not_matter(postgres):
    execute_script(
        postgres,
        "CREATE ROLE bw_writer_reach LOGIN PASSWORD 'x'; GRANT ALL ON items TO bw_writer_reach;"
        "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int PRIMARY KEY, p int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    )
    engine = engine_as(postgres, "bw_writer_reach")
    try:
        result = BatchWriter(engine, retry=AT_ONCE).run([1, -2, 3], write_one)
    finally:
        execute_script(postgres, "DROP OWNED BY bw_writer_reach; DROP ROLE bw_writer_reach")
    assert counts(accounted(result, postgres)) == (2, 1, 0, 0, 0)


def test_a_role_that_may_only_insert_and_read_can_insert_if_absent(postgres):
    execute_script(
        postgres,
        "CREATE ROLE bw_writer_insert LOGIN PASSWORD 'x'; GRANT INSERT, SELECT ON items TO bw_writer_insert",
    )
    engine = engine_as(postgres, "bw_writer_insert")

    def map_item(item, out):
        out.upsert(ITEMS, {"id": abs(item), "n": item}, set=())

    try:
        result = BatchWriter(engine, retry=AT_ONCE).run([1, -2, 3, 4], map_item)
    finally:
        execute_script(postgres, "DROP OWNED BY bw_writer_insert; DROP ROLE bw_writer_insert")
    assert counts(accounted(result, postgres)) == (3, 1, 0, 0, 0)


@pytest.mark.parametrize("name", ["fk%x", 'quo"te', "semi;colon", "%s"])
def test_a_deferred_constraint_may_have_an_odd_name(postgres_engine, created, name):
    metadata = MetaData()
    key = ForeignKey("node.id", name=name, deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    rows = [{"id": 1, "p": 1}, {"id": 2, "p": 99}, {"id": 3, "p": 1}]
    with created(postgres_engine, metadata):
        result = BatchWriter(postgres_engine).run(rows, lambda row, out: out.insert(node, row))
    assert [(failure.index, failure.constraint) for failure in result.failures] == [(1, name)]
    assert result.failures[0].stage is Stage.COMMIT


def test_a_deferred_constraint_that_is_made_after_the_first_run_is_blamed_on_its_item(postgres_engine, created):
    metadata = MetaData()
    key = ForeignKey("node.id", deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    METADATA.create_all(postgres_engine)
    writer = BatchWriter(postgres_engine)
    assert writer.run([1], write_one).written == 1
    rows = [{"id": 1, "p": 1}, {"id": 2, "p": 99}, {"id": 3, "p": 1}]
    with created(postgres_engine, metadata):
        result = writer.run(rows, lambda row, out: out.insert(node, row))
    assert counts(result) == (2, 1, 0, 0, 0)
