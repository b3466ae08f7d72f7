"""A bound on the time that a connection may keep its caller waiting, whatever the server does or does not answer.

No timeout of the server helps where its answer is lost on the way, and drivers wait for ever. So the socket itself is
shut down from another thread: whoever waits for it is told at once that the connection is lost.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import Any

_SECONDS_TO_CANCEL = 1.0
_SECONDS_TO_ANSWER = 0.2

_log = logging.getLogger("batchwrite")


class Deadline:
    """Shuts a connection down unless it is called off in time.

    Args:
        connection: The driver's connection.
        seconds: The time; `None` for no bound.

    Attributes:
        has_struck: Whether the time has passed.
    """

    def __init__(self, connection: Any, seconds: float | None) -> None:
        self.has_struck = False
        self._connection = connection
        self._timer: threading.Timer | None = None
        number = _socket_number(connection) if seconds is not None else None
        if number is None or seconds is None:
            return
        # A socket object of its own, so that the number cannot mean another connection by then.
        self._socket = socket.socket(fileno=os.dup(number))
        self._seconds = seconds
        self._called_off = threading.Event()
        self._timer = threading.Timer(seconds, self._strike)
        self._timer.daemon = True
        self._timer.start()

    def _strike(self) -> None:
        self.has_struck = True
        _log.warning(
            "a chunk has taken longer than %g seconds (chunk_timeout): its connection is shut down",
            self._seconds,
            extra={"action": "timeout"},
        )
        cancel = getattr(self._connection, "cancel_safe", None)
        if cancel is not None:  # a statement that waits for a lock would not notice that nobody is there any more
            with suppress(Exception):
                cancel(timeout=_SECONDS_TO_CANCEL)
            self._called_off.wait(_SECONDS_TO_ANSWER)  # an answer, even now, leaves less in doubt than none
        if not self._called_off.is_set():
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def call_off(self) -> None:
        """Leave the connection alone from now on; once it `has_struck`, nobody may use it any more."""
        if self._timer is not None:
            self._called_off.set()
            self._timer.cancel()
            if not self.has_struck:
                self._socket.close()
            self._timer = None


def _socket_number(connection: Any) -> int | None:
    """The descriptor of a connection's socket: psycopg and psycopg2 tell it, PyMySQL has the socket itself."""
    owner = connection if hasattr(connection, "fileno") else getattr(connection, "_sock", None)
    fileno = getattr(owner, "fileno", None)
    return fileno() if callable(fileno) else None
