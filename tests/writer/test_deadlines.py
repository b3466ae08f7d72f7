"""What watches the time of `chunk_timeout`: one thread for all chunks. See tests/ledger/test_attempts.py, too."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from batchwrite.sinks import deadline as deadlines
from batchwrite.sinks.deadline import Deadline

pytestmark = pytest.mark.xdist_group("machine")

ROOT = Path(__file__).resolve().parents[2]


class Watched:
    """What a driver's connection is to a deadline, with the other end at hand."""

    def __init__(self):
        self.own, self.other = socket.socketpair()
        self.other.settimeout(10)

    def fileno(self):
        return self.own.fileno()

    def wait_until_shut_down(self):
        assert self.other.recv(1) == b""

    def close(self):
        self.own.close()
        self.other.close()


@pytest.fixture
def watched():
    made = []

    def make():
        made.append(Watched())
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_thousand_deadlines_that_are_called_off_share_a_thread(watched, monkeypatch):
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread.name), start(thread)))
    connection = watched()
    for _ in range(1_000):
        deadline = Deadline(30)
        deadline.watch(connection)
        deadline.call_off()
        assert not deadline.has_struck
    assert set(started) <= {"batchwrite-deadlines"}
    assert len(started) < 20  # one, and another for each second that this takes


def test_each_strikes_in_its_own_time_whichever_was_set_first(watched):
    late, soon, never = Deadline(0.6), Deadline(0.2), Deadline(0.4)
    connections = [watched() for _ in range(3)]
    began = time.monotonic()
    for deadline, connection in zip((late, soon, never), connections, strict=True):
        deadline.watch(connection)
    never.call_off()
    connections[1].wait_until_shut_down()
    assert 0.1 < time.monotonic() - began < 0.6
    assert soon.has_struck
    assert not late.has_struck
    connections[0].wait_until_shut_down()
    assert time.monotonic() - began >= 0.5
    assert late.has_struck
    assert not never.has_struck


def test_one_that_takes_long_to_strike_keeps_no_other_waiting(watched):
    go_on = threading.Event()

    class Slow(Watched):
        def cancel_safe(self, *, timeout):
            assert go_on.wait(20)

    slow, quick = Slow(), watched()
    one, other = Deadline(0.1), Deadline(0.2)
    one.watch(slow)
    other.watch(quick)
    quick.wait_until_shut_down()
    go_on.set()
    slow.wait_until_shut_down()
    slow.close()


@pytest.mark.parametrize("name", ["cancel_safe", "cancel_safe_of_a_loop"])
def test_a_request_to_cancel_that_is_never_answered_delays_it_for_a_moment_only(name):
    never = threading.Event()

    class Unanswered(Watched):
        def cancel_safe(self, *, timeout):
            assert never.wait(60)

        async def cancel_safe_of_a_loop(self, *, timeout):
            await asyncio.sleep(60)

    connection = Unanswered()
    connection.cancel_safe = getattr(connection, name)
    deadline = Deadline(0.05)
    deadline.watch(connection)
    connection.wait_until_shut_down()
    never.set()
    connection.close()


def test_it_goes_on_where_the_system_has_no_more_threads(watched, monkeypatch):
    Deadline(60).call_off()
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "batchwrite-deadline":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        connection = watched()
        deadline = Deadline(0.05)
        deadline.watch(connection)
        connection.wait_until_shut_down()


def test_the_thread_ends_when_there_is_nothing_to_watch(monkeypatch):
    watch = deadlines._Watch()
    monkeypatch.setattr(deadlines, "_watch", watch)
    before = set(threading.enumerate())
    Deadline(3_600).call_off()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert watch._wakes_at is None


IN_A_FORK = """
import os, socket, sys
from batchwrite.sinks.deadline import Deadline, _watch

class Connection:
    def fileno(self): return own.fileno()

of_the_parent = Deadline(60)
_watch._has_changed.acquire()  # as another thread may have it just then
child = os.fork()
if child == 0:
    own, other = socket.socketpair()
    other.settimeout(10)
    deadline = Deadline(0.1)
    deadline.watch(Connection())
    os._exit(0 if other.recv(1) == b"" and deadline.has_struck else 1)
_watch._has_changed.release()
of_the_parent.call_off()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_in_a_process_that_was_forked_deadlines_strike_too():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", IN_A_FORK], env=environment, check=False, timeout=60)
    assert ended.returncode == 0


class Older:
    """A connection for asyncio over a libpq before version 17, which is not to be had here."""

    def __init__(self):
        self.pgconn = self
        self.asked = []

    def cancel_conn(self):
        raise NotImplementedError

    async def cancel_safe(self, *, timeout):
        self.asked.append("in a thread that Python waits for")

    def cancel(self):
        self.asked.append("here")


def test_an_older_libpq_is_asked_to_cancel_in_a_thread_that_nobody_waits_for():
    connection = Older()
    deadlines._cancel(connection)
    assert connection.asked == ["here"]
