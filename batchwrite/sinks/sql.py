"""The sink for any SQLAlchemy dialect: a chunk is one transaction, an item of a fallback one savepoint."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import SingletonThreadPool

from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.faults import Fault, FaultKind, FlushFailed, classify, secrets_in
from batchwrite.plan import Step
from batchwrite.planner import make_plan
from batchwrite.sinks.deadline import Deadline, watch_new_connection, watching_new_connections
from batchwrite.sinks.dialects import NotReplicated
from batchwrite.sinks.groups import Groups
from batchwrite.sinks.options import SinkOptions
from batchwrite.sinks.qualified import equals
from batchwrite.sinks.said import said_of
from batchwrite.sinks.statements import Statements
from batchwrite.sinks.tables import SqlCatalog
from batchwrite.suspects import find_suspects, split_at
from batchwrite.write import Kind, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection, Engine, Select, Table

    from batchwrite.ledger import Books
    from batchwrite.sink import PendingWrite
    from batchwrite.sinks.dialects import DialectRules
    from batchwrite.sinks.ledger import Ledger
    from batchwrite.sinks.lent import Lender
    from batchwrite.table import TableInfo

Answer = TypeVar("Answer")

_log = logging.getLogger("batchwrite")

# Of groups of so many items times the share of bad ones, about half are clean: ln 2.
_CLEAN_HALF = 0.7

# What needs the right to UPDATE, as locking a row does.
_CHANGES = frozenset({Kind.UPSERT, Kind.UPDATE, Kind.INCREMENT})


_UNDOES_ALL = (
    "the database has undone the whole transaction, with what its owner had written in it before: a constraint or a "
    "trigger says ROLLBACK where it refuses a row"
)


class FailedAt(Exception):
    """An exception, and the table that was being written."""

    def __init__(self, table: TableInfo) -> None:
        super().__init__(table.name)
        self.table = table


class _UndoneByDatabase(Exception):
    """The database has undone the whole transaction by itself, because of one statement."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class AlreadyBooked(Exception):
    """What is to be committed with a chunk stands in the way of itself."""


class AnotherWay(Exception):
    """The chunk is to be written in another way, at once: by what a table is now, or by other statements."""


