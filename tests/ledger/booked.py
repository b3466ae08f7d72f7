"""What the tests of the ledger share: a table of items, one of sums, map functions, and looks at what was booked."""

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, Text, select

from batchwrite import BatchWriter, Ledger, RetryPolicy

METADATA = MetaData()
ITEMS = Table(
    "items",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    Column("text", Text),
    CheckConstraint("n >= 0", name="ck_n"),
)
SUMS = Table(
    "sums",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
)
LEDGER = Ledger()
AT_ONCE = RetryPolicy(attempts=5, first_wait=0, longest_wait=0)


class Crash(BaseException):
    """Ends a run as a crash of the program does: nothing is tidied up."""


def write_one(number, out):
    """Items below 0 are refused by the database, texts by map, None is skipped; each that lands counts in the sum."""
    if number is None:
        out.skip("nothing there")
    elif isinstance(number, str):
        raise ValueError(number)
    else:
        out.insert(ITEMS, {"id": abs(number), "n": number})
        out.increment(SUMS, {"id": 0}, total=abs(number))


def insert_row(row, out):
    out.insert(ITEMS, row)


def writer(engine, **options):
    return BatchWriter(engine, **{"ledger": LEDGER, "retry": AT_ONCE, "chunk_size": 3} | options)


def ids(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(ITEMS.c.id).order_by(ITEMS.c.id)))


def total(engine):
    with engine.connect() as connection:
        return connection.scalar(select(SUMS.c.total))


def rows_of(engine, table):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(table.select().order_by(*table.primary_key)).mappings()]


def entries(engine, run_id):
    """First item, number of items, and what became of them, of each chunk of a run."""
    names = ("first_item", "items", "written", "failed", "skipped")
    return [tuple(row[name] for name in names) for row in rows_of(engine, LEDGER.chunks) if row["run_id"] == run_id]


def counts(result):
    return (result.written, result.failed, result.skipped, result.unattempted, result.unknown)


def assert_landed(engine, numbers):
    """Exactly these have landed, in the rows and in the sum."""
    assert ids(engine) == sorted(numbers)
    assert total(engine) == sum(numbers)


def crashing_at(items, index):
    """The items up to one; before that, the program crashes."""
    for place, item in enumerate(items):
        if place == index:
            raise Crash
        yield item
