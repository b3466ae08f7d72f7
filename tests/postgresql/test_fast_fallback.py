"""The fallback on the server: exact blame, few round trips, a quiet log, few subtransactions."""

import logging

import pytest
from orders import BAD, LINES, PARENTS, good, ids, insert_and_take, insert_line, rows_with_bad, taken, verdicts
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, create_engine, text

from batchwrite import BatchWriter
from batchwrite.sinks.postgresql import fallback, layout, sink
from batchwrite.sinks.postgresql.texts import NoFastPath
from batchwrite.sinks.sql import SqlSink


@pytest.fixture
def only_fast(monkeypatch):
    """The general way is not to be needed."""

    def refuse(*_arguments):
        pytest.fail("the general way of a fallback was taken")

    monkeypatch.setattr(SqlSink, "write_each", refuse)
    monkeypatch.setattr(SqlSink, "_carry_out", refuse)


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("map_item", [insert_line, insert_and_take])
@pytest.mark.parametrize("every", [2, 7, 50])
def test_every_bad_item_is_named_and_no_other(database, map_item, every):
    rows, expected = rows_with_bad(300, every)
    if map_item is insert_and_take:  # a parent that is unknown has no stock to take from, and that comes first
        expected = {at: (None, None) if code == "23503" else (code, name) for at, (code, name) in expected.items()}
    result = BatchWriter(database, chunk_size=100).run(rows, map_item)
    assert verdicts(result) == expected
    assert ids(database) == [row["id"] for number, row in enumerate(rows) if number not in expected]
    assert taken(database) == (len(rows) - len(expected) if map_item is insert_and_take else 0)


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize(("change", "verdict"), BAD)
def test_a_chunk_of_nothing_but_bad_items(database, change, verdict):
    rows = [good(0), *(good(number) | change for number in range(1, 80))]
    result = BatchWriter(database).run(rows, insert_line)
    assert verdicts(result) == dict.fromkeys(range(1, 80), verdict)
    assert ids(database) == [0]


@pytest.mark.usefixtures("only_fast")
def test_of_two_items_with_one_key_the_earlier_lands_whatever_fails_between(database):
    rows = [good(1), good(2) | {"sku": "unknown"}, good(3) | {"code": "code-2"}, good(4) | {"code": "code-2"}]
    result = BatchWriter(database).run(rows, insert_line)
    assert verdicts(result) == {1: ("23503", "known_sku"), 3: ("23505", "one_code")}


@pytest.mark.usefixtures("only_fast")
def test_an_item_that_takes_more_than_there_is_fails_and_its_mates_do_not(database):
    def take(quantity, out):
        out.increment(PARENTS, {"sku": "sku-1"}, stock=-quantity)

    result = BatchWriter(database).run([400, 400, 400, 200, 1], take)
    assert verdicts(result) == {2: ("23514", "enough"), 4: ("23514", "enough")}
    assert taken(database) == 1_000


def test_a_limit_of_failures_is_exact_to_the_item(database):
    rows, expected = rows_with_bad(200, 10)
    result = BatchWriter(database, max_failures=3).run(rows, insert_line)
    assert result.failed == 4
    assert ids(database) == [number for number in range(40) if number not in expected]


class Sent(logging.Handler):
    def __init__(self):
        super().__init__()
        self.statements = []

    def emit(self, record):
        self.statements.append(record.getMessage())


@pytest.fixture
def sent():
    """The statements that go past SQLAlchemy."""
    log, handler = logging.getLogger("batchwrite.sql"), Sent()
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler.statements
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("only_fast")
def test_while_chunks_keep_failing_the_next_begins_with_the_fallback_and_a_clean_one_goes_back(database, sent):
    rows, _ = rows_with_bad(200, 10)
    clean = [good(number) for number in range(1_000, 1_400)]
    BatchWriter(database, chunk_size=100).run(rows + clean, insert_line)
    ways = ["COPY" if "COPY" in each else "block" for each in sent if "COPY" in each or each.startswith("DO ")]
    # The first fails as a COPY; the second and the first clean one begin with the fallback; then COPY again.
    assert ways == ["COPY", "block", "block", "block", "COPY", "COPY", "COPY"]


