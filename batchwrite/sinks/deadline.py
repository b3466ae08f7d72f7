"""A bound on the time that a connection may keep its caller waiting, whatever the server does or does not answer.

No timeout of the server helps where its answer is lost on the way, and drivers wait for ever. So the socket itself is
shut down from another thread: whoever waits for it is told at once that the connection is lost.

One thread watches the time of all deadlines. One for each would take about as long to start as a chunk of a few rows
takes to be written.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS_TO_CANCEL = 1.0
_SECONDS_TO_ANSWER = 0.2
# The thread that watches stays no longer than this when there is nothing to watch; it starts at most so often.
_SECONDS_IDLE = 1.0

_log = logging.getLogger("batchwrite")


class _Watch:
    """Lets deadlines strike when their time has come. Its thread looks now and then whether there are any left."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a process that was forked has to: it has not the thread, and maybe the lock."""
        self._has_changed = threading.Condition(threading.Lock())
        self._times: dict[Deadline, float] = {}
        self._wakes_at: float | None = None  # while there is a thread

    def add(self, deadline: Deadline, seconds: float) -> None:
        """Let a deadline strike in so many seconds."""
        now = time.monotonic()
        moment = now + seconds
        with self._has_changed:
            if self._wakes_at is None:
                threading.Thread(target=self._work, name="batchwrite-deadlines", daemon=True).start()
                self._wakes_at = min(moment, now + _SECONDS_IDLE)
            elif moment < self._wakes_at:  # mostly it is not: nobody has to be woken
                self._wakes_at = moment
                self._has_changed.notify()
            self._times[deadline] = moment

    def remove(self, deadline: Deadline) -> None:
        """Do not let it strike, if that is not too late."""
        with self._has_changed:
            self._times.pop(deadline, None)

    def _work(self) -> None:
        while due := self._wait():
            for deadline in due:
                # It asks the server, which may take a second: others are not to wait for that.
                striker = threading.Thread(target=deadline.strike, name="batchwrite-deadline", daemon=True)
                try:
                    striker.start()
                except RuntimeError:  # the system has no more threads
                    deadline.strike()

    def _wait(self) -> list[Deadline]:
        """Wait for deadlines whose time has come; none where nobody has one any more."""
        with self._has_changed:
            while self._times:
                now = time.monotonic()
                if due := [deadline for deadline, moment in self._times.items() if moment <= now]:
                    for deadline in due:
                        del self._times[deadline]
                    return due
                self._wakes_at = min(now + _SECONDS_IDLE, *self._times.values())
                self._has_changed.wait(self._wakes_at - now)
            self._wakes_at = None
        return []


_watch = _Watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.reset)


