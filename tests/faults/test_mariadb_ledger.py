"""The ledger, dead letters and idempotency keys on MariaDB: nothing lost, nothing twice."""

import socket
from itertools import count

import pytest
from provoked import AT_ONCE, THINGS, insert_thing, written
from sqlalchemy import event, inspect, select

from batchwrite import BatchWriter, DeadLetters, IdempotencyKey, Ledger, SourceError, Status


@pytest.fixture
def ledger(mariadb):
    made = Ledger()
    made.create(mariadb)
    return made


def column(engine, one):
    with engine.connect() as connection:
        return list(connection.scalars(select(one).order_by(*one.table.primary_key)))


def cut_at_commit(engine, *, times, is_committed):
    """Cuts the connection at COMMITs of chunks: before the server gets it, or before the client gets the answer."""
    left = count(times, -1)

    @event.listens_for(engine, "commit")
    def cut(connection):
        if next(left) > 0:
            raw = connection.connection.dbapi_connection
            if is_committed:
                raw.commit()
            raw._sock.shutdown(socket.SHUT_RDWR)


def insert_and_count(row, out):
    out.upsert(THINGS, {"id": 1_000, "small": 0}, set=())
    out.insert(THINGS, row)
    out.increment(THINGS, {"id": 1_000}, small=1)


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_a_commit_without_an_answer_is_looked_up(mariadb, ledger, is_committed, bad):
    writer = BatchWriter(mariadb, chunk_size=3, ledger=ledger, retry=AT_ONCE)
    cut_at_commit(mariadb, times=2, is_committed=is_committed)
    rows = [{"id": 1}, {"id": 2} | bad, *({"id": number} for number in range(3, 8))]
    result = writer.run(rows, insert_and_count)
    assert (result.written, result.failed, result.unknown, result.abort) == (7 - len(bad), len(bad), 0, None)
    landed = [row["id"] for row in rows if "checked" not in row]
    assert written(mariadb) == [*landed, 1_000]
    assert column(mariadb, THINGS.c.small)[-1] == len(landed)
    assert sum(column(mariadb, ledger.chunks.c["items"])) == 7


@pytest.mark.parametrize("is_committed", [True, False])
def test_without_a_ledger_what_became_of_it_is_unknown(mariadb, is_committed):
    cut_at_commit(mariadb, times=1, is_committed=is_committed)
    result = BatchWriter(mariadb, retry=AT_ONCE).run([{"id": 1}, {"id": 2}], insert_thing)
    assert (result.written, result.unknown, result.abort.reason) == (0, 2, "in_doubt")
    assert written(mariadb) == ([1, 2] if is_committed else [])


def test_a_run_that_was_cut_off_goes_on(mariadb, ledger):
    def source(numbers, ends):
        for number in numbers:
            if ends and number == 8:
                raise OSError("the input is gone")
            yield {"id": number} | ({"checked": 0} if number == 2 else {})

    writer = BatchWriter(mariadb, chunk_size=3, ledger=ledger)
    with pytest.raises(SourceError):
        writer.run(source(range(1, 11), ends=True), insert_and_count, run_id="Nightly")
    assert writer.run(source(range(1, 3), ends=False), insert_thing, run_id="nightly").written == 0  # another run
    result = writer.run(source(range(1, 11), ends=False), insert_and_count, run_id="Nightly")
    assert result.status is not Status.ABORTED
    assert written(mariadb) == [1, *range(3, 11), 1_000]
    assert column(mariadb, THINGS.c.small)[-1] == 9


def test_dead_letters_are_kept_and_written_again(mariadb, ledger, caplog):
    writer = BatchWriter(mariadb, ledger=ledger, dead_letters=DeadLetters())
    rows = [{"id": 1}, {"id": 2, "parent": 5, "short": "ä€\U0001f600"}, {"id": 3}]
    assert writer.run(rows, insert_thing, run_id="r").failed == 1
    assert column(mariadb, ledger.dead_letters.c.sqlstate) == ["1452"]
    with mariadb.begin() as connection:
        connection.exec_driver_sql("INSERT INTO parent VALUES (5)")
    assert writer.retry("r", insert_thing).written == 1
    assert column(mariadb, THINGS.c.short) == [None, "ä€\U0001f600", None]
    assert None not in column(mariadb, ledger.dead_letters.c.landed_at)
    assert writer.retry("r", insert_thing).received == 0
    assert "rounded" not in {getattr(record, "action", "") for record in caplog.records}


def test_keys_that_differ_in_case_alone_are_two(mariadb, ledger):
    key = IdempotencyKey(of=lambda row: row["short"], scope="s")
    writer = BatchWriter(mariadb, ledger=ledger, key=key, chunk_size=2)
    rows = [{"id": number, "short": text} for number, text in enumerate(["a", "A", "a ", "a", "ä"])]
    result = writer.run(rows, insert_thing)
    assert (result.written, result.skipped, result.abort) == (4, 1, None)
    assert writer.run(rows, insert_thing).skipped == 5


def test_the_tables_of_the_ledger_know_transactions_whatever_the_server_prefers(mariadb):
    @event.listens_for(mariadb, "connect")
    def prefer(raw, record):
        with raw.cursor() as cursor:
            cursor.execute("SET default_storage_engine = MyISAM")

    mariadb.dispose()
    ledger = Ledger(prefix="own_")
    ledger.create(mariadb)
    engines = {table: inspect(mariadb).get_table_options(table)["mariadb_engine"] for table in ledger.metadata.tables}
    assert set(engines.values()) == {"InnoDB"}
    with mariadb.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE own_chunks ENGINE=MyISAM")
    result = BatchWriter(mariadb, ledger=ledger).run([{"id": 1}], insert_thing)
    assert (result.abort.reason, result.unattempted) == ("fatal", 1)
    assert written(mariadb) == []
