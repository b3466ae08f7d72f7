"""The table, the map function and the looks at a result that the tests of the writer share."""

import contextlib
import itertools
import json
import logging
import signal
import threading

from hypothesis import strategies as st
from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    event,
    select,
)

from batchwrite import (
    RetryPolicy,
)

METADATA = MetaData()
ITEMS = Table(
    "items",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    CheckConstraint("n >= 0", name="ck_n"),
)
AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)


def write_one(number, out):
    """Items below 0 are refused by the database, texts by map, None is skipped."""
    if number is None:
        out.skip("nothing there")
    elif isinstance(number, str):
        raise ValueError(number)
    else:
        out.insert(ITEMS, {"id": abs(number), "n": number})


def ids(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(ITEMS.c.id).order_by(ITEMS.c.id)))


def counts(result):
    return (result.written, result.failed, result.skipped, result.unattempted, result.unknown)


def accounted(result, engine):
    """The result, once its counts are seen to be whole and to agree with the database."""
    assert result.received == sum(counts(result))
    if not result.unknown:
        assert result.written == len(ids(engine))
    assert result.failed == sum(result.failure_counts.values())
    json.dumps(result.to_dict())
    return result


class Boom(Exception):
    """Raised by a source."""


def failing_after(items, error):
    yield from items
    raise error


@contextlib.contextmanager
def on_statement(engine, word, action, number=1):
    """Do something before the first (second, ...) statement that contains a word."""
    done = threading.Event()
    seen = itertools.count(1)

    def before(connection, cursor, statement, parameters, context, executemany):
        if word in statement and not done.is_set() and next(seen) == number:
            done.set()
            action()

    class Sent(logging.Handler):  # what goes past SQLAlchemy
        def emit(self, record):
            before(None, None, record.getMessage(), None, None, None)

    log, handler = logging.getLogger("batchwrite.sql"), Sent()
    event.listen(engine, "before_cursor_execute", before)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield done
    finally:
        event.remove(engine, "before_cursor_execute", before)
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def interrupt_twice():
    interrupt()
    interrupt()


KINDS = st.lists(st.sampled_from(["good", "good", "refused", "raises", "skipped"]), max_size=25)


def numbered(kinds):
    made = {"good": lambda n: n, "refused": lambda n: -n, "raises": str, "skipped": lambda n: None}
    return [made[kind](number) for number, kind in enumerate(kinds, 1)]


def execute_script(engine, script):
    with engine.begin() as connection:
        connection.exec_driver_sql(script)
