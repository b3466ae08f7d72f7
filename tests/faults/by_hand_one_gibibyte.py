"""By hand, not by CI: a value of 1 GiB on PostgreSQL, which ends the connection or is refused; it must fail alone.

    python tests/faults/by_hand_one_gibibyte.py URL

takes some 6 GiB of memory. The last line should say `right`: items 1 and 3 have landed, 2 has failed.
"""

import sys

from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, func, select

from batchwrite import BatchWriter, DeadLetters, Ledger

BIG = Table("big", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), Column("value", Text))


def main() -> None:
    engine = create_engine(sys.argv[1])
    BIG.drop(engine, checkfirst=True)
    BIG.create(engine)
    ledger = Ledger()
    ledger.create(engine)
    value = "x" * 1024**3
    rows = [{"id": 1, "value": "x"}, {"id": 2, "value": value}, {"id": 3, "value": "x"}]
    writer = BatchWriter(engine, ledger=ledger, dead_letters=DeadLetters())
    result = writer.run(rows, lambda row, out: out.insert(BIG, row))
    print(result.to_dict())  # noqa: T201 - run by hand: what it prints is its result
    with engine.connect() as connection:
        landed = connection.execute(select(BIG.c.id, func.length(BIG.c.value)).order_by(BIG.c.id)).all()
    is_right = landed == [(1, 1), (3, 1)] and [failure.index for failure in result.failures] == [1]
    print("right" if is_right else f"wrong: {landed}")  # noqa: T201 - run by hand: what it prints is its result


if __name__ == "__main__":
    main()
