"""Connections on which a value could become a part of a statement are refused."""

import asyncio
import codecs

import pytest
from pymysql import charset as pymysql_charset
from sqlalchemy import Column, Integer, LargeBinary, MetaData, NullPool, String, Table, create_engine, event, select
from sqlalchemy.ext.asyncio import create_async_engine

from batchwrite import BatchWriter, ConfigurationError
from batchwrite.aio import AsyncBatchWriter
from batchwrite.sinks.mysql import SAFE_CHARSETS

METADATA = MetaData()
WORDS = Table(
    "words",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("word", String(60)),
    Column("raw", LargeBinary(60)),
    mysql_charset="utf8mb4",
    mariadb_charset="utf8mb4",
)

CHARSETS = sorted({each.name for each in pymysql_charset._charsets._by_id.values()})  # there is no public list
ASCII = "".join(map(chr, range(0x80)))
OTHERS = "".join(chr(number) for number in range(0x80, 0x110000) if not 0xD800 <= number < 0xE000)


def is_safe(charset):
    """Whether ASCII is itself in a charset's codec, and no byte of any other character is one of ASCII."""
    codec = pymysql_charset.charset_by_name(charset).encoding
    try:
        codecs.lookup(codec)
    except LookupError:
        return False
    return ASCII.encode(codec) == bytes(range(0x80)) and min(OTHERS.encode(codec, "ignore"), default=0x80) >= 0x80


def test_the_list_of_safe_charsets_is_what_the_codecs_say():
    assert set(CHARSETS) | {"utf8"} >= SAFE_CHARSETS
    assert {charset for charset in CHARSETS if is_safe(charset)} | {"utf8"} == SAFE_CHARSETS


INJECTION = ", 'x'), (7, 'forged', '') -- "
ROWS = [
    *(
        {"id": number, "word": word + INJECTION, "raw": b""}
        for number, word in enumerate("\u00a5\u203e\u8868\u80fd\u53d7'\\")
    ),
    *(
        {"id": 100 + lead, "word": None, "raw": bytes([lead]) + b"'" + INJECTION.encode()}
        for lead in range(0x80, 0x100)
    ),
]


def stored(engine):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(WORDS).order_by(WORDS.c.id)).mappings()]


def insert_word(row, out):
    out.insert(WORDS, row)


@pytest.fixture
def database(mariadb_engine):
    METADATA.create_all(mariadb_engine)
    return mariadb_engine


UNSAFE = ["big5", "cp932", "gbk", "sjis", "ujis"]


@pytest.mark.parametrize("charset", [*UNSAFE, "eucjpms", "swe7", "binary"])
def test_an_unsafe_charset_of_the_url_is_refused_when_the_writer_is_made(database, charset):
    engine = create_engine(database.url.update_query_dict({"charset": charset}))
    with pytest.raises(ConfigurationError, match="utf8mb4"):
        BatchWriter(engine)
    with pytest.raises(ConfigurationError, match="utf8mb4"):
        BatchWriter(engine.url)
    url = database.url.set(drivername="mysql+aiomysql").update_query_dict({"charset": charset})
    with pytest.raises(ConfigurationError, match="utf8mb4"):
        AsyncBatchWriter(create_async_engine(url))


@pytest.mark.parametrize("charset", UNSAFE)
@pytest.mark.parametrize("way", ["connect_args", "SET NAMES", "awaited"])
def test_an_unsafe_charset_set_otherwise_is_refused_before_the_first_value(database, charset, way):
    plain = database.url.update_query_dict({"charset": "utf8mb4"})
    settings = {} if way == "SET NAMES" else {"charset": charset}
    if way == "awaited":
        result = asyncio.run(run_awaited(plain.set(drivername="mysql+aiomysql"), settings))
    else:
        engine = create_engine(plain, poolclass=NullPool, connect_args=settings)
        if way == "SET NAMES":  # of which the driver learns nothing
            event.listen(engine, "connect", lambda raw, _record: raw.query(f"SET NAMES {charset}"))
        result = BatchWriter(engine).run(ROWS, insert_word)
    assert result.abort.error_type == "ConfigurationError"
    assert charset in result.abort.message
    assert "utf8mb4" in result.abort.message
    assert (result.unattempted, stored(database)) == (len(ROWS), [])


async def run_awaited(url, settings):
    engine = create_async_engine(url, poolclass=NullPool, connect_args=settings)
    try:
        return await AsyncBatchWriter(engine).run(ROWS, insert_word)
    finally:
        await engine.dispose()


@pytest.mark.drawn(6)
@pytest.mark.parametrize("charset", sorted(SAFE_CHARSETS))
def test_in_every_safe_charset_values_stay_values(database, charset):
    codec = pymysql_charset.charset_by_name(charset).encoding
    engine = create_engine(database.url, poolclass=NullPool, connect_args={"charset": charset})
    result = BatchWriter(engine, keep_failures=1_000).run(ROWS, insert_word)
    fits = [row for row in ROWS if (row["word"] or "").encode(codec, "ignore").decode(codec) == (row["word"] or "")]
    failed = {ROWS[failure.index]["id"] for failure in result.failures}
    assert stored(database) == [row for row in ROWS if row["id"] not in failed]
    assert failed == {row["id"] for row in ROWS if row not in fits}
