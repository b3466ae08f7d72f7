"""Which chunks count as written item by item."""

import pytest
from sqlalchemy import ARRAY, JSON, CheckConstraint, Column, Integer, MetaData, Table

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
