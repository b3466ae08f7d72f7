"""The sink for PostgreSQL through psycopg: COPY and set-based statements, on the way while the caller collects."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg.adapt import Transformer
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool, QueuePool

from batchwrite.errors import ItemRefused
from batchwrite.faults import FaultKind, FlushFailed, reported_fault
from batchwrite.planner import make_plan
from batchwrite.sinks.postgresql import wire
from batchwrite.sinks.postgresql.attempt import Attempt, not_booked
from batchwrite.sinks.postgresql.bulk import BulkWriter, Copied, Executed
from batchwrite.sinks.postgresql.catalog import look_up
from batchwrite.sinks.postgresql.fallback import FallbackPlan, Refusal, message_of, refusals_of, statements_of
from batchwrite.sinks.postgresql.layout import Group, Layout, lay_out
from batchwrite.sinks.postgresql.order import is_bulk_first
from batchwrite.sinks.postgresql.rules import LentPostgresqlRules, PostgresqlRules
from batchwrite.sinks.postgresql.tables import FastTable, table_name, translated_name
from batchwrite.sinks.postgresql.texts import NoFastPath, trusts_adapters
from batchwrite.sinks.sql import FailedAt, SqlSink
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
        except FlushFailed:
            return None  # to be written, and to fail, in its turn

    def write(self, items: Sequence[Sequence[Write]], books: Books | None = None) -> Sequence[tuple[int, Fault]]:
        """Write all items or none, as few statements.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        if self.is_failing and items:
            raise FlushFailed(self._classified(ItemRefused("the chunk before held bad items"), None))
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
            if error.fault.kind is not FaultKind.ITEM:
                raise
            # The block itself was refused, by nothing that it could blame on an item.
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
        plan = make_plan(items)
        if plan.refusal:
            raise FlushFailed(self._classified(ItemRefused(plan.refusal), None))
        connection = self._begun()
        closing = self._closing(connection, books)
        try:
            parts = self._writer(connection).parts(plan)
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
        commit = wire.Commit() if commits_along else None
        talk = self._talk(connection, parts, commit, last)
        return Attempt(connection, talk, self._classified, self._give_back, self._rules, commit, closing)

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
        if isinstance(self._rules, LentPostgresqlRules) and self._rules.has_deferred:
            self._give_back(connection)
            return None  # the block would have them checked
        try:
            if not self.is_failing:
                self._forget_old_tables()
            raw: Any = connection.connection.driver_connection
            bulk = self._writer(connection)
            layout = lay_out(
                items,
                lambda info: self._fast_table(connection, info),
                Transformer(raw),
                self._statements.check_values,
            )
            left = [writes for position, writes in enumerate(items) if position not in layout.refused]
            locks = list(bulk.locks(left))
            suspects = self._suspects(items, layout)
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
            self._fallback_talk(connection, locks, plan, layout),
            self._classified,
            self._give_back,
            self._rules,
            closing=self._closing(connection, books),
        )

    def _suspects(self, items: Sequence[Sequence[Write]], layout: Layout) -> set[int]:
        """Numbers of the items to be tried by themselves."""
        found = {position + 1 for position in find_suspects(items)}
        for group in layout.groups:
            found |= group.suspects
        return found

    def _fallback_talk(
        self, connection: Connection, locks: Sequence[Executed], plan: FallbackPlan, layout: Layout
    ) -> Generator[bool, None, Sequence[tuple[int, Fault]]]:
        raw: Any = connection.connection.driver_connection
        opening = self._opening(raw)
        statements = [
            *map(wire.Statement, opening),
            *[lock.statement for lock in locks],
            *(statements_of(plan, raw.info.encoding) if plan.groups else []),
        ]
        refused = {position: self._classified(error, connection) for position, error in layout.refused.items()}
        try:
            results = yield from wire.pipeline(raw.pgconn, statements, raw.info.encoding)
        except wire.StatementFailed as error:
            cause = _cause_of(error)
            if self._classified(cause, connection).kind is FaultKind.FATAL:
                # A right to use PL/pgSQL that is missing, say: whether the items fail for it the general way will tell.
                raise ItemRefused(f"the server refuses the block ({type(cause).__name__})") from cause
            raise cause from None
        if plan.groups:
            for refusal in refusals_of(bytes(wire.first_value(results[-1])).decode(raw.info.encoding)):
                fault = self._fault_of(refusal, layout.groups[refusal.group])
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

    def _writer(self, connection: Connection) -> BulkWriter:
        raw: Any = connection.connection.driver_connection
        if not trusts_adapters(raw):
            raise NoFastPath("the connection adapts Python's own types in a way of its own")
        if connection.get_execution_options().get("schema_translate_map"):
            raise NoFastPath("schemas are translated (schema_translate_map), which SQLAlchemy alone can do")
        return BulkWriter(
            lambda info: self._fast_table(connection, info),
            Transformer(raw),
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
        parts: Sequence[Copied | Executed],
        commit: wire.Commit | None,
        closing: Sequence[wire.Statement],
    ) -> Generator[bool, None, Sequence[tuple[int, Fault]]]:
        """Send the parts, in as few messages as their order allows."""
        raw: Any = connection.connection.driver_connection
        opening = self._opening(raw)
        waiting: list[Executed] = []
        for part in parts:
            if isinstance(part, Executed):
                waiting.append(part)
                continue
            if waiting:
                yield from _execute(raw, opening, waiting)
                opening, waiting = [], []
            yield from _copy(raw, opening, part)
            opening = []
        if waiting:
            yield from _execute(raw, opening, waiting, closing, commit)
        return ()

    def _opening(self, raw: Any) -> list[bytes]:
        """What begins the transaction, unless something of the user's has begun it already."""
        opening = []
        if raw.pgconn.transaction_status == wire.IDLE:
            opening.append(wire.begin(raw))
        if self._rules.checks_late:
            opening.append(b"SET CONSTRAINTS ALL IMMEDIATE")
        return opening


