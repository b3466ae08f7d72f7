"""PostgreSQL's messages, as far as a proxy must understand them to tell one statement from the next.

Source: PostgreSQL manual, "Frontend/Backend Protocol": message formats, and message flow.
"""

import re
import struct
from typing import NamedTuple

STARTUP = b""  # the one message that has no letter
CANCEL_REQUEST = 80877102

# After one of these a client waits for an answer (or has ended).
_ENDS_OF_A_BATCH = frozenset({STARTUP, b"Q", b"S", b"c", b"f", b"p"})
TERMINATE = b"X"

# What asks a client for more, and so ends an answer, by the code in an authentication message.
_AUTHENTICATION_QUESTIONS = frozenset({3, 5, 10, 11})


class Message(NamedTuple):
    """One message: its letter, and what comes behind its length."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body

    @property
    def number(self) -> int:
        """The number at the beginning of the body."""
        return int(struct.unpack_from("!I", self.body)[0])

    @property
    def texts(self) -> list[str]:
        """The body as texts that end in NUL."""
        return [text.decode(errors="replace") for text in self.body.split(b"\0")]

    @property
    def ends_answer(self) -> bool:
        """Whether the client speaks next."""
        return self.kind in {b"Z", b"G"} or (self.kind == b"R" and self.number in _AUTHENTICATION_QUESTIONS)


class Frames:
    """Cuts a stream of bytes into messages.

    Args:
        has_startup: Whether the first has no letter, as a client's has not.
    """

    def __init__(self, *, has_startup: bool):
        self._buffer = bytearray()
        self._has_startup = has_startup

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> Message | None:
        """The next message, once all of it is there."""
        start = 0 if self._has_startup else 1
        if len(self._buffer) < start + 4:
            return None
        end = start + struct.unpack_from("!I", self._buffer, start)[0]
        if len(self._buffer) < end:
            return None
        message = Message(bytes(self._buffer[:start]), bytes(self._buffer[start + 4 : end]))
        del self._buffer[:end]
        self._has_startup = False
        return message


def query(sql: str) -> Message:
    return Message(b"Q", sql.encode() + b"\0")


SYNC = Message(b"S", b"")
COPY_FAIL = Message(b"f", b"planted\0")


def refusal(code: str, severity: str = "ERROR") -> Message:
    """An ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": code, "M": "planted"}
    return Message(b"E", b"".join(f"{letter}{text}\0".encode() for letter, text in fields.items()) + b"\0")


class Batch:
    """What a client sends before it waits, cut into statements.

    Attributes:
        statements: The messages of each statement, in order; a Sync behind them belongs to none.
        labels: What each statement is.
    """

    def __init__(self, messages: list[Message], prepared: dict[str, str]):
        self.is_extended = messages[-1].kind == b"S"
        self.statements: list[list[Message]] = [[]]
        for message in messages[:-1] if self.is_extended else messages:
            self.statements[-1].append(message)
            if self.is_extended and message.kind == b"E":
                self.statements.append([])
        if not self.statements[-1] and len(self.statements) > 1:
            self.statements.pop()
        self.labels = [_label(statement, prepared) for statement in self.statements]

    @property
    def kind(self) -> bytes:
        """The letter of its last message."""
        return b"S" if self.is_extended else self.statements[-1][-1].kind

    def raw(self, start: int = 0, stop: int | None = None) -> bytes:
        """Statements as they are sent, those before `stop` with a Sync of their own."""
        data = b"".join(message.raw for statement in self.statements[start:stop] for message in statement)
        return data + (SYNC.raw if self.is_extended else b"")

    def executed(self, answer: list[Message]) -> int:
        """Number of statements that the server has come to, the one that it refused included."""
        if not self.is_extended:
            return 1
        done = 0
        for message in answer:
            if message.kind in {b"C", b"I"}:
                done += 1
            elif message.kind == b"E":
                return min(done + 1, len(self.statements))
        return len(self.statements)


def ends_batch(message: Message) -> bool:
    return message.kind in _ENDS_OF_A_BATCH


def _label(messages: list[Message], prepared: dict[str, str]) -> str:
    """A statement's text; what has none is called by what it is."""
    for message in messages:  # a Flush, say, may stand before the first that tells
        if message.kind == b"Q":
            return as_label(message.texts[0])
        if message.kind == b"P":
            prepared[message.texts[0]] = message.texts[1]
            return as_label(message.texts[1])
        if message.kind == b"B":
            return as_label(prepared.get(message.texts[1], message.texts[1]))
    named = {STARTUP: "(startup)", b"p": "(password)", b"c": "(copy data)", b"f": "(copy fail)"}
    last = messages[-1].kind if messages else b"S"
    return named.get(last, f"({last.decode()})")


def as_label(sql: str) -> str:
    """A statement on one line; savepoints and tables have no numbers there, so that one is like the other."""
    without_savepoints = re.sub(r"\b(sa_savepoint)_\d+", r"\1", " ".join(sql.split()))
    return re.sub(r"\b\d+(::pg_catalog\.oid)", r"?\1", without_savepoints)
