"""No value becomes another, or another's, whatever encoding the connection speaks."""

import json

import pytest
from psycopg._encodings import py_codecs  # psycopg has no public list
from sqlalchemy import ARRAY, Column, Integer, MetaData, String, Table, create_engine, select

from batchwrite import BatchWriter, DeadLetters, Ledger
from batchwrite.sinks.postgresql.rules import UNFAITHFUL

METADATA = MetaData()
WORDS = Table(
    "words",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("word", String),
    Column("other", String),
    Column("quantity", Integer),
)
LISTS = Table("lists", METADATA, Column("id", Integer, primary_key=True), Column("words", ARRAY(String)))
BOOKS = Ledger()

CODECS = sorted(set(py_codecs.values()))


ASCII = "".join(map(chr, range(0x80)))
OTHERS = "".join(chr(number) for number in range(0x80, 0x110000) if not 0xD800 <= number < 0xE000)


def is_faithful(codec):
    """Whether the characters of ASCII are the bytes of ASCII, and no other character is read as one of them."""
    others = OTHERS.encode(codec, "ignore").decode(codec, "replace")
    return ASCII.encode(codec) == bytes(range(0x80)) and set(ASCII).isdisjoint(others)


@pytest.mark.drawn(10)
@pytest.mark.parametrize("codec", CODECS)
def test_the_list_of_codecs_that_change_characters_is_whole(codec):
    assert is_faithful(codec) == (codec not in UNFAITHFUL)


NASTY = (
    *("\\", "\u00a5", "\u203e", "~", '"', "'", "\u00a5N", "\\N", "\u00a5.", '\u00a5"', '\\"', "\u8868", '\u8868"'),
    *("\u00a5\\", ",", "{}", "NULL", "\u30bd", "a\tb", "a\nb", "\u00a5t", "\uff3c", "\uffe5", "\u80fd\\", "\u5341'"),
)


RUN = "\u00a5 \\ run"


def insert_word(row, out):
    out.insert(WORDS, row)


def rows_of(count):
    return [
        {"id": number, "word": NASTY[number % len(NASTY)], "other": f"whole {number}", "quantity": number}
        for number in range(count)
    ]


@pytest.fixture
def speaking(request, postgres_engine):
    METADATA.create_all(postgres_engine)
    BOOKS.create(postgres_engine)
    url = postgres_engine.url.update_query_dict({"client_encoding": request.param})
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW client_encoding").scalar() == request.param
    yield engine, postgres_engine
    engine.dispose()


def stored(engine):
    with engine.connect() as connection:
        rows = connection.execute(select(WORDS).order_by(WORDS.c.id)).mappings()
        return [dict(row) for row in rows]


ENCODINGS = ["EUC_JP", "SJIS", "SHIFT_JIS_2004", "BIG5", "LATIN1", "UTF8"]  # SQLAlchemy knows nothing of SQL_ASCII
each_encoding = pytest.mark.parametrize("speaking", ENCODINGS, indirect=True)


@each_encoding
@pytest.mark.parametrize("count", [30, 300])
def test_new_rows_by_arrays_and_by_copy(speaking, count):
    engine, plain = speaking
    result = BatchWriter(engine).run(rows_of(count), insert_word)
    assert (result.written, result.fallbacks) == (count, 0)
    assert stored(plain) == rows_of(count)


@each_encoding
def test_upserts_and_updates(speaking):
    engine, plain = speaking
    rows = rows_of(60)
    with plain.begin() as connection:
        connection.execute(WORDS.insert(), [row | {"word": "before", "other": "before"} for row in rows])

    def change(row, out):
        if row["id"] % 2:
            out.upsert(WORDS, row, key="id")
        else:
            out.update(WORDS, {"id": row["id"]}, word=row["word"], other=row["other"])

    assert BatchWriter(engine).run(rows, change).written == 60
    assert stored(plain) == rows


@each_encoding
def test_fallbacks_and_their_books(speaking):
    engine, plain = speaking
    rows = rows_of(120)
    bad = {number: row | {"quantity": row["word"]} for number, row in enumerate(rows) if number % 7 == 3}
    given = [bad.get(number, row) for number, row in enumerate(rows)]
    writer = BatchWriter(
        engine,
        chunk_size=40,
        ledger=BOOKS,
        dead_letters=DeadLetters(),
        key=lambda row: row["word"] + str(row["id"]),
    )
    result = writer.run(given, insert_word, run_id=RUN)
    assert {failure.index for failure in result.failures} == set(bad)
    assert stored(plain) == [row for number, row in enumerate(rows) if number not in bad]
    with plain.connect() as connection:
        letters = connection.scalars(select(BOOKS.dead_letters.c.item).order_by(BOOKS.dead_letters.c.item_index))
        assert list(map(json.loads, letters)) == list(bad.values())
    again = writer.run(given, insert_word, run_id=RUN)
    assert (again.abort, len(stored(plain))) == (None, 120 - len(bad))


@each_encoding
def test_arrays_of_texts_that_sqlalchemy_writes(speaking):
    engine, plain = speaking
    lists = [[word, "whole", word + "x"] for word in NASTY]
    items = list(enumerate(lists))
    result = BatchWriter(engine).run(items, lambda item, out: out.insert(LISTS, {"id": item[0], "words": item[1]}))
    assert result.written == len(lists)
    with plain.connect() as connection:
        assert list(connection.scalars(select(LISTS.c.words).order_by(LISTS.c.id))) == lists


@each_encoding
def test_a_transaction_of_somebody_elses_speaks_its_own_encoding_afterwards(speaking):
    engine, plain = speaking
    rows = rows_of(40)
    with engine.begin() as connection:
        before = connection.exec_driver_sql("SHOW client_encoding").scalar()
        BatchWriter.in_session(connection).run(rows, insert_word)
        BatchWriter.in_session(connection).run([rows[0]], insert_word)  # refused
        assert connection.exec_driver_sql("SHOW client_encoding").scalar() == before
    assert stored(plain) == rows
