"""Which chunks count as written item by item."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import ARRAY, JSON, CheckConstraint, Column, DateTime, Integer, MetaData, Table

from batchwrite import BatchWriter

NOT_FAST_ON_POSTGRESQL = JSON().with_variant(ARRAY(Integer), "postgresql")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [Integer(), NOT_FAST_ON_POSTGRESQL], ids=["fast", "general"])
def test_a_clean_chunk_behind_a_bad_one_is_no_fallback(engine, kind, workers):
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("n", Integer, CheckConstraint("n < 100")),
        Column("v", kind),
    )
    table.create(engine)
    value = 1 if isinstance(kind, Integer) else [1]
    rows = [{"id": number, "n": 500 if number in {4, 13} else 1, "v": value} for number in range(30)]
    told = []

    class Told:
        def on_chunk(self, chunk):
            told.append((chunk.fell_back, chunk.failed))

    writer = BatchWriter(engine, chunk_size=3, workers=workers, listeners=[Told()])
    result = writer.run(rows, lambda row, out: out.insert(table, row))
    assert [failure.index for failure in result.failures] == [4, 13]
    assert [fell_back for fell_back, _ in told] == [failed > 0 for _, failed in told]
    assert result.fallbacks == 2


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("odd", [0, 199])
def test_nor_is_a_chunk_that_cannot_be_sent_in_the_fastest_way(engine, workers, odd, caplog):
    """On PostgreSQL a time with a zone, for a column without one, may be met when others are on their way by COPY."""
    moment = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), Column("v", DateTime))
    table.create(engine)
    rows = [{"id": number, "v": moment.replace(tzinfo=UTC if number == odd else None)} for number in range(400)]
    result = BatchWriter(engine, chunk_size=200, workers=workers).run(rows, lambda row, out: out.insert(table, row))
    assert (result.written, result.fallbacks) == (400, 0)
    slow = [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "slow_path"]
    assert len(slow) == (engine.dialect.name == "postgresql")


def test_nor_is_a_chunk_in_somebody_elses_transaction(postgres_engine):
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("v", ARRAY(Integer)))
    table.create(postgres_engine)
    with postgres_engine.begin() as connection:
        writer = BatchWriter.in_session(connection)
        result = writer.run(
            [{"id": number, "v": [1]} for number in range(200)], lambda row, out: out.insert(table, row)
        )
    assert (result.written, result.fallbacks) == (200, 0)
