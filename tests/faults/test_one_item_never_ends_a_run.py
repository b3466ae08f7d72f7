"""One poison item of each sort in every chunk: all others land, each poison item is named, and no run ends early."""

from dataclasses import dataclass, field

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    func,
    select,
    types,
)
from sqlalchemy.dialects import postgresql

from batchwrite import BatchWriter, Ledger, Status


class Odd(types.TypeDecorator):
    """Converts texts to numbers, and raises for all that is none."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else int(value)


METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(20)),
    Column("n", Integer, nullable=False, default=0),
    CheckConstraint("n >= 0"),
)
PARTS = Table(
    "parts",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("thing", Odd, ForeignKey("things.id")),
)
CHUNK = 12
SEEDS = [1, 2, 3]


class Unsendable:
    pass


def good(number):
    """Writes of every kind that are fine; each number has a row of its own."""
    seed = SEEDS[number % len(SEEDS)]
    return [
        lambda out: out.insert(THINGS, {"id": number, "name": "a"}),
        lambda out: out.upsert(THINGS, {"id": number, "name": "b"}),
        lambda out: out.increment(THINGS, {"id": seed}, n=1),
        lambda out: [out.insert(THINGS, {"id": number}), out.insert(PARTS, {"id": number, "thing": str(number)})],
        lambda out: out.upsert(THINGS, {"id": number, "name": "c"}, set=()),
    ][number % 5]


NOWHERE = "an expression of nowhere"
POISON = {
    f"{name} in the {place} of an {verb}": write
    for name, value in {"a NUL": "a\0", "half a character": "\ud800", "an object": Unsendable()}.items()
    for place, verb, write in [
        ("value", "insert", lambda out, number, value=value: out.insert(THINGS, {"id": number, "name": value})),
        ("value", "upsert", lambda out, number, value=value: out.upsert(THINGS, {"id": number, "name": value})),
        ("key", "insert", lambda out, _, value=value: out.insert(THINGS, {"id": value})),
        ("key", "upsert", lambda out, _, value=value: out.upsert(THINGS, {"id": value, "name": "x"})),
        ("key", "update", lambda out, _, value=value: out.update(THINGS, {"id": value}, name="x")),
        ("key", "increment", lambda out, _, value=value: out.increment(THINGS, {"id": value}, n=1)),
        ("key", "delete", lambda out, _, value=value: out.delete(THINGS, {"id": value})),
        ("reference", "insert", lambda out, number, value=value: out.insert(PARTS, {"id": number, "thing": value})),
    ]
    # SQLite stores a NUL, as a value.
    if (name, place) != ("a NUL", "value")
} | {
    "a reference that cannot be converted": lambda out, number: out.insert(PARTS, {"id": number, "thing": "x"}),
    NOWHERE: lambda out, number: out.insert(THINGS, {"id": number, "name": THINGS.c.name}),
    "a function that is not there": lambda out, number: out.insert(THINGS, {"id": number, "name": func.nobody()}),
    "a check": lambda out, number: out.insert(THINGS, {"id": number, "n": -1}),
}


def poisoned_run(engine, poison, chunks, write_good=good, **options):
    """A run of which the item in the middle of each chunk is bad, in a way of its own by turns."""
    kinds = list(poison.values())
    bad = {chunk * CHUNK + CHUNK // 2: kinds[chunk % len(kinds)] for chunk in range(chunks)}

    def map_item(number, out):
        if number in bad:
            bad[number](out, number + 10)
        else:
            write_good(number + 10)(out)

    with BatchWriter(engine, chunk_size=CHUNK, keep_failures=10_000, **options) as writer:
        result = writer.run(range(chunks * CHUNK), map_item)
    assert (result.abort, result.status) == (None, Status.PARTIAL_SUCCESS)
    assert [failure.index for failure in result.failures] == sorted(bad)
    assert result.written == chunks * (CHUNK - 1)
    return result


def seeded(engine):
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(THINGS.insert(), [{"id": number} for number in SEEDS])


@pytest.mark.parametrize("with_ledger", [False, True])
@pytest.mark.parametrize("chunks", [len(POISON) - 1, pytest.param(100, marks=pytest.mark.thorough)])
def test_a_poison_item_in_every_chunk(engine, chunks, with_ledger):
    seeded(engine)
    ledger = Ledger() if with_ledger else None
    if ledger:
        ledger.create(engine)
    poison = dict(POISON)
    if engine.dialect.name == "mariadb":
        del poison[NOWHERE]  # there a column of the new row itself is its default
    result = poisoned_run(engine, poison, chunks, ledger=ledger)
    if chunks < 100:
        assert not any("\0" in failure.message for failure in result.failures)


# ---- rows of which PostgreSQL says what looks like the program's fault


@dataclass
class Exotic:
    """A column, a value that is none of its, and one that is."""

    kind: object
    bad: object
    good: object
    extension: str | None = None
    code: str = field(default="", compare=False)


class Ltree(types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_):
        return "ltree"


class Jsonpath(types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_):
        return "jsonpath"


EXOTIC = {
    "tsvector": Exotic(postgresql.TSVECTOR(), "'open", "a b"),
    "jsonpath": Exotic(Jsonpath(), "$[", "$.a"),
    "regclass": Exotic(postgresql.REGCLASS(), "secret_of_mine", "pg_class"),
    "regconfig": Exotic(postgresql.REGCONFIG(), "secret_of_mine", "simple"),
    "ltree": Exotic(Ltree(), "a..b", "a.b", "ltree"),
    "hstore": Exotic(postgresql.HSTORE(), "secret_of_mine", {"a": "b"}, "hstore"),
}


@pytest.mark.parametrize("name", EXOTIC)
@pytest.mark.parametrize("chunks", [4, pytest.param(100, marks=pytest.mark.thorough)])
def test_a_value_that_cannot_be_read_whatever_the_code(postgres_engine, name, chunks):
    exotic = EXOTIC[name]
    with postgres_engine.begin() as connection:
        asked = "SELECT count(*) FROM pg_available_extensions WHERE name = %s"
        if exotic.extension and not connection.exec_driver_sql(asked, (exotic.extension,)).scalar():
            pytest.skip(f"the server has no {exotic.extension}")
        if exotic.extension:
            connection.exec_driver_sql(f"CREATE EXTENSION {exotic.extension}")
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("v", exotic.kind))
    metadata.create_all(postgres_engine)
    result = poisoned_run(
        postgres_engine,
        {"bad": lambda out, number: out.insert(table, {"id": number, "v": exotic.bad})},
        chunks,
        lambda number: lambda out: out.insert(table, {"id": number, "v": exotic.good}),
    )
    assert "secret_of_mine" not in repr(result)


@pytest.mark.parametrize("verb", ["insert", "upsert", "update"])
@pytest.mark.parametrize("chunks", [4, pytest.param(100, marks=pytest.mark.thorough)])
def test_a_row_that_row_level_security_refuses(postgres_engine, verb, chunks):
    metadata = MetaData()
    table = Table(
        "t",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", String, nullable=False),
    )
    metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        for statement in (
            "CREATE ROLE bw_tenant LOGIN PASSWORD 'x'",
            "GRANT ALL ON t TO bw_tenant",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON t USING (tenant = 'mine') WITH CHECK (tenant = 'mine')",
            "INSERT INTO t SELECT n, 'mine' FROM generate_series(1, 5000) n WHERE %s" % (verb == "update"),
        ):
            connection.exec_driver_sql(statement)
    url = postgres_engine.url.set(username="bw_tenant", password="x")  # noqa: S106 - a test's role
    engine = create_engine(url, poolclass=NullPool)
    write = {
        "insert": lambda out, number, tenant: out.insert(table, {"id": number, "tenant": tenant}),
        "upsert": lambda out, number, tenant: out.upsert(table, {"id": number, "tenant": tenant}),
        "update": lambda out, number, tenant: out.update(table, {"id": number}, tenant=tenant),
    }[verb]
    try:
        result = poisoned_run(
            engine,
            {"others": lambda out, number: write(out, number, "others")},
            chunks,
            lambda number: lambda out: write(out, number, "mine"),
        )
        assert {failure.sqlstate for failure in result.failures} == {"42501"}
    finally:
        engine.dispose()
        with postgres_engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY bw_tenant")
            connection.exec_driver_sql("DROP ROLE bw_tenant")


# ---- rows for which SQLite undoes the whole transaction


def undoing(engine, how):
    """A table that undoes everything for a name that is there, or for one that is bad."""
    metadata = MetaData()
    unique = [UniqueConstraint("name", sqlite_on_conflict="ROLLBACK")] if how == "constraint" else []
    table = Table(
        "t",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String),
        *unique,
    )
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), {"id": 0, "name": "taken"})
        if how == "trigger":
            connection.exec_driver_sql(
                "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.name = 'taken' "
                "BEGIN SELECT RAISE(ROLLBACK, 'secret'); END"
            )
    return table


@pytest.mark.parametrize("how", ["constraint", "trigger"])
@pytest.mark.parametrize("chunks", [4, pytest.param(100, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("with_ledger", [False, True])
def test_a_row_for_which_sqlite_undoes_everything(sqlite_engine, how, chunks, with_ledger):
    table = undoing(sqlite_engine, how)
    ledger = Ledger() if with_ledger else None
    if ledger:
        ledger.create(sqlite_engine)
    result = poisoned_run(
        sqlite_engine,
        {"taken": lambda out, number: out.insert(table, {"id": number, "name": "taken"})},
        chunks,
        lambda number: lambda out: out.insert(table, {"id": number, "name": f"n{number}"}),
        ledger=ledger,
    )
    assert not any("secret" in failure.message for failure in result.failures)
    with sqlite_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 1 + result.written


@pytest.mark.parametrize("how", ["constraint", "trigger"])
def test_several_rows_of_a_chunk_for_which_sqlite_undoes_everything(sqlite_engine, how):
    table = undoing(sqlite_engine, how)
    names = ["a", "taken", "b", "taken", "taken", "c", "a2", "d", "taken"]
    with BatchWriter(sqlite_engine) as writer:
        result = writer.run(
            list(enumerate(names, start=1)), lambda it, out: out.insert(table, {"id": it[0], "name": it[1]})
        )
    assert [failure.index for failure in result.failures] == [1, 3, 4, 8]
    with sqlite_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 1 + result.written == 6


@pytest.mark.parametrize("how", ["constraint", "trigger"])
@pytest.mark.parametrize("chunk_size", [1, 10])
def test_in_somebody_elses_transaction_it_is_said_that_it_is_gone(sqlite_engine, how, chunk_size):
    table = undoing(sqlite_engine, how)
    with sqlite_engine.connect() as connection:
        connection.execute(table.insert(), {"id": 100, "name": "the owner's"})
        with BatchWriter.in_session(connection) as writer:
            result = writer.run(
                [(1, "a"), (2, "taken"), (3, "b")], lambda it, out: out.insert(table, {"id": it[0], "name": it[1]})
            )
        assert (result.written, result.failed, result.abort.reason) == (0, 0, "fatal")
        assert "undone the whole transaction" in result.abort.message
    with sqlite_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 1