class Deadline:
    """Shuts connections down unless it is called off in time, which begins with the object.

    Args:
        seconds: The time; `None` for no bound.

    Attributes:
        has_struck: Whether the time has passed for a connection that is watched.
    """

    def __init__(self, seconds: float | None) -> None:
        self.has_struck = False
        self._seconds = seconds
        self._connection: Any = None
        self._socket: socket.socket | None = None
        self._is_over = False
        self._lock = threading.Lock()  # between those who wait and the one that strikes
        self._called_off = threading.Event()
        self._may_cancel = True
        self._is_set = seconds is not None
        if seconds is not None:
            _watch.add(self, seconds)

    def watch(self, connection: Any) -> None:
        """Be the deadline of this driver's connection, and no more of another."""
        connection = getattr(connection, "driver_connection", connection)  # what an event loop's is wrapped around
        number = _socket_number(connection) if self._is_set else None
        with self._lock:
            if self._socket is not None and not self.has_struck:
                self._socket.close()
            self._connection, self._socket = connection, None
            if number is not None:
                # A socket object of its own, so that the number cannot mean another connection by then.
                self._socket = socket.socket(fileno=os.dup(number))
            if self._is_over and self._socket is not None:
                self.has_struck = True
                _shut_down(self._socket)

    def spare_commit(self) -> None:
        """COMMIT is on its way: from now on only the connection is shut down.

        Cancelled, a COMMIT that waits for a synchronous standby succeeds all the same, and a failover undoes it.
        """
        self._may_cancel = False

    def strike(self) -> None:
        """The time has passed: shut down the connection that is watched; for the one who watches the time."""
        with self._lock:
            self._is_over = True
            connection, own = self._connection, self._socket
            if own is None:
                return
            self.has_struck = True
        _log.warning(
            "a chunk has taken longer than %g seconds (chunk_timeout): its connection is shut down",
            self._seconds,
            extra={"action": "timeout"},
        )
        if self._may_cancel and hasattr(connection, "cancel_safe"):
            # A statement that waits for a lock would notice nothing by itself.
            with suppress(Exception):
                _cancel(connection)
            self._called_off.wait(_SECONDS_TO_ANSWER)  # an answer, even now, leaves less in doubt than none
        if self._called_off.is_set():
            own.close()
        else:
            _shut_down(own)

    def call_off(self) -> None:
        """Leave the connection alone from now on; once it `has_struck`, nobody may use it any more."""
        if not self._is_set:
            return
        self._called_off.set()
        _watch.remove(self)
        self._is_set = False
        with self._lock:
            if self._socket is not None and not self.has_struck:
                self._socket.close()
                self._socket = None


def _cancel(connection: Any) -> None:
    """Have the server cancel what it does for a connection of psycopg's.

    A thread of its own, because before version 17 libpq knows no timeout: where no answer comes, it waits for ever.
    """
    canceller = threading.Thread(target=_ask_to_cancel, args=(connection,), name="batchwrite-cancel", daemon=True)
    canceller.start()
    canceller.join(_SECONDS_TO_CANCEL)


def _ask_to_cancel(connection: Any) -> None:
    with suppress(Exception):
        if inspect.iscoroutinefunction(connection.cancel_safe) and not _knows_timeouts(connection):
            connection.cancel()  # as `cancel_safe` would, but in a thread of its own, for which Python waits at its end
            return
        asked = connection.cancel_safe(timeout=_SECONDS_TO_CANCEL)
        if inspect.iscoroutine(asked):  # not in the loop that the connection is of: it may be kept waiting
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(asked)


def _knows_timeouts(connection: Any) -> bool:
    """Whether a connection's libpq can ask to cancel without waiting: from version 17 on."""
    try:
        connection.pgconn.cancel_conn().finish()
    except Exception:  # noqa: BLE001 - psycopg's own, which is not imported here
        return False
    return True


def _shut_down(own: socket.socket) -> None:
    with suppress(OSError):
        own.shutdown(socket.SHUT_RDWR)
    own.close()


# Of a task's own, too, where an event loop has several.
_awaited: ContextVar[Deadline | None] = ContextVar("batchwrite_deadline", default=None)


@contextmanager
def watching_new_connections(deadline: Deadline) -> Iterator[None]:
    """Let a deadline watch what is connected to here meanwhile: SQLAlchemy asks a new connection several things."""
    before = _awaited.set(deadline)
    try:
        yield
    finally:
        _awaited.reset(before)


def watch_new_connection(connection: Any, _record: object) -> None:
    """To be told of each new connection of a pool, before anything is asked of it."""
    deadline = _awaited.get()
    if deadline is not None:
        deadline.watch(connection)


def _socket_number(connection: Any) -> int | None:
    """The descriptor of a connection's socket: psycopg and psycopg2 tell it, others have the socket itself."""
    owner = connection if hasattr(connection, "fileno") else getattr(connection, "_sock", None)  # PyMySQL
    if owner is None and hasattr(connection, "_writer"):  # aiomysql
        owner = connection._writer.get_extra_info("socket")  # noqa: SLF001 - there is no other way to it
    fileno = getattr(owner, "fileno", None)
    return fileno() if callable(fileno) else None