class SqlSink(SqlCatalog):
    """Writes chunks through SQLAlchemy.

    Args:
        engine: The database.
        rules: What it does otherwise than others.
        owns_engine: Whether `close` disposes of the engine.
        options: The writer's.
        lender: Whose transaction it is, where it is somebody else's; the rules are for that, then.
    """

    def __init__(
        self,
        engine: Engine,
        rules: DialectRules,
        *,
        owns_engine: bool = False,
        options: SinkOptions | None = None,
        lender: Lender | None = None,
    ) -> None:
        self._rules = rules
        super().__init__(
            text_is_exact=rules.text_is_exact,
            folds_texts=rules.folds_texts,
            keeps_sqlite_order=rules.keeps_sqlite_order,
            constraint_name=rules.constraint_name,
        )
        self._engine = engine
        self._owns_engine = owns_engine
        self._lender = lender
        self._options = options or SinkOptions()
        is_bounded = self._options.chunk_timeout is not None
        if is_bounded and not event.contains(engine, "connect", watch_new_connection):
            event.listen(engine, "connect", watch_new_connection, insert=True)
        self._deadlines: dict[Connection, Deadline] = {}
        self._secrets = secrets_in(engine.url)
        self._statements = Statements(self._rules, self._options.listeners, said_of(engine, owns_engine=owns_engine))
        self.is_failing = False  # whether the last chunk held a bad item
        self._has_lost = False  # whether a connection was lost, so that others of the pool may be dead, too
        self._surprises = 0.0  # share of the last fallback's items that were refused and not suspected

    @property
    def is_bound_to_threads(self) -> bool:
        """Whether another thread would see another database."""
        return isinstance(self._engine.pool, SingletonThreadPool)

    @property
    def is_transactional(self) -> bool:
        """Yes."""
        return True

    @property
    def is_lent(self) -> bool:
        """Whether it writes in somebody else's transaction."""
        return self._rules.is_lent

    def close(self) -> None:
        """Dispose of the engine, if it is the sink's own."""
        if self._owns_engine:
            self._engine.dispose()

    def begin(
        self,
        items: Sequence[Sequence[Write]],  # noqa: ARG002 - the protocol's
        others: Sequence[PendingWrite],  # noqa: ARG002
        *,
        may_commit: bool,  # noqa: ARG002
        books: Books | None = None,  # noqa: ARG002
    ) -> PendingWrite | None:
        """Nothing: a statement that SQLAlchemy executes is waited for."""
        return None

    def write(self, items: Sequence[Sequence[Write]], books: Books | None = None) -> Sequence[tuple[int, Fault]]:
        """Write all items or none, as few statements.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        if self.is_failing and find_suspects(items):
            # The chunk before has failed, and this one would: do not send it in vain.
            text = "items of the chunk repeat a unique key, or leave out a value"
            raise FlushFailed(classify(ItemRefused(text)), is_expected=True)
        with self._transaction() as connection:
            refusal = self._rules.no_bulk_because(connection)
            if refusal:
                raise ItemRefused(refusal)
            self._rules.before_bulk(connection)
            self._lock(connection, items, only_if_several=True)
            self._carry_out(connection, items)
            self._keep_books(connection, books, ())
        self.is_failing = False
        return ()

    def write_each(
        self, items: Sequence[Sequence[Write]], refuse: Callable[[int, Fault], int], books: Books | None = None
    ) -> None:
        """Write the items in order, each whole or not at all, in one transaction.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        # Suspects by themselves, those between them in groups, and a group that fails in ever smaller halves, so that
        # good items cost little. In order, whatever the group: an item is written when all before it are decided, so
        # that the earlier of two that exclude each other wins.
        suspects = find_suspects(items)
        groups = Groups(split_at(suspects, len(items), self._group_size(len(items), bool(suspects))))
        is_written = False
        while not is_written:
            try:
                with self._transaction() as connection:
                    self._write_groups(connection, items, groups, refuse)
                    self._keep_books(connection, books, list(groups.refused.items()))
                is_written = True
            except FlushFailed as error:
                if not isinstance(error.__cause__, _UndoneByDatabase) or self.is_lent:
                    raise
                groups.begin_again()
        self._surprises = len(groups.refused.keys() - suspects) / max(1, len(items))
        self.is_failing = bool(groups.refused)

    def _write_groups(
        self,
        connection: Connection,
        items: Sequence[Sequence[Write]],
        groups: Groups,
        refuse: Callable[[int, Fault], int],
    ) -> None:
        """Write what is waiting, group by group."""
        self._rules.begin_fallback(connection)
        if self._rules.no_bulk_because(connection):
            groups.split_all()
        self._try(connection, lambda: self._lock(connection, items, only_if_several=False))
        proven: set[Any] = set()
        while groups.waiting:
            start, stop = groups.next()
            fault = self._write_group(connection, items[start:stop]) if start < stop else None
            if fault is not None and stop - start == 1:
                fault = self._items_fault(connection, items[start], fault, proven)
                groups.refused[start] = fault
                groups.end = refuse(start, fault)
            groups.note(start, stop, is_written=fault is None)
            if fault is not None and self._rules.has_undone_all(connection):
                raise _UndoneByDatabase(fault)

    def _items_fault(self, connection: Connection, writes: Sequence[Write], fault: Fault, proven: set[Any]) -> Fault:
        """The fault of an item that was written by itself, once it is known not to be the program's.

        Args:
            connection: The connection.
            writes: The item's.
            fault: What it was refused for.
            proven: What is known to work without rows: added to.

        Raises:
            FlushFailed: What looks fatal is: it holds without the item.
        """
        for write in writes if fault.is_unproven and not self._rules.has_undone_all(connection) else ():
            alike = (write.kind, write.table, write.key_columns, write.set_columns, *write.values)
            if alike not in proven:
                self._require_without_rows(connection, write)
                proven.add(alike)
        return fault.as_items

    def _require_without_rows(self, connection: Connection, write: Write) -> None:
        savepoint = connection.begin_nested()
        try:
            with self._rules.expecting_errors():
                connection.execute(self._statements.without_rows(write))
        except Exception as error:
            fault = self._classified(error, connection, has_rows=False)
            if fault.kind is not FaultKind.ITEM:  # or else the row has no chance either, and may be told so
                raise FlushFailed(replace(fault, is_unproven=False)) from error
        savepoint.rollback()

    def _group_size(self, count: int, has_suspects: bool) -> int:
        """Most items of a group to begin with."""
        if self._surprises:
            return max(1, min(count, int(_CLEAN_HALF / self._surprises)))
        return max(1, count if has_suspects else (count + 1) // 2)  # the whole has just failed, and nobody knows why

    def _info(self, table: Table) -> TableInfo:
        if self._lender is not None and table not in self._tables:
            self._lender.check(table, self._engine)
        return super()._info(table)

    # ---- the transaction

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or undone if anything is raised."""
        connection = self._connect()
        has_begun = False
        try:
            try:
                self._rules.begin(connection)
                has_begun = True
                yield connection
                self._rules.before_commit(connection)
            except BaseException as error:
                fault = self._classified(error, connection)
                if self.is_lent and has_begun and self._rules.has_undone_all(connection):
                    fault = replace(fault, kind=FaultKind.FATAL, is_unproven=False, message=_UNDOES_ALL)
                self._undo(connection)
                if isinstance(error, Exception):
                    raise FlushFailed(fault) from error
                raise
            self._commit(connection)
        finally:
            self._release(connection)

    def _release(self, connection: Connection) -> None:
        deadline = self._deadlines.pop(connection)
        deadline.call_off()
        if deadline.has_struck:
            connection.invalidate()
        self._rules.end(connection)
        if self._lender is None:
            connection.close()

    def _connect(self) -> Connection:
        """A connection; after one was lost, one that is known to work."""
        deadline = Deadline(self._options.chunk_timeout)
        try:
            with watching_new_connections(deadline):
                connection = self._engine.connect() if self._lender is None else self._lender.lend()
                deadline.watch(connection.connection.dbapi_connection)
                if self._has_lost and self._lender is None:
                    connection = self._working(connection, deadline)
                    self._has_lost = False
        except BaseException as error:
            deadline.call_off()
            if not isinstance(error, Exception):
                raise
            fault = self._classified(error, None, has_rows=False)
            raise FlushFailed(replace(fault, is_unrelated=True, is_unproven=False)) from error
        self._deadlines[connection] = deadline
        return connection

    def _working(self, connection: Connection, deadline: Deadline) -> Connection:
        """A connection that answers: this one, or one made anew."""
        try:
            _ping(connection)
        except Exception:  # noqa: BLE001 - SQLAlchemy throws away all of the pool that are no younger
            connection = self._engine.connect()
            deadline.watch(connection.connection.dbapi_connection)
            _ping(connection)
        return connection

    def _commit(self, connection: Connection) -> None:
        """COMMIT. An error that the server reports is a rollback; no answer at all is a doubt."""
        self._deadlines[connection].spare_commit()
        try:
            self._rules.commit(connection)
        except NotReplicated as error:
            self._rules.note_doubt()
            fault = replace(self._classified(error, connection), at_commit=True)
            raise FlushFailed(replace(fault, kind=FaultKind.IN_DOUBT)) from error
        except BaseException as error:
            fault = replace(self._classified(error, connection), at_commit=True)
            is_answered = fault.kind is not FaultKind.LOST or self._rules.is_lent
            if isinstance(error, Exception) and is_answered:
                self._undo(connection)
                raise FlushFailed(fault) from error
            connection.invalidate()
            self._rules.note_doubt()
            doubt = "COMMIT got no answer: the chunk may have been written or not"
            raise FlushFailed(replace(fault, kind=FaultKind.IN_DOUBT, message=doubt)) from error

    def _undo(self, connection: Connection) -> None:
        """Roll back; a connection on which that fails, or which may still be busy, is thrown away."""
        try:
            if not connection.invalidated:
                self._rules.rollback(connection)
        except Exception:  # noqa: BLE001 - the error that led here is the one to report
            _log.debug("a rollback failed; the connection is thrown away", extra={"action": "rollback_failed"})
            connection.invalidate()

    def _keep_books(self, connection: Connection, books: Books | None, refused: Sequence[tuple[int, Fault]]) -> None:
        """Write what is to be committed with the items."""
        for table, rows, is_kept in books(refused) if books is not None else ():
            if rows:
                self._rules.require(connection, table)
                try:
                    connection.execute(sqlalchemy.insert(table), [dict(row) for row in rows])
                except IntegrityError as error:
                    raise AlreadyBooked from error
            if rows and not is_kept:
                same = [
                    equals(table.c[name], sqlalchemy.bindparam(f"of_{name}", type_=table.c[name].type))
                    for name in rows[0]
                ]
                values = [{f"of_{name}": value for name, value in row.items()} for row in rows]
                connection.execute(sqlalchemy.delete(table).where(*same), values)

    def read(self, query: Select[Any]) -> Sequence[Mapping[str, Any]]:
        """The rows of a query, by column, in a transaction of its own.

        Raises:
            FlushFailed: They cannot be read.
        """
        return self._asked(lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def require(self, ledger: Ledger) -> None:
        """Make sure that a ledger's tables are there; raises as `Ledger.require`.

        Raises:
            FlushFailed: The database cannot be asked.
        """

        def missing(connection: Connection) -> ConfigurationError | None:
            try:
                ledger.require(connection)
            except ConfigurationError as error:
                return error
            return None

        error = self._asked(missing)
        if error is not None:
            raise error

    def forget_keys(self, ledger: Ledger, scope: str, older_than: timedelta) -> None:
        """Forget old idempotency keys; see `Ledger.forget_keys`.

        Raises:
            FlushFailed: The database cannot be reached.
        """
        self._asked(lambda connection: ledger.forget_keys_on(connection, scope=scope, older_than=older_than))

    def _asked(self, ask: Callable[[Connection], Answer]) -> Answer:
        """What something gives that may be done twice: where its COMMIT gets no answer, there is nothing to doubt.

        Raises:
            FlushFailed: It cannot be done.
        """
        try:
            with self._transaction() as connection:
                return ask(connection)
        except FlushFailed as error:
            cause = error.__cause__
            if error.fault.kind is not FaultKind.IN_DOUBT or not isinstance(cause, Exception):
                raise
            text = str(cause) if isinstance(cause, NotReplicated) else "the connection to the database was lost"
            raise FlushFailed(replace(error.fault, kind=FaultKind.LOST, message=text)) from cause

    # ---- bulk

    def _carry_out(self, connection: Connection, items: Sequence[Sequence[Write]]) -> None:
        """Carry out the plan for some items."""
        plan = make_plan(items)
        if plan.refusal:
            raise ItemRefused(plan.refusal)
        for segment in plan.segments:
            for probe in segment.probes:
                if self._statements.count_rows(connection, probe) < len(probe.keys):
                    raise ItemRefused("an item refers to a row that only a later item creates", table=probe.table.name)
            for step in segment.steps:
                self._run(connection, step)

    def _run(self, connection: Connection, step: Step) -> None:
        try:
            with self._rules.expecting_errors():
                self._statements.carry_out(connection, step)
        except Exception as error:
            raise FailedAt(step.table) from error

    def _lock(self, connection: Connection, items: Sequence[Sequence[Write]], *, only_if_several: bool) -> None:
        """Lock the rows to be changed, table by table and key by key, where statements alone would not keep that order.

        Args:
            connection: The connection.
            items: The writes.
            only_if_several: Leave out tables that a single statement changes: it takes its keys in order.
        """
        if not self._rules.locks_rows:
            return
        keyed: dict[TableInfo, list[Write]] = {}
        for writes in items:
            for write in writes:
                if write.kind in _CHANGES and (write.kind is not Kind.UPSERT or write.set_columns):
                    keyed.setdefault(write.table, []).append(write)
        for table in sorted(keyed, key=lambda table: table.order):
            writes = keyed[table]
            statements = {(write.kind, frozenset(write.values), frozenset(write.set_columns)) for write in writes}
            if len(writes) > 1 and (len(statements) > 1 or not only_if_several):
                self._statements.lock(connection, table, writes)

    # ---- fallback

    def _write_group(self, connection: Connection, items: Sequence[Sequence[Write]]) -> Fault | None:
        """Write neighbours under one savepoint; the item fault that undid them, if any."""

        def write() -> None:
            self._rules.begin_item(connection)
            if len(items) > 1:
                self._rules.before_bulk(connection)
                self._carry_out(connection, items)
            else:
                for single in items[0]:
                    self._run(connection, Step(kind=single.kind, table=single.table, writes=(single,)))

        return self._try(connection, write, lambda: self._rules.end_item(connection))

    def _try(
        self, connection: Connection, write: Callable[[], None], check: Callable[[], None] | None = None
    ) -> Fault | None:
        """Run under a savepoint; on what may be an item's fault undo it and return that, anything else goes through."""
        savepoint = connection.begin_nested()
        is_written = False
        try:
            write()
            is_written = True
            if check is not None:
                check()
        except Exception as error:
            fault = replace(self._classified(error, connection), at_commit=is_written)
            if not fault.may_be_an_items:
                raise
            if not self._rules.has_undone_all(connection):  # and the savepoint with it
                savepoint.rollback()
            return fault
        savepoint.commit()
        return None

    # ---- faults

    def _classified(self, error: BaseException, connection: Connection | None, *, has_rows: bool = True) -> Fault:
        """The fault, with what the table's definition knows of it beside what the database said."""
        if isinstance(error, (FlushFailed, _UndoneByDatabase)):
            return error.fault
        if isinstance(error, AnotherWay):
            text = "the tables were changed again and again while the chunk was written"
            return Fault(kind=FaultKind.TRANSIENT, error_type=type(error).__name__, message=text, is_outdated=True)
        if isinstance(error, AlreadyBooked):
            text = "the books of the chunk are there already: an attempt before may have been committed"
            return Fault(kind=FaultKind.TRANSIENT, error_type=type(error).__name__, message=text, is_booked=True)
        table = error.table if isinstance(error, FailedAt) else None
        cause = error.__cause__ if isinstance(error, FailedAt) and error.__cause__ else error
        raw: Any = None
        if connection is not None and not connection.invalidated and not connection.closed:
            raw = connection.connection.dbapi_connection
        lost = False
        if isinstance(cause, Exception):
            lost = self._engine.dialect.is_disconnect(cause, raw, None)  # type: ignore[arg-type]
        fault = classify(
            cause,
            is_disconnect=lost,
            scrub=self._secrets,
            while_writing=isinstance(error, FailedAt),
            has_rows=has_rows,
        )
        fault = self._options.judged(getattr(cause, "orig", None) or cause, fault)
        deadline = self._deadlines.get(connection) if connection is not None else None
        if deadline is not None and deadline.has_struck and fault.kind in {FaultKind.LOST, FaultKind.TRANSIENT}:
            text = f"the chunk was not written within {self._options.chunk_timeout:g} seconds (chunk_timeout)"
            fault = replace(fault, message=text, is_unrelated=True)
        self._has_lost = self._has_lost or fault.kind is FaultKind.LOST
        if table is None or not fault.may_be_an_items:
            return fault
        return self._located(fault, table)

    def _located(self, fault: Fault, table: TableInfo) -> Fault:
        """An item's fault with what the definition of the table that was being written knows of it."""
        column, constraint = fault.column, fault.constraint
        if fault.table not in {None, table.handle.name, table.name}:
            return fault
        if column is None and constraint:
            column = ", ".join(table.columns_of(constraint)) or None
        elif constraint is None and column and fault.is_unique_violation:
            constraint = table.constraint_of(frozenset(column.split(", ")))
        return replace(fault, table=table.name, column=column, constraint=constraint)


def _ping(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("SELECT 1")
        connection.rollback()
    except BaseException:
        connection.close()
        raise