@pytest.mark.usefixtures("only_fast")
def test_the_servers_log_has_one_error_for_a_failing_chunk_and_none_for_its_items(database):
    with database.connect() as connection:
        before = connection.scalar(
            text("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        )
    rows, expected = rows_with_bad(400, 4, kinds=BAD[:7])
    writer = BatchWriter(database, chunk_size=200)
    result = writer.run(rows, insert_line)
    assert result.failed == len(expected) == 100
    with database.connect() as connection:
        connection.execute(text("SELECT pg_stat_clear_snapshot()"))
        after = connection.scalar(text("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"))
    assert after - before <= 2  # the first chunk's COPY; nothing else was undone as a whole


@pytest.mark.parametrize("window", [1, 3, 60])
def test_no_more_than_64_subtransactions_are_left_behind(database, monkeypatch, window):
    monkeypatch.setattr(fallback, "_WINDOW", window)
    rows, _ = rows_with_bad(500, 2)
    with database.begin() as connection:  # a trigger, so that every item is tried by itself
        connection.exec_driver_sql(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.quantity = 4 THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$"
        )
        connection.exec_driver_sql("CREATE TRIGGER t BEFORE INSERT ON lines FOR EACH ROW EXECUTE FUNCTION note()")
    BatchWriter(database).run(rows, insert_line)
    with database.connect() as connection:
        # Rows that subtransactions have left behind carry their numbers; those of the transaction itself carry one.
        left = connection.scalar(text("SELECT count(DISTINCT xmin::text) FROM lines"))
    assert left == 1


def test_what_the_block_is_not_made_for_is_left_to_the_general_way(database, caplog):
    rows = [good(number) | {"quantity": text("1 + 1") if number else -1} for number in range(4)]
    with caplog.at_level("WARNING", "batchwrite"):
        result = BatchWriter(database).run(rows, insert_line)
    assert verdicts(result) == {0: ("23514", "positive")}
    assert "rows hold SQL expressions" in caplog.text


def test_a_role_that_may_only_insert_needs_no_more(database):
    with database.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS only_inserts")
        connection.exec_driver_sql("CREATE ROLE only_inserts LOGIN PASSWORD 'only'")
        connection.exec_driver_sql("GRANT INSERT ON lines TO only_inserts")
    engine = create_engine(database.url.set(username="only_inserts", password="only"))  # noqa: S106
    try:
        rows, expected = rows_with_bad(60, 6, kinds=BAD[:5])
        assert verdicts(BatchWriter(engine).run(rows, insert_line)) == expected
    finally:
        engine.dispose()
        with database.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY only_inserts")
            connection.exec_driver_sql("DROP ROLE only_inserts")


def test_names_that_need_quotes_and_a_percent_sign(postgres_engine):
    metadata = MetaData(schema='odd "schema')
    table = Table("100% Table's", metadata, Column('a "b" %', Integer, primary_key=True), Column("select", String(3)))
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "odd ""schema"')
        metadata.create_all(connection)
    rows = [{'a "b" %': number % 7, "select": "x" * (number % 5)} for number in range(200)]
    result = BatchWriter(postgres_engine).run(rows, lambda row, out: out.insert(table, row))
    assert result.written == 7
    assert {failure.sqlstate for failure in result.failures} == {"23505", "22001"}
    metadata.drop_all(postgres_engine)


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("name", ["a $batchwrite$ b", "$batchwrite", "$$ $batchwrite$ $batchwrite1$"])
def test_a_name_does_not_end_the_block(postgres_engine, name):
    table = Table(
        "t", MetaData(), Column("id", Integer, primary_key=True), Column(name, String(3), CheckConstraint("id < 5"))
    )
    table.create(postgres_engine)
    rows = [{"id": number, name: "x"} for number in range(10)]
    result = BatchWriter(postgres_engine).run(rows, lambda row, out: out.insert(table, row))
    assert (result.written, result.failed) == (5, 5)


def shapes_of(database, count):
    """What a run with one bad item among rows of so many sets of columns has logged, and its result."""
    names = [f"c{place}" for place in range(8)]
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("n", Integer, CheckConstraint("n < 5")),
        *(Column(name, Integer) for name in names),
    )
    table.create(database)
    rows = [
        {
            "id": number,
            "n": 5 if number == 20 else 1,
            **{name: 1 for place, name in enumerate(names) if number >> place & 1},
        }
        for number in range(count)
    ]
    return BatchWriter(database).run(rows, lambda row, out: out.insert(table, row))


@pytest.mark.usefixtures("only_fast")
def test_rows_of_many_shapes_fall_back_on_the_server(postgres_engine):
    result = shapes_of(postgres_engine, layout._MOST_GROUPS)
    assert (result.written, [failure.index for failure in result.failures]) == (layout._MOST_GROUPS - 1, [20])


def test_rows_of_too_many_shapes_do_not(postgres_engine, caplog):
    result = shapes_of(postgres_engine, layout._MOST_GROUPS + 1)
    assert (result.written, [failure.index for failure in result.failures]) == (layout._MOST_GROUPS, [20])
    assert "kinds of rows" in caplog.text


@pytest.mark.parametrize(
    ("orders", "common"),
    [
        ([(0, 1, 2)], [0, 1, 2]),
        ([(2, 0), (1,), (0, 1)], [2, 0, 1]),
        ([(3,), (0,), (2, 3), (1, 2)], [0, 1, 2, 3]),
        ([], []),
        ([()], []),
    ],
)
def test_groups_have_an_order_that_is_every_items_own(orders, common):
    assert layout._common_order(orders) == common


@pytest.mark.parametrize("orders", [[(0, 1), (1, 0)], [(0, 1, 0)], [(0, 1), (1, 2), (2, 0)]])
def test_groups_may_have_none(orders):
    with pytest.raises(NoFastPath):
        layout._common_order(orders)


def test_an_order_of_many_groups_is_found_at_once():
    """Quadratic work on these would take a minute."""
    count = 20_000
    orders = [*((place,) for place in range(count)), tuple(range(0, count, 2)), tuple(range(1, count, 2))]
    found = layout._common_order(orders)
    assert sorted(found) == list(range(count))
    assert [each for each in found if each % 2] == list(range(1, count, 2))


def test_rows_of_several_shapes_share_a_chunk(database):
    rows = [
        good(number) if number % 2 else {k: v for k, v in good(number).items() if k != "price"} for number in range(40)
    ]
    rows[13] |= {"quantity": 0}
    assert verdicts(BatchWriter(database).run(rows, insert_line)) == {13: ("23514", "positive")}
    assert len(ids(database)) == 39
    assert LINES.c.price.name == "price"


def test_without_pipelines_the_generic_path_serves_and_says_so(database, monkeypatch, caplog):
    monkeypatch.setattr(sink, "has_pipelines", lambda: False)
    rows, expected = rows_with_bad(60, 7)
    with caplog.at_level("WARNING", "batchwrite"):
        result = BatchWriter(database).run(rows, insert_line)
    assert set(verdicts(result)) == set(expected)
    assert "libpq is older than 14" in caplog.text


def test_another_driver_is_served_by_the_generic_path(database, monkeypatch, caplog):
    monkeypatch.setattr(database.dialect, "driver", "psycopg2")
    rows, expected = rows_with_bad(60, 7)
    with caplog.at_level("WARNING", "batchwrite"):
        result = BatchWriter(database).run(rows, insert_line)
    assert set(verdicts(result)) == set(expected)
    assert "the driver is psycopg2" in caplog.text
