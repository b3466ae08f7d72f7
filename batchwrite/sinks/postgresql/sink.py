"""The sink for PostgreSQL through psycopg: COPY and set-based statements, on the way while the caller collects."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import pq
from psycopg.adapt import Transformer
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool, QueuePool

from batchwrite.errors import ItemRefused
from batchwrite.faults import FaultKind, FlushFailed, reported_fault
from batchwrite.planner import make_plan
from batchwrite.sinks.postgresql import wire
from batchwrite.sinks.postgresql.attempt import Attempt, FailedAttempt, not_booked
from batchwrite.sinks.postgresql.bulk import BulkWriter, Copied, Executed
from batchwrite.sinks.postgresql.catalog import look_up
from batchwrite.sinks.postgresql.fallback import FallbackPlan, Refusal, message_of, refusals_of, statements_of
from batchwrite.sinks.postgresql.layout import Group, Layout, lay_out
from batchwrite.sinks.postgresql.order import is_bulk_first
from batchwrite.sinks.postgresql.rules import LentPostgresqlRules, PostgresqlRules
from batchwrite.sinks.postgresql.tables import FastTable, table_name, translated_name
from batchwrite.sinks.postgresql.texts import NoFastPath, trusts_adapters
from batchwrite.sinks.sql import AnotherWay, FailedAt, SqlSink
from batchwrite.suspects import find_suspects
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import Pool

    from batchwrite.faults import Fault
    from batchwrite.ledger import Books
    from batchwrite.sink import PendingWrite
    from batchwrite.sinks.lent import Lender
    from batchwrite.sinks.options import SinkOptions
    from batchwrite.sinks.postgresql.attempt import Closing
    from batchwrite.table import TableInfo
    from batchwrite.write import Write


_FIRST_WITH_PIPELINES = 140_000

_FEATURE_NOT_SUPPORTED = "0A000"

# What the rules have a connection speak, if it can: what is escaped as a text must not be something else as bytes.
_ENCODING = "utf-8"

# NULLs in arrays are read as the text 'NULL' where a session is set so.
_READ_NULLS = b"SET LOCAL array_nulls = on"
_REMEMBER = b"SELECT pg_catalog.set_config('batchwrite.array_nulls', pg_catalog.current_setting('array_nulls'), true)"
_RESTORE = b"SELECT pg_catalog.set_config('array_nulls', pg_catalog.current_setting('batchwrite.array_nulls'), true)"

# What the server says of a table is not asked again so soon, however many chunks fail.
_SECONDS_TO_BELIEVE = 1.0


def has_pipelines() -> bool:
    """Whether the libpq at hand can send statements without waiting for answers."""
    return pq.version() >= _FIRST_WITH_PIPELINES


class PostgresqlSink(SqlSink):
    """Writes chunks as texts where that is the same as SQLAlchemy's way, and in SQLAlchemy's way where not.

    Args:
        engine: The database, through psycopg.
        owns_engine: Whether `close` disposes of the engine.
        options: The writer's.
        lender: Whose transaction it is, where it is somebody else's.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        owns_engine: bool = False,
        options: SinkOptions | None = None,
        lender: Lender | None = None,
    ) -> None:
        self._rules: PostgresqlRules
        rules = PostgresqlRules() if lender is None else LentPostgresqlRules()
        super().__init__(engine, rules, owns_engine=owns_engine, options=options, lender=lender)
        self._fast_tables: dict[TableInfo, FastTable] = {}
        self._looked_up = 0.0
        self._not_fast: object = None  # the items of which it has come out while they were sent

    # ---- the sink

    def begin(
        self,
        items: Sequence[Sequence[Write]],
        others: Sequence[PendingWrite],
        *,
        may_commit: bool,
        books: Books | None = None,
    ) -> PendingWrite | None:
        """Begin to write all items; nothing where they must be written at once, or not before others have ended."""
        if self.is_lent or not _has_one_more(self._engine.pool, others):
            return None
        if self.is_failing and others:
            return None  # what an item is refused for may be mended by the chunks before
        if others and not all(write.kind is Kind.INSERT for writes in items for write in writes):
            return None  # what changes rows must find those that the chunks before it have changed
        try:
            if self.is_failing:
                return self._fallback(items, books)
            return self._bulk(items, books, may_commit=may_commit)
        except FlushFailed as error:
            return FailedAttempt(error)

    def write(self, items: Sequence[Sequence[Write]], books: Books | None = None) -> Sequence[tuple[int, Fault]]:
        """Write all items or none, as few statements.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        if self.is_failing and items:
            fault = self._classified(ItemRefused("the chunk before held bad items"), None)
            raise FlushFailed(fault, is_expected=True)
        attempt = self._bulk(items, books, may_commit=not self.is_lent) if items else None
        if attempt is None:
            return super().write(items, books)
        attempt.wait(lambda _attempt: None)
        attempt.commit()
        return ()

    def write_each(
        self, items: Sequence[Sequence[Write]], refuse: Callable[[int, Fault], int], books: Books | None = None
    ) -> None:
        """Write the items in order, each whole or not at all, in one transaction.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        try:
            attempt = self._fallback(items, books)
            if attempt is None:
                super().write_each(items, refuse, books)
                return
            attempt.wait(lambda _attempt: None)
        except FlushFailed as error:
            if not error.fault.may_be_an_items:
                raise
            # The block itself was refused, by nothing that it could blame on an item.
            reason = f"what was sent to find bad items was refused ({error.fault.message})"
            self._statements.note_slow(items[0][0].table, reason)
            self._fast_tables.clear()  # they may have changed
            super().write_each(items, refuse, books)
            return
        for number, fault in attempt.refused:
            if refuse(number, fault) < len(items):
                attempt.abandon()
                super().write_each(items, refuse, books)
                return
        attempt.commit()

    # ---- attempts

    def _bulk(self, items: Sequence[Sequence[Write]], books: Books | None, *, may_commit: bool) -> Attempt | None:
        """An attempt to write all items; nothing where that has to be left to SQLAlchemy.

        COMMIT goes along with a few statements whose answers need no looking at: one round trip in all.

        Raises:
            FlushFailed: It could not even begin.
        """
        if items is self._not_fast:
            self._not_fast = None
            return None
        plan = make_plan(items)
        if plan.refusal:
            raise FlushFailed(self._classified(ItemRefused(plan.refusal), None))
        connection = self._begun()
        closing = self._closing(connection, books)
        tables = _Tables(lambda info: self._fast_table(connection, info))
        try:
            parts = self._writer(connection, tables).parts(plan)
            commits_along = may_commit and all(isinstance(part, Executed) and not part.must_be_empty for part in parts)
            last = closing(()) if commits_along else ()
        except NoFastPath as reason:
            self._give_back(connection)
            self._statements.note_slow(plan.segments[0].steps[0].table, str(reason))
            return None
        except BaseException as error:
            fault = self._classified(error, connection)
            self._give_back(connection)
            if isinstance(error, Exception):
                raise FlushFailed(fault) from error
            raise
        spare_commit = self._deadlines[connection].spare_commit
        commit = wire.Commit(spare_commit) if commits_along else None
        talk = self._talk(connection, tables, parts, commit, last, items)
        return Attempt(connection, talk, self._classified, self._give_back, self._rules, commit, closing, spare_commit)

    def _closing(self, connection: Connection, books: Books | None) -> Closing:
        """Gives the statements that write what is to be committed with the items."""
        if books is None:
            return lambda _refused: ()
        quote = connection.dialect.identifier_preparer.quote
        return lambda refused: [
            make(translated_name(connection, table), rows, quote)
            for table, rows, is_kept in books(refused)
            for make in ([wire.insert_of] if is_kept else [wire.insert_of, wire.delete_of])
            if rows
        ]

    def _fallback(self, items: Sequence[Sequence[Write]], books: Books | None) -> Attempt | None:
        """An attempt to write all items but those at fault; nothing where that has to be left to SQLAlchemy.

        Raises:
            FlushFailed: It could not even begin.
        """
        connection = self._begun()
        tables = _Tables(lambda info: self._fast_table(connection, info))
        if isinstance(self._rules, LentPostgresqlRules) and self._rules.has_deferred:
            self._give_back(connection)
            return None  # the block would have them checked
        try:
            if not self.is_failing:
                self._forget_old_tables()
            raw: Any = connection.connection.driver_connection
            bulk = self._writer(connection, tables)
            layout = lay_out(
                items,
                tables,
                Transformer(raw),
                self._statements.check_values,
            )
            left = [writes for position, writes in enumerate(items) if position not in layout.refused]
            locks = list(bulk.locks(left))
            suspects = self._suspects(items, layout)
            proofs = [self._without_rows(connection, group.writes[0]) for group in layout.groups]
            plan = FallbackPlan(
                groups=layout.groups,
                count=len(items),
                left_out=frozenset(position + 1 for position in layout.refused),
                suspects=frozenset(suspects),
                is_bulk_first=is_bulk_first(items, suspects, layout),
            )
        except NoFastPath as reason:
            self._give_back(connection)
            self._statements.note_slow(items[0][0].table, str(reason))
            return None
        except BaseException as error:
            fault = self._classified(error, connection)
            self._give_back(connection)
            if isinstance(error, Exception):
                raise FlushFailed(fault) from error
            raise
        return Attempt(
            connection,
            self._fallback_talk(connection, tables, proofs, locks, plan, layout),
            self._classified,
            self._give_back,
            self._rules,
            closing=self._closing(connection, books),
            on_commit=self._deadlines[connection].spare_commit,
        )

    def _suspects(self, items: Sequence[Sequence[Write]], layout: Layout) -> set[int]:
        """Numbers of the items to be tried by themselves."""
        found = {position + 1 for position in find_suspects(items)}
        for group in layout.groups:
            found |= group.suspects
        return found

    def _without_rows(self, connection: Connection, write: Write) -> bytes:
        """The statement for a write, without rows: where it fails, no item is at fault."""
        raw: Any = connection.connection.driver_connection
        statement = self._statements.without_rows(write)
        text = str(statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        return text.replace("%%", "%").encode(raw.info.encoding)

    def _fallback_talk(
        self,
        connection: Connection,
        tables: _Tables,
        proofs: Sequence[bytes],
        locks: Sequence[Executed],
        plan: FallbackPlan,
        layout: Layout,
    ) -> Generator[bool, None, Sequence[tuple[int, Fault]]]:
        raw: Any = connection.connection.driver_connection
        frame = self._frame(raw, tables)
        opening = len(frame.before)
        statements = [
            *map(wire.Statement, [*frame.before, *proofs]),
            *[lock.statement for lock in locks],
            *(statements_of(plan, raw.info.encoding) if plan.groups else []),
        ]
        answer = len(statements) - 1
        statements += map(wire.Statement, frame.after)
        refused = {position: self._classified(error, connection).as_items for position, error in layout.refused.items()}
        try:
            results = yield from wire.pipeline(raw.pgconn, statements, raw.info.encoding)
        except wire.StatementFailed as error:
            cause = _cause_of(error)
            self._require_unchanged(error, frame)
            if error.number in range(opening, opening + len(proofs)):
                fault = self._classified(cause, connection, has_rows=False)
                if fault.kind is FaultKind.FATAL:
                    raise FlushFailed(replace(fault, is_unproven=False)) from cause
            if self._classified(cause, connection).kind is FaultKind.FATAL:
                # A right to use PL/pgSQL that is missing, say: whether the items fail for it the general way will tell.
                raise ItemRefused(f"the server refuses the block ({type(cause).__name__})") from cause
            raise cause from None
        if plan.groups:
            for refusal in refusals_of(bytes(wire.first_value(results[answer])).decode(raw.info.encoding)):
                fault = self._fault_of(refusal, layout.groups[refusal.group]).as_items  # it works without rows
                if fault.kind is not FaultKind.ITEM:  # by the user's word
                    raise FlushFailed(fault)
                refused[refusal.position] = fault
        self.is_failing = bool(refused)
        return sorted(refused.items())

    def _fault_of(self, refusal: Refusal, group: Group) -> Fault:
        own = message_of(refusal, group)
        if own is not None:
            return self._classified(ItemRefused(own[0], table=group.table.info.name, column=own[1]), None)
        text = refusal.message + (f"\nDETAIL:  {refusal.detail}" if refusal.detail else "")
        fault = reported_fault(
            refusal.sqlstate,
            wire.error_name(refusal.sqlstate),
            table=refusal.table or None,
            column=refusal.column or None,
            constraint=refusal.constraint or None,
            detail=text,
        )
        fault = self._options.judged(wire.error_of(refusal.sqlstate, text), fault)
        fault = self._located(fault, group.table.info)
        return replace(fault, at_commit=True) if refusal.is_late else fault

    def _located(self, fault: Fault, table: TableInfo) -> Fault:
        """As the general way; what a partition refuses is told of its table."""
        known = self._fast_tables.get(table)
        constraints = known.server.partitions.get(fault.table or "") if known is not None else None
        if constraints is not None:
            columns = ", ".join(constraints.get(fault.constraint or "", ())) or fault.column
            fault = replace(fault, table=None, column=columns)
        return super()._located(fault, table)

    def _begun(self) -> Connection:
        """A connection in a transaction of SQLAlchemy's, which the server may not know of yet."""
        connection = self._connect()
        try:
            self._rules.begin(connection)
            if not connection.in_transaction():
                connection.begin()
        except BaseException as error:
            fault = self._classified(error, connection)
            self._give_back(connection)
            if isinstance(error, Exception):
                raise FlushFailed(fault) from error
            raise
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.in_transaction():
            self._undo(connection)
        self._release(connection)

    def _writer(self, connection: Connection, tables: _Tables) -> BulkWriter:
        raw: Any = connection.connection.driver_connection
        if not trusts_adapters(raw):
            raise NoFastPath("the connection adapts Python's own types in a way of its own")
        if connection.get_execution_options().get("schema_translate_map"):
            raise NoFastPath("schemas are translated (schema_translate_map), which SQLAlchemy alone can do")
        transformer = Transformer(raw)
        if transformer.encoding != _ENCODING:
            raise NoFastPath("the database converts no texts (SQL_ASCII)")
        return BulkWriter(
            tables,
            transformer,
            self._statements.check_values,
            self._statements.note_slow,
        )

    def _forget_old_tables(self) -> None:
        """Ask the server anew what tables are: that may be why a chunk has failed."""
        now = time.monotonic()
        if now - self._looked_up > _SECONDS_TO_BELIEVE:
            self._looked_up = now
            self._fast_tables.clear()

    def _fast_table(self, connection: Connection, info: TableInfo) -> FastTable:
        table = self._fast_tables.get(info)
        if table is None:
            try:
                server = look_up(connection, table_name(connection.dialect, info.handle))
            except ProgrammingError as error:  # a server that is PostgreSQL in name only
                raise NoFastPath(f"its catalogue cannot be read ({type(error.orig).__name__})") from error
            if server is None:
                raise NoFastPath("the database does not know it")
            self._looked_up = time.monotonic()
            table = self._fast_tables[info] = FastTable(info, server, connection.dialect)
        return table

    # ---- what is sent

    def _talk(
        self,
        connection: Connection,
        tables: _Tables,
        parts: Sequence[Copied | Executed],
        commit: wire.Commit | None,
        closing: Sequence[wire.Statement],
        items: object,
    ) -> Generator[bool, None, Sequence[tuple[int, Fault]]]:
        """Send the parts, in as few messages as their order allows."""
        raw: Any = connection.connection.driver_connection
        frame = self._frame(raw, tables, has_arrays=not all(isinstance(part, Copied) for part in parts))
        waiting: list[Executed] = []
        try:
            for part in parts:
                if isinstance(part, Executed):
                    waiting.append(part)
                    continue
                if waiting:
                    yield from _execute(raw, frame, waiting)
                    frame, waiting = frame.begun, []
                yield from _copy(raw, frame.before, part)
                frame = frame.begun
            if waiting:
                yield from _execute(raw, frame, waiting, closing, commit)
        except wire.StatementFailed as error:
            self._require_unchanged(error, frame)
            raise _cause_of(error) from None
        except _NotCopied as error:
            self._statements.note_slow(error.table, str(error.__cause__))
            self._not_fast = items
            raise AnotherWay from error
        return ()

    def _frame(self, raw: Any, tables: _Tables, *, has_arrays: bool = True) -> _Frame:
        """What stands around the statements of a transaction, unless something of the user's has begun it already."""
        before = []
        if raw.pgconn.transaction_status == wire.IDLE:
            before.append(wire.begin(raw))
        if self._rules.checks_late:
            before.append(b"SET CONSTRAINTS ALL IMMEDIATE")
        if has_arrays:
            before += [_REMEMBER, _READ_NULLS] if self.is_lent else [_READ_NULLS]
        checks = [table.verification.encode(raw.info.encoding) for table in tables.used.values()]
        after = [_RESTORE] if has_arrays and self.is_lent else []
        again = [_READ_NULLS] if after else []
        return _Frame([*before, *checks], range(len(before), len(before) + len(checks)), after, again)

    def _require_unchanged(self, error: wire.StatementFailed, frame: _Frame) -> None:
        """Look whether a statement has failed that says that a table is not what it was.

        Raises:
            AnotherWay: It has; what was known of the tables is forgotten.
        """
        if error.number in frame.checks:
            self._fast_tables.clear()
            raise AnotherWay from error


def _has_one_more(pool: Pool, others: Sequence[PendingWrite]) -> bool:
    """Whether a pool gives a connection of its own to an attempt on its way, at once."""
    if isinstance(pool, NullPool):
        return True
    if not isinstance(pool, QueuePool):
        return False  # one connection for everybody, or for each thread
    most = pool.size() + getattr(pool, "_max_overflow", 0)  # SQLAlchemy has no other name for it
    return not others or most < pool.size() or pool.checkedout() < most


class _NotCopied(FailedAt):
    """While the rows of a table were sent, it came out that they have no fast path."""


class _Tables:
    """Gives tables as they are written to, and keeps account of which.

    Args:
        table: Gives one.

    Attributes:
        used: Those that were asked for.
    """

    def __init__(self, table: Callable[[TableInfo], FastTable]) -> None:
        self._table = table
        self.used: dict[TableInfo, FastTable] = {}

    def __call__(self, info: TableInfo) -> FastTable:
        """The table."""
        self.used[info] = found = self._table(info)
        return found


class _Frame(NamedTuple):
    """What is sent around the statements of a transaction.

    Attributes:
        before: What begins it, and makes sure that its statements mean what they are meant to.
        checks: Which of these look whether the tables are what they were.
        after: What puts settings of the owner's back.
        again: What is needed once more where there are several such messages.
    """

    before: Sequence[bytes]
    checks: range = range(0)
    after: Sequence[bytes] = ()
    again: Sequence[bytes] = ()

    @property
    def begun(self) -> _Frame:
        """The same once it has begun."""
        return _Frame(self.again, after=self.after, again=self.again)


def _execute(
    raw: Any,
    frame: _Frame,
    parts: Sequence[Executed],
    closing: Sequence[wire.Statement] = (),
    commit: wire.Commit | None = None,
) -> Generator[bool, None, None]:
    opening = frame.before
    statements = [*map(wire.Statement, opening), *[part.statement for part in parts], *closing]
    statements += map(wire.Statement, frame.after)
    try:
        results = yield from wire.pipeline(raw.pgconn, statements, raw.info.encoding, commit)
    except wire.StatementFailed as error:
        number = error.number - len(opening)
        if number in range(len(parts), len(parts) + len(closing)):
            raise not_booked(error) from error.__cause__
        if not 0 <= number < len(parts):
            raise
        raise FailedAt(parts[number].table) from error.__cause__
    if commit is not None:
        wire.require_committed(results.pop())
    for part, result in zip(parts, results[len(opening) :], strict=False):  # of what closes nothing is asked
        if part.must_be_empty and result.ntuples:
            refusal = ItemRefused(part.must_be_empty, table=part.table.name)
            raise FailedAt(part.table) from refusal


def _copy(raw: Any, opening: Sequence[bytes], part: Copied) -> Generator[bool, None, None]:
    encoding = raw.info.encoding
    try:
        yield from wire.query(raw.pgconn, b"; ".join([*opening, part.sql]), encoding)
        yield from wire.copy(raw.pgconn, part.pieces, encoding)
    except wire.StatementFailed as error:
        if 0 <= error.number < len(opening):
            raise
        if getattr(error.__cause__, "sqlstate", None) == _FEATURE_NOT_SUPPORTED:
            # Row-level security that came, or applies, later than the table was looked up: INSERT will do.
            raise FailedAt(part.table) from ItemRefused("COPY cannot serve here", table=part.table.name)
        raise FailedAt(part.table) from error.__cause__
    except (GeneratorExit, KeyboardInterrupt, wire.LinkError):
        raise
    except NoFastPath as reason:
        raise _NotCopied(part.table) from reason
    except Exception as error:
        raise FailedAt(part.table) from error  # of a value: a bind processor has raised


def _cause_of(error: BaseException) -> BaseException:
    return error.__cause__ or error
