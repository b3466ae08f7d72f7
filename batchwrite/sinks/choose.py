"""Picks the sink for a database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchwrite.listeners import SlowPathDetails
from batchwrite.sinks.dialects import DialectRules
from batchwrite.sinks.lent import Lender, LentRules
from batchwrite.sinks.repository import RepositorySink
from batchwrite.sinks.said import said_of
from batchwrite.sinks.sql import SqlSink

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from batchwrite.sinks.options import SinkOptions

_log = logging.getLogger("batchwrite")

AnySink = SqlSink | RepositorySink


def sink_for(
    engine: Engine, *, owns_engine: bool = False, options: SinkOptions | None = None, lender: Lender | None = None
) -> SqlSink:
    """The sink for an engine; what is particular to a database is loaded only where it is used.

    Args:
        engine: The database.
        owns_engine: Whether the sink's `close` disposes of the engine.
        options: The writer's.
        lender: Whose transaction is written in, where it is somebody else's.

    Raises:
        ConfigurationError: The engine's URL asks for connections that values are not safe on.
    """
    rules: DialectRules = DialectRules() if lender is None else LentRules()
    if engine.dialect.name == "sqlite":
        from batchwrite.sinks.sqlite import LentSqliteRules, SqliteRules  # noqa: PLC0415

        rules = SqliteRules() if lender is None else LentSqliteRules()
    elif engine.dialect.name in {"mysql", "mariadb"}:
        from batchwrite.sinks.mysql import LentMysqlRules, MysqlRules, require_safe_charset  # noqa: PLC0415

        require_safe_charset(
            engine.url.query.get("charset")
        )  # what else is set for connections is seen when there is one
        rules = MysqlRules() if lender is None else LentMysqlRules()
    elif engine.dialect.name == "postgresql":
        return _postgresql_sink(engine, owns_engine=owns_engine, options=options, lender=lender)
    return SqlSink(engine, rules, owns_engine=owns_engine, options=options, lender=lender)


def _postgresql_sink(
    engine: Engine, *, owns_engine: bool, options: SinkOptions | None, lender: Lender | None
) -> SqlSink:
    from batchwrite.sinks.postgresql.rules import LentPostgresqlRules, PostgresqlRules  # noqa: PLC0415

    reason = f"the driver is {engine.dialect.driver}"
    if engine.dialect.driver in {"psycopg", "psycopg_async"}:
        from batchwrite.sinks.postgresql import sink  # noqa: PLC0415

        if sink.has_pipelines():
            return sink.PostgresqlSink(engine, owns_engine=owns_engine, options=options, lender=lender)
        reason = "its libpq is older than 14"
    if said_of(engine, owns_engine=owns_engine).is_new("slow_path", reason):
        _log.warning(
            "rows are written by INSERT: COPY and pipelines need psycopg with libpq 14 or later, and %s",
            reason,
            extra={"action": "slow_path"},
        )
    if options is not None:
        options.listeners.tell("on_slow_path", SlowPathDetails(table=None, reason=reason))
    rules = PostgresqlRules() if lender is None else LentPostgresqlRules()
    return SqlSink(engine, rules, owns_engine=owns_engine, options=options, lender=lender)
