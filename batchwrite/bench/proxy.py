"""A TCP proxy that makes a database as far away as one likes, and counts the round trips to it.

It runs in a process of its own, so that it does not share the interpreter lock with what is being measured. What it
adds is latency, not a bound of throughput: each piece of data is passed on a fixed time after it came, however many
are on their way.
"""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

Target = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

_PIECE = 64 * 1024
# Pieces on their way in one direction: 64 MiB, more than a local server can send within any delay of interest.
_MOST_PIECES = 1_024


class DelayProxy:
    """A port on the loopback interface that leads to a target, late.

    Use it as a context manager. The process behind it ends with the block, or with the process that started it.

    Args:
        target: Where to.
        seconds: How long everything takes, in each direction; at least 0.

    Attributes:
        port: Where it listens, on 127.0.0.1; known inside the block.
    """

    def __init__(self, target: Target, seconds: float) -> None:
        self._settings = json.dumps({"target": target, "seconds": seconds}) + "\n"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, "-I", __file__],  # the standard library is all that it needs
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for those who measure; they end this one
        )
        try:
            self.port = int(self._ask(self._settings))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def round_trips(self) -> int:
        """How often a client has spoken after it was answered, of all connections so far; 1 for its first words.

        An answer counts from when it is handed to the client: what was sent before that did not wait for it.
        """
        return int(self._ask("\n"))

    def _ask(self, line: str) -> str:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the proxy is not running")
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline()


class _Counter:
    """Round trips of all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self) -> None:
        with self._lock:
            self.count += 1


class _Connection:
    """One client's connection, passed on in both directions by two threads each: one takes in, one hands out."""

    def __init__(self, client: socket.socket, server: socket.socket, seconds: float, trips: _Counter) -> None:
        self._seconds = seconds
        self._trips = trips
        self._was_answered = True
        for source, target, taken, handed in (
            (client, server, self._note_question, _nothing),
            (server, client, _nothing, self._note_answer),
        ):
            pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(_MOST_PIECES)
            threading.Thread(target=self._take_in, args=(source, pieces, taken), daemon=True).start()
            threading.Thread(target=self._hand_out, args=(pieces, target, handed), daemon=True).start()

    def _note_question(self) -> None:
        if self._was_answered:
            self._was_answered = False
            self._trips.add()

    def _note_answer(self) -> None:
        self._was_answered = True

    def _take_in(
        self, source: socket.socket, pieces: queue.Queue[tuple[float, bytes]], taken: Callable[[], None]
    ) -> None:
        while True:
            try:
                data = source.recv(_PIECE)
            except OSError:
                data = b""
            if data:
                taken()
            pieces.put((time.monotonic() + self._seconds, data))
            if not data:
                return

    def _hand_out(
        self, pieces: queue.Queue[tuple[float, bytes]], target: socket.socket, handed: Callable[[], None]
    ) -> None:
        while True:
            due, data = pieces.get()
            # Threads that sleep are punctual to some 60 us; an event loop's timers round up to milliseconds.
            if (rest := due - time.monotonic()) > 0:
                time.sleep(rest)
            # Where the other side is gone, what still comes is taken and dropped, so that nobody waits for us.
            with suppress(OSError):
                if data:
                    handed()  # before: the client may speak again before we come to it
                    target.sendall(data)
                else:
                    target.shutdown(socket.SHUT_WR)
            if not data:
                return


def _nothing() -> None:
    pass


def _connected(target: Target) -> socket.socket:
    if isinstance(target, str):
        server = socket.socket(socket.AF_UNIX)
        server.connect(target)
        return server
    server = socket.create_connection(target)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def _serve(listener: socket.socket, target: Target, seconds: float, trips: _Counter) -> NoReturn:
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server = _connected(target)
        except OSError:
            client.close()
        else:
            _Connection(client, server, seconds, trips)


def _main() -> None:
    """Listen; print the port, and then the number of round trips for every line of input, to its end."""
    settings = json.loads(sys.stdin.readline())
    target = settings["target"] if isinstance(settings["target"], str) else tuple(settings["target"])
    trips = _Counter()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener, target, settings["seconds"], trips)
        threading.Thread(target=_serve, args=arguments, daemon=True).start()
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - the protocol with the parent
        for _ in sys.stdin:
            print(trips.count, flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
