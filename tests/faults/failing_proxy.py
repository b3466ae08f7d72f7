"""A proxy before a PostgreSQL server that fails at a statement of one's choice, in one of six ways.

It passes on whole batches: what a client sends until it waits. So it knows what is being sent and what has been
answered, and a fault strikes at one place between the two, always at the same.
"""

import itertools
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from messages import (
    CANCEL_REQUEST,
    COPY_FAIL,
    STARTUP,
    TERMINATE,
    Batch,
    Frames,
    Message,
    ends_batch,
    query,
    refusal,
)

_PIECE = 64 * 1024


class Kind(StrEnum):
    """What goes wrong at a statement, all before it having been carried out and answered."""

    KILLED = "the backend is killed"
    SERIALIZATION = "40001"
    DEADLOCK = "40P01"
    CUT_BEFORE = "cut before the server gets it"
    CUT_AFTER = "cut after the server has answered it"
    SWALLOWED = "the answer never comes"


class Place(NamedTuple):
    """A statement that is sent: its text, and how often the same was sent before."""

    statement: str
    before: int


class Strike(NamedTuple):
    """A fault that has struck.

    Attributes:
        place: Where.
        kind: What.
        may_leave_doubt: Whether a COMMIT was in the same batch, at that place or behind it.
    """

    place: Place
    kind: Kind
    may_leave_doubt: bool


class _Gone(Exception):
    """One of the two ends is there no more."""


