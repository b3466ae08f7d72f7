"""One attempt to write a chunk, that goes on by itself between the moments at which somebody looks after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg import pq

from batchwrite.errors import BatchWriteError
from batchwrite.faults import Fault, FaultKind, FlushFailed
from batchwrite.sinks.dialects import NotReplicated
from batchwrite.sinks.postgresql import wire
from batchwrite.sinks.postgresql.readiness import READ, WRITE, readiness_of
from batchwrite.sinks.sql import AlreadyBooked

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg.errors import Diagnostic
    from psycopg.pq.abc import PGconn
    from sqlalchemy import Connection

    from batchwrite.sink import PendingWrite
    from batchwrite.sinks.dialects import DialectRules

# How long somebody who waits for an attempt does so before looking whether another of ours holds it up.
_SECONDS_BEFORE_A_LOOK = 0.05

_SECONDS_TO_CANCEL = 2.0

_FREE = frozenset({pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR})

_BLOCKERS = b"SELECT pg_catalog.pg_blocking_pids($1::pg_catalog.int4)"

_UNIQUE_VIOLATION = "23505"

Closing = Callable[[Sequence[tuple[int, Fault]]], Sequence[wire.Statement]]


class Attempt:
    """A transaction on a connection of its own: written first, then committed.

    Args:
        connection: The connection, in a transaction that SQLAlchemy knows of. The attempt gives it back.
        talk: Writes, and returns what was refused.
        classify: What an exception means.
        give_back: Ends the use of the connection, whatever its state.
        rules: Tells SQLAlchemy that the transaction is committed; one that is lent has no COMMIT of its own.
        commit: The COMMIT, where `talk` sends one, too.
        closing: Gives the statements to be sent with COMMIT, for what is refused; where `talk` sends one, it sends
            these, too.
        on_commit: Called when COMMIT is what the server is doing; where `talk` sends it, by that.

    Attributes:
        refused: Positions of the items left out, with the reasons; known once it is written.
        is_written: Whether all is written, or all has ended.
        has_ended: Whether there is nothing more to wait for.
    """

    def __init__(
        self,
        connection: Connection,
        talk: Generator[bool, None, Sequence[tuple[int, Fault]]],
        classify: Callable[[BaseException, Connection | None], Fault],
        give_back: Callable[[Connection], None],
        rules: DialectRules,
        commit: wire.Commit | None = None,
        closing: Closing = lambda _refused: (),
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        raw: Any = connection.connection.driver_connection
        self._raw = raw
        self._pgconn: PGconn = raw.pgconn
        self._talk: Generator[bool, None, Any] | None = talk
        self._classify = classify
        self._give_back = give_back
        self._rules = rules
        self._readiness = readiness_of(connection)
        self._failure: FlushFailed | None = None
        self._commit = commit
        self._commits_along = commit is not None
        self._closing = closing
        self._on_commit = on_commit
        self._waits_to_send = True
        self.refused: Sequence[tuple[int, Fault]] = ()
        self.is_written = False
        self.has_ended = False
        raw.add_notice_handler(self._hear)
        self._resume()

    # ---- going on

    def advance(self) -> None:
        """Do what can be done without waiting."""
        while self._talk is not None and self._is_ready(0):
            self._resume()

    def wait(self, on_delay: Callable[[PendingWrite], None]) -> None:
        """Wait until all is written.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        try:
            while not self.is_written:
                if self._is_ready(_SECONDS_BEFORE_A_LOOK):
                    self._resume()
                else:
                    on_delay(self)
        except BaseException as error:
            self._stop(error)
            if not self._is_committing:
                raise
        if self._failure is not None:
            raise self._failure

    def begin_commit(self) -> None:
        """Send COMMIT; the answer comes in its time."""
        if self._commit is not None or self._failure is not None:
            return
        if self._is_ready_to_read():
            # Nothing is to come: the server has ended the connection, and with it the transaction. Known before
            # COMMIT is sent, that is no doubt.
            self._talk = self._listen()
            self._resume()
            if self._failure is not None:
                return
        if self._rules.is_lent:
            self._leave_transaction()
            return
        try:
            closing = self._closing(self.refused)
        except Exception as error:  # noqa: BLE001 - `commit` raises what becomes of it
            self._fail(error)
            return
        self._commit = wire.Commit(self._on_commit, is_sent=not closing)
        self._talk = self._committing(closing)
        self._resume()

    def commit(self) -> None:
        """Commit.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        self.begin_commit()
        try:
            while not self.has_ended:
                if self._is_ready(None):
                    self._resume()
        except BaseException as error:  # noqa: BLE001 - raised as what becomes of it
            self._stop(error)
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """Undo it: what the server is doing is cancelled, and the connection thrown away if it is not free then.

        COMMIT is not undone: its answer is waited for a moment (see `may_have_landed`).
        """
        if self.has_ended:
            return
        if self._is_committing:
            self._listen_for_commit()
            if not self.has_ended:
                self._talk = None
                self._fail(wire.LinkError("nobody waits for the answer to COMMIT any more"), is_committed=True)
            return
        self._talk = None
        is_busy = self._is_busy()
        if is_busy:  # a statement that waits for a lock would not notice that nobody is there any more
            self._readiness.cancel(_SECONDS_TO_CANCEL)
        self._end(is_broken=is_busy)

    def blockers(self, others: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
        """Those of some others of this kind whose locks this one waits for, asked of the server by one of them."""
        asked = next((each for each in others if isinstance(each, Attempt) and each.is_idle), None)
        if asked is None:
            return []
        parameter = str(self._pgconn.backend_pid).encode()
        result = asked._pgconn.exec_params(_BLOCKERS, [parameter])  # noqa: SLF001 - another of the same class
        found = bytes(wire.first_value(result) or b"{}").decode().strip("{}")
        pids = {int(pid) for pid in found.split(",") if pid}
        return [each for each in others if isinstance(each, Attempt) and each._pgconn.backend_pid in pids]  # noqa: SLF001

    @property
    def is_committed(self) -> bool:
        """Whether COMMIT was answered, and all of it stays."""
        return self.has_ended and self._failure is None and self._is_committing

    @property
    def may_have_landed(self) -> bool:
        """Whether it is committed, or may be."""
        in_doubt = self._failure is not None and self._failure.fault.kind is FaultKind.IN_DOUBT
        return self.is_committed or in_doubt

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for the next statement."""
        return self._talk is None and not self.has_ended

    def _is_busy(self) -> bool:
        """Whether the connection is in the middle of something, and so can begin nothing else."""
        is_free = self._pgconn.transaction_status in _FREE
        return not is_free or self._pgconn.pipeline_status != pq.PipelineStatus.OFF

    def _is_ready_to_read(self) -> bool:
        return self._readiness.wait(READ, 0)

    def _listen(self) -> Generator[bool, None, Sequence[tuple[int, Fault]]]:
        wire.consume(self._pgconn)
        return self.refused
        yield  # a generator like the others

    # ---- one step

    def _is_ready(self, timeout: float | None) -> bool:
        return self._readiness.wait(READ | (WRITE if self._waits_to_send else 0), timeout)

    def _resume(self) -> None:
        assert self._talk is not None  # noqa: S101 - whoever calls this has seen it
        try:
            self._waits_to_send = next(self._talk)
        except StopIteration as done:
            self._talk = None
            if self._commit is not None and self._commit.is_warned:
                self._fail(NotReplicated())
            elif self._commit is not None:
                self._leave_transaction()
            else:
                self.refused = done.value
                self.is_written = True
        except BaseException as error:
            self._talk = None
            self._fail(error)
            if not isinstance(error, Exception) and not self._is_committing:
                raise

    def _stop(self, error: BaseException) -> None:
        """Whoever waited was interrupted: with COMMIT on its way that leaves a doubt, else all is undone."""
        if self._is_committing and self._commits_along:
            self._listen_for_commit()
        if not self.has_ended:
            self._talk = None
            self._fail(error)

    def _listen_for_commit(self) -> None:
        """Listen for a while what becomes of COMMIT: mostly that settles a doubt.

        What the server does before COMMIT is cancelled, and COMMIT itself never: cancelled while it waits for a
        synchronous standby, it would keep what a failover loses.
        """
        self.advance()
        if self.has_ended:
            return
        if self._commit is not None and not self._commit.is_running:
            self._readiness.cancel(_SECONDS_TO_CANCEL)
        deadline = time.monotonic() + _SECONDS_TO_CANCEL
        while not self.has_ended and time.monotonic() < deadline:
            if self._is_ready(deadline - time.monotonic()):
                self._resume()

    def _leave_transaction(self) -> None:
        """Tell SQLAlchemy, and whoever listens there, that the transaction is committed."""
        try:
            self._rules.commit(self._connection)
        except BaseException as error:  # noqa: BLE001 - `commit` raises what becomes of it
            self._fail(error, is_committed=True)
        else:
            self._end()

    def _fail(self, error: BaseException, *, is_committed: bool = False) -> None:
        fault = self._classify(error, self._connection)
        is_lost = fault.kind is FaultKind.LOST or not isinstance(error, Exception) or is_committed
        if isinstance(error, NotReplicated):
            self._rules.note_doubt()
            fault = replace(fault, kind=FaultKind.IN_DOUBT, at_commit=True)
        elif self._is_committing:
            fault = replace(fault, at_commit=not self._commits_along)
            if is_lost:
                self._rules.note_doubt()
                doubt = "COMMIT got no answer: the chunk may have been written or not"
                fault = replace(fault, kind=FaultKind.IN_DOUBT, message=doubt)
        self._failure = FlushFailed(fault)
        self._failure.__cause__ = error
        self._end(is_broken=is_lost or self._is_busy())

    @property
    def _is_committing(self) -> bool:
        """Whether COMMIT may have reached the server."""
        return self._commit is not None and self._commit.is_sent

    def _committing(self, closing: Sequence[wire.Statement]) -> Generator[bool, None, None]:
        status = pq.TransactionStatus(self._pgconn.transaction_status)
        if status != pq.TransactionStatus.INTRANS:
            raise BatchWriteError(f"the transaction is {status.name} where it should be ready to be committed")
        assert self._commit is not None  # noqa: S101 - whoever makes this has made it
        if not closing:
            self._commit.begin()
            try:
                yield from wire.commit(self._pgconn, self._raw.info.encoding)
            except wire.StatementFailed as error:
                raise error.__cause__ or error from None
            return
        try:
            results = yield from wire.pipeline(self._pgconn, closing, self._raw.info.encoding, self._commit)
        except wire.StatementFailed as error:
            raise (not_booked(error) if error.number < len(closing) else error.__cause__ or error) from None
        wire.require_committed(results[-1])

    def _hear(self, notice: Diagnostic) -> None:
        if self._commit is not None:
            self._commit.hear(notice)

    def _end(self, *, is_broken: bool = False) -> None:
        self.is_written = self.has_ended = True
        self._raw.remove_notice_handler(self._hear)
        self._readiness.close()
        if is_broken:
            self._connection.invalidate()
        self._give_back(self._connection)


