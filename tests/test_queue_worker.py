"""The example of a queue's workers: each message is written once or kept with its reason, whoever is killed."""

import contextlib
import csv
import dataclasses
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text, update

from batchwrite import Abort

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "queue_worker.py"
NORTHWIND = ROOT / "examples" / "data" / "northwind"
PATIENCE = 60  # seconds; the server may be shared with other tests

_spec = importlib.util.spec_from_file_location("queue_worker_example", EXAMPLE)
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)
messages = example.messages


def rows(name):
    with (NORTHWIND / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


DISCONTINUED = {int(row["ProductID"]) for row in rows("products.csv") if row["Discontinued"] == "1"}
STOCK = {int(row["ProductID"]): int(row["UnitsInStock"]) for row in rows("products.csv") if row["Discontinued"] == "0"}
LINES = [(int(row["OrderID"]), int(row["ProductID"]), int(row["Quantity"])) for row in rows("order_details.csv")]
ALL = {int(row["OrderID"]) for row in rows("orders.csv")}
REFUSED = {order for order, product, _ in LINES if product in DISCONTINUED}


class State:
    """What the database holds."""

    def __init__(self, engine):
        with engine.connect() as connection:
            self.orders = sorted(connection.scalars(select(example.orders.c.order_id)))
            lines = select(example.order_lines.c.order_id, example.order_lines.c.product_id)
            self.lines = sorted(map(tuple, connection.execute(lines)))
            self.stock = dict(map(tuple, connection.execute(select(example.products))))
            self.queue = connection.execute(select(messages).order_by(messages.c.id)).all()
        self.failed = [row.payload["order_id"] for row in self.queue if row.state == "failed"]
        self.waiting = [row.payload["order_id"] for row in self.queue if row.state == "waiting"]

    def check(self, sent=frozenset(ALL)):
        """No message is lost, none is written in part, and none has moved the stock twice."""
        assert sorted(self.orders + self.failed + self.waiting) == sorted(sent)
        assert self.lines == sorted((order, product) for order, product, _ in LINES if order in self.orders)
        expected = dict(STOCK)
        for order, product, quantity in LINES:
            if order in self.orders:
                expected[product] -= quantity
        assert self.stock == expected
        assert all(row.reason for row in self.queue if row.state == "failed")

    def check_finished(self):
        self.check()
        assert set(self.failed) == REFUSED
        assert self.waiting == []


def worker(engine, *, most=100, lease=60.0):
    return example.Worker(engine, most=most, lease=timedelta(seconds=lease), chunk_size=100)


@pytest.fixture
def few(monkeypatch):
    """The first 60 orders alone; gives their numbers."""
    read = example.read
    monkeypatch.setattr(example, "read", lambda name: read(name)[:60] if name == "orders.csv" else read(name))
    return {int(row["OrderID"]) for row in rows("orders.csv")[:60]}


# ---- processes

BLOCKED = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
COUNT_BLOCKED = text(f"SELECT count(*) {BLOCKED}")
END_BLOCKED = text(f"SELECT pg_terminate_backend(pid, 10000) {BLOCKED}")


def arguments(engine, *more):
    url = engine.url.render_as_string(hide_password=False)
    return [sys.executable, "-W", "error", str(EXAMPLE), url, *map(str, more)]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def started(engine, *more):
    """A worker in a process of its own."""
    process = subprocess.Popen(
        arguments(engine, "work", *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        assert process.stdout.readline() == "working\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process):
    """What a worker has printed, when it has ended well."""
    printed, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    return printed


def wait_for_blocked(engine, number):
    """Until so many workers stand before a lock, with a chunk half written."""
    deadline = time.monotonic() + PATIENCE
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.scalar(COUNT_BLOCKED) < number:
            assert time.monotonic() < deadline, "nobody came to the lock"
            time.sleep(0.01)  # the server has no event for it


@contextlib.contextmanager
def products_locked(engine):
    with engine.begin() as connection:
        connection.execute(select(example.products).with_for_update())
        yield


def test_another_worker_takes_over_from_one_that_was_killed(postgres_engine):
    example.fill(postgres_engine)
    options = ("--until-empty", "--most", 40, "--lease", 2)
    with contextlib.ExitStack() as stack:
        with products_locked(postgres_engine):
            killed, other = (stack.enter_context(started(postgres_engine, *options)) for _ in range(2))
            wait_for_blocked(postgres_engine, 2)
            os.kill(killed.pid, signal.SIGKILL)
            assert killed.wait() == -signal.SIGKILL
            assert State(postgres_engine).orders == []
        ended(other)
    State(postgres_engine).check_finished()


def test_a_worker_that_is_killed_alone_loses_nothing(postgres_engine, few):
    example.fill(postgres_engine)
    for _ in range(2):
        with products_locked(postgres_engine), started(postgres_engine, "--most", 15, "--lease", 0.2) as killed:
            wait_for_blocked(postgres_engine, 1)
            killed.kill()
            killed.wait()
            with postgres_engine.begin() as connection:  # else what it has sent already would be carried out
                connection.execute(END_BLOCKED)
    state = State(postgres_engine)
    state.check(few)
    assert (state.orders, state.failed) == ([], [])
    assert max(row.attempts for row in state.queue) == 2
    with started(postgres_engine, "--until-empty") as last:
        ended(last)
    state = State(postgres_engine)
    state.check(few)
    assert set(state.failed) == few & REFUSED


def test_a_worker_whose_connection_is_lost_in_the_middle_of_a_chunk(postgres_engine, few):
    example.fill(postgres_engine)
    with contextlib.ExitStack() as stack:
        with products_locked(postgres_engine):
            cut_off = stack.enter_context(started(postgres_engine, "--until-empty"))
            wait_for_blocked(postgres_engine, 1)
            with postgres_engine.begin() as connection:
                assert connection.scalar(END_BLOCKED)
        ended(cut_off)  # the writer has written the chunk once more
    State(postgres_engine).check(few)


def test_a_worker_that_is_asked_to_stop_finishes_its_chunk_and_gives_back_the_rest(postgres_engine):
    example.fill(postgres_engine)
    with contextlib.ExitStack() as stack:
        with products_locked(postgres_engine):
            stopped = stack.enter_context(started(postgres_engine, "--most", 400, "--chunk-size", 50))
            wait_for_blocked(postgres_engine, 1)
            os.kill(stopped.pid, signal.SIGTERM)
        printed = ended(stopped)
    state = State(postgres_engine)
    state.check()
    given_back = int(re.search(r"(\d+) given back", printed)[1])
    decided = len(state.orders) + len(state.failed)
    assert decided >= 50
    assert given_back == 400 - decided > 0
    assert not any(row.claim or row.claimed_until or row.attempts for row in state.queue if row.state == "waiting")


def test_an_idle_worker_stops_when_it_is_asked_to(postgres_engine):
    example.fill(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(messages.delete())
    with started(postgres_engine) as idle:
        os.kill(idle.pid, signal.SIGTERM)
        assert ended(idle) == "nothing done\n"


def run_example(engine, *more):
    done = subprocess.run(arguments(engine, *more), capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_prints_what_it_promises(postgres_engine):
    printed = run_example(postgres_engine, "--most", 100).splitlines()
    assert printed[-3:] == [
        "623 orders written, with 1,538 lines; stock agrees",
        "207 messages failed, 0 left",
        "  207 because: no row has this key (product_id) [products.product_id]",
    ]
    promised = EXAMPLE.read_text(encoding="utf-8")
    assert all(line.strip() in promised for line in printed[-3:])
    State(postgres_engine).check_finished()


def test_it_compares_itself_with_one_message_a_transaction(postgres_engine, few, capsys):
    url = postgres_engine.url.render_as_string(hide_password=False)
    assert example.main([url, "compare", "--copies", "1"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"refused: \d+\.\d times as many$", printed, re.MULTILINE)) == 2
    assert len(re.findall(r"messages a second$", printed, re.MULTILINE)) == 4
    State(postgres_engine).check(few - REFUSED)


def test_the_usual_way_that_it_compares_itself_with_does_the_same(postgres_engine, few):
    example.fill(postgres_engine)
    example.work_one_by_one(postgres_engine)
    state = State(postgres_engine)
    state.check(few)
    assert set(state.failed) == few & REFUSED


# ---- what may come in between


def test_a_worker_that_comes_too_late_writes_nothing(postgres_engine):
    example.fill(postgres_engine)
    late, other = worker(postgres_engine, lease=0), worker(postgres_engine)
    claim, taken = late._claim()
    assert len(taken) == 100
    again, one = other._claim()
    assert [message.id for message in one] == [taken[0].id]  # a message that comes back is taken up alone
    late._write(claim, taken[:50])  # the lease of the others has run out, too, but nobody has taken them up
    state = State(postgres_engine)
    state.check()
    assert one[0].payload["order_id"] not in state.orders + state.failed
    assert (late.counts["written"] + late.counts["failed"], late.counts["given back"]) == (49, 50)
    other._write(again, one)
    other.work(until_empty=True)
    late._write(claim, taken)  # all of it is written by now
    assert late.counts["written"] + late.counts["failed"] == 49
    State(postgres_engine).check_finished()


def test_a_commit_without_an_answer_that_has_landed_is_not_written_again(postgres_engine, few, monkeypatch):
    example.fill(postgres_engine, has_refused=False)
    cut_off = worker(postgres_engine)
    run = cut_off._writer.run

    def unanswered(items, record):
        result = run(items, record)
        in_doubt = Abort(reason="in_doubt", message="COMMIT got no answer")
        return dataclasses.replace(result, written=0, unknown=result.written, abort=in_doubt)

    monkeypatch.setattr(cut_off._writer, "run", unanswered)
    with pytest.raises(RuntimeError, match="no answer"):
        cut_off.work()
    worker(postgres_engine).work(until_empty=True)
    state = State(postgres_engine)
    state.check(few - REFUSED)
    assert (state.failed, cut_off.counts["given back"]) == ([], 0)


def test_a_message_that_no_worker_brings_to_an_end_is_put_aside(postgres_engine):
    example.fill(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(update(messages).where(messages.c.id <= 2).values(attempts=example.MOST_ATTEMPTS))
    once = worker(postgres_engine)
    claim, taken = once._claim()
    once._write(claim, taken)
    state = State(postgres_engine)
    state.check()
    assert [(row.id, row.reason) for row in state.queue if row.state == "failed"] == [
        (1, "taken up 3 times, and never brought to an end")
    ]


def test_a_message_that_was_sent_twice_is_written_once(postgres_engine):
    example.fill(postgres_engine, has_refused=False)
    example.fill(postgres_engine, has_refused=False)
    worker(postgres_engine, most=500).work(until_empty=True)
    state = State(postgres_engine)
    assert set(state.orders) == set(state.failed) == ALL - REFUSED
    assert len(state.failed) == len(state.orders)
    assert {row.reason for row in state.queue} == {
        "a row with the same unique key exists [orders.order_id] (orders_pkey)"
    }


def test_a_message_that_cannot_be_read_fails_in_the_map_function(postgres_engine):
    example.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(insert(messages), [{"payload": {"order_id": 1}}, {"payload": []}])
    worker(postgres_engine).work(until_empty=True)
    with postgres_engine.connect() as connection:
        reasons = list(connection.scalars(select(messages.c.reason).order_by(messages.c.id)))
    assert [re.match(r"map raised \w+", reason)[0] for reason in reasons] == [
        "map raised KeyError",
        "map raised TypeError",
    ]


def test_what_is_no_messages_fault_fails_none(postgres_engine):
    example.fill(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text("DROP TABLE order_lines"))
    with pytest.raises(RuntimeError):
        worker(postgres_engine).work(until_empty=True)
    with postgres_engine.connect() as connection:
        rows = connection.execute(select(messages.c.state, messages.c.claim, func.count()).group_by("state", "claim"))
        assert rows.all() == [("waiting", None, 830)]