class FailingProxy:
    """A port on the loopback interface that leads to a server, and fails as planned.

    Args:
        target: Host and port of the server.
        kill: Ends the backend with a process id, and returns when it has ended.
        link: What serves one client's connection.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        sent: The places that were come to, in order, since `plan`.
        seen: All statements that were sent, those after one that was refused included.
        struck: The faults that have struck.
    """

    def __init__(self, target: tuple[str, int], kill: Callable[[int], None], link: "type[Link] | None" = None):
        self._link = link or Link
        self.target = target
        self.kill = kill
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: list[Link] = []
        self._lock = threading.Lock()
        self.plan({})
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def plan(self, faults: Mapping[Place, Kind]) -> None:
        """Forget what has been, and fail at these places from now on."""
        with self._lock:
            self._faults = dict(faults)
            self._counts: Counter[str] = Counter()
            self.sent: list[Place] = []
            self.seen: list[str] = []
            self.struck: list[Strike] = []

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would wait on, and the port stay open
        self._accepting.join()
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Cut all connections."""
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            link = self._link(self, client, server)
            self._links = [*(each for each in self._links if each.is_open), link]
            threading.Thread(target=link.serve, daemon=True).start()

    def first_fault(self, batch: Batch) -> tuple[int, Kind] | None:
        """The first statement of a batch at which something is to go wrong, and what."""
        with self._lock:
            counts = self._counts.copy()
            for number, label in enumerate(batch.labels):
                place = Place(label, counts[label])
                if place in self._faults:
                    kind = self._faults.pop(place)
                    self.struck.append(Strike(place, kind, "COMMIT" in batch.labels[number:]))
                    self._note(batch, number + 1)
                    return number, kind
                counts[label] += 1
        return None

    def note(self, batch: Batch, executed: int) -> None:
        """Take down what was sent, and how much of it the server came to."""
        with self._lock:
            self._note(batch, executed)

    def _note(self, batch: Batch, executed: int) -> None:
        self.seen += batch.labels
        for label in batch.labels[:executed]:
            self.sent.append(Place(label, self._counts[label]))
            self._counts[label] += 1


class Link:
    """One client's connection; one thread serves both directions, in turn."""

    def __init__(self, proxy: FailingProxy, client: socket.socket, server: socket.socket):
        self._proxy = proxy
        self._client, self._server = client, server
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._questions = Frames(has_startup=True)
        self._answers = Frames(has_startup=False)
        self._prepared: dict[str, str] = {}
        self._pid: int | None = None
        self.is_open = True

    def close(self) -> None:
        """End both connections: whoever waits for them is told."""
        self.is_open = False
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def serve(self) -> None:
        try:
            while True:
                self._pass_on(self._next_batch())
        except (_Gone, OSError, ValueError):
            pass
        finally:
            self.close()

    def _next_batch(self) -> Batch:
        """The next batch, while what a server says unasked is passed on."""
        messages: list[Message] = []
        while True:
            message = self._questions.take()
            if message is None:
                self._hear(idle=True)
                continue
            if message.kind == TERMINATE or (message.kind == STARTUP and message.number == CANCEL_REQUEST):
                self._server.sendall(message.raw)
                with suppress(OSError):
                    self._server.recv(1)  # to its end
                raise _Gone
            messages.append(message)
            if ends_batch(message):
                return Batch(messages, self._prepared)

    def _hear(self, *, idle: bool) -> None:
        """Wait for one of the two, and take in what it says."""
        readable, _, _ = select.select([self._client, self._server], [], [])
        for each, frames in ((self._client, self._questions), (self._server, self._answers)):
            if each in readable:
                data = each.recv(_PIECE)
                frames.feed(data)
                if idle and each is self._server:
                    self._tell(self._rest())
                if not data:
                    raise _Gone

    def _rest(self) -> list[Message]:
        return list(iter(self._answers.take, None))

    def _tell(self, messages: list[Message]) -> None:
        self._client.sendall(b"".join(message.raw for message in messages))

    def _ask(self, raw: bytes) -> list[Message]:
        """What the server answers."""
        self._server.sendall(raw)
        answer: list[Message] = []
        while True:
            message = self._answers.take()
            if message is None:
                try:
                    self._hear(idle=False)
                except _Gone:
                    self._tell(answer + self._rest())
                    raise
                continue
            if message.kind == b"K":
                self._pid = message.number
            answer.append(message)
            if message.ends_answer:
                return answer

    def _pass_on(self, batch: Batch) -> None:
        fault = self._proxy.first_fault(batch)
        if fault is None:
            answer = self._ask(batch.raw())
            self._proxy.note(batch, batch.executed(answer))
            self._tell(answer)
            return
        number, kind = fault
        if number:
            before = self._ask(batch.raw(0, number))
            self._tell(before[:-1])  # ReadyForQuery is for the end of it all
        if kind in {Kind.SERIALIZATION, Kind.DEADLOCK}:
            self._refuse(batch, number, str(kind))
        elif kind is Kind.KILLED:
            self._kill()
        elif kind is Kind.CUT_BEFORE:
            raise _Gone
        elif kind is Kind.CUT_AFTER:
            self._ask(batch.raw(number, number + 1))
            raise _Gone
        else:
            self._ask(batch.raw(number))
            while True:  # until the client has had enough
                self._hear(idle=False)

    def _kill(self) -> None:
        if self._pid is None:  # not yet known by a number that anybody could name
            self._tell([refusal("57P01", "FATAL")])
            raise _Gone
        self._proxy.kill(self._pid)
        while True:  # its last words, to the end
            self._hear(idle=True)

    def _refuse(self, batch: Batch, number: int, code: str) -> None:
        """Refuse a statement, and leave the server in the state in which it would have refused it."""
        if batch.kind in {STARTUP, b"p"}:
            self._tell([refusal(code, "FATAL")])
            raise _Gone
        if batch.kind == b"c":
            answer = self._ask(COPY_FAIL.raw)
        else:
            if batch.labels[number] == "COMMIT":
                self._ask(query("ROLLBACK").raw)
            planted = f"DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$"
            answer = self._ask(query(planted).raw)
        self._tell([refusal(code), answer[-1]])


def places_behind(places: list[Place], start: Place) -> list[Place]:
    """The places that were come to after one of them."""
    return list(itertools.dropwhile(lambda place: place != start, places))[1:]