class FailedAttempt:
    """An attempt that could not even begin: an attempt like others, whose failure comes out in its turn.

    Args:
        failure: What it has failed for.
    """

    refused: Sequence[tuple[int, Fault]] = ()
    is_written = True
    has_ended = True
    is_committed = False
    may_have_landed = False

    def __init__(self, failure: FlushFailed) -> None:
        self._failure = failure

    def advance(self) -> None:
        """Nothing."""

    def wait(self, on_delay: Callable[[PendingWrite], None]) -> None:  # noqa: ARG002 - the protocol's
        """Raise what it has failed for.

        Raises:
            FlushFailed: Always.
        """
        raise self._failure

    def begin_commit(self) -> None:
        """Nothing."""

    def commit(self) -> None:
        """As `wait`.

        Raises:
            FlushFailed: Always.
        """
        raise self._failure

    def abandon(self) -> None:
        """Nothing."""

    def blockers(self, others: Sequence[PendingWrite]) -> Sequence[PendingWrite]:  # noqa: ARG002 - the protocol's
        """None."""
        return []


def not_booked(error: wire.StatementFailed) -> Exception:
    """What it means that a statement of the books was refused."""
    if getattr(error.__cause__, "sqlstate", None) == _UNIQUE_VIOLATION:
        return AlreadyBooked()
    cause = error.__cause__
    return cause if isinstance(cause, Exception) else error
