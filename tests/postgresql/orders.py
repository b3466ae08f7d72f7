"""Tables, items good and bad, and what is said of them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    select,
    text,
)

METADATA = MetaData()
PARENTS = Table(
    "parents",
    METADATA,
    Column("sku", String, primary_key=True),
    Column("stock", Integer, CheckConstraint("stock >= 0", name="enough"), nullable=False),
)
LINES = Table(
    "lines",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("code", String(12), nullable=False),
    Column("sku", ForeignKey(PARENTS.c.sku, name="known_sku"), nullable=False),
    Column("quantity", Integer, CheckConstraint("quantity > 0", name="positive"), nullable=False),
    Column("price", Numeric(8, 2)),
    UniqueConstraint("code", name="one_code"),
)

BAD = (
    ({"code": "code-0"}, ("23505", "one_code")),
    ({"quantity": None}, ("23502", None)),
    ({"quantity": -1}, ("23514", "positive")),
    ({"sku": "unknown"}, ("23503", "known_sku")),
    ({"price": "twelve"}, ("22P02", None)),
    ({"code": "far too long a code"}, ("22001", None)),
    ({"price": 10_000_000}, ("22003", None)),
    ({"code": "lone \ud800"}, (None, None)),
    ({"code": "NUL \0"}, (None, None)),
    ({"price": object()}, (None, None)),
)


def good(number):
    return {
        "id": number,
        "code": f"code-{number}",
        "sku": f"sku-{number % 20}",
        "quantity": number % 5 + 1,
        "price": number,
    }


def rows_with_bad(count, every, kinds=BAD):
    """So many rows, of which each so many-th is bad, and what is to be said of the bad ones, by position."""
    rows, expected = [], {}
    for number in range(count):
        row = good(number)
        if every and number % every == every - 1:
            change, verdict = kinds[(number // every) % len(kinds)]
            row |= change
            expected[number] = verdict
        rows.append(row)
    return rows, expected


def insert_line(row, out):
    out.insert(LINES, row)


def insert_and_take(row, out):
    out.insert(LINES, row)
    out.increment(PARENTS, {"sku": row["sku"]}, stock=-1)


def verdicts(result):
    return {failure.index: (failure.sqlstate, failure.constraint) for failure in result.failures}


def ids(engine):
    with engine.connect() as connection:
        return sorted(connection.scalars(select(LINES.c.id)))


def taken(engine):
    """What is missing from all stock."""
    with engine.connect() as connection:
        return 20 * 1_000 - connection.scalar(text("SELECT sum(stock) FROM parents"))