def _has_one_more(pool: Pool, others: Sequence[PendingWrite]) -> bool:
    """Whether a pool gives a connection of its own to an attempt on its way, at once."""
    if isinstance(pool, NullPool):
        return True
    if not isinstance(pool, QueuePool):
        return False  # one connection for everybody, or for each thread
    most = pool.size() + getattr(pool, "_max_overflow", 0)  # SQLAlchemy has no other name for it
    return not others or most < pool.size() or pool.checkedout() < most


def _execute(
    raw: Any,
    opening: Sequence[bytes],
    parts: Sequence[Executed],
    closing: Sequence[wire.Statement] = (),
    commit: wire.Commit | None = None,
) -> Generator[bool, None, None]:
    statements = [*map(wire.Statement, opening), *[part.statement for part in parts], *closing]
    try:
        results = yield from wire.pipeline(raw.pgconn, statements, raw.info.encoding, commit)
    except wire.StatementFailed as error:
        number = error.number - len(opening)
        if number in range(len(parts), len(parts) + len(closing)):
            raise not_booked(error) from error.__cause__
        if not 0 <= number < len(parts):
            raise _cause_of(error) from None
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
        if getattr(error.__cause__, "sqlstate", None) == _FEATURE_NOT_SUPPORTED:
            # Row-level security that came, or applies, later than the table was looked up: INSERT will do.
            raise FailedAt(part.table) from ItemRefused("COPY cannot serve here", table=part.table.name)
        raise FailedAt(part.table) from error.__cause__
    except NoFastPath as reason:
        raise FailedAt(part.table) from ItemRefused(str(reason), table=part.table.name)
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except wire.LinkError:
        raise
    except Exception as error:
        raise FailedAt(part.table) from error  # of a value: a bind processor has raised


def _cause_of(error: BaseException) -> BaseException:
    return error.__cause__ or error
