"""Picks the sink for a database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchwrite.sinks.dialects import DialectRules
from batchwrite.sinks.sql import SqlSink

if TYPE_CHECKING:
    from sqlalchemy import Engine

_log = logging.getLogger("batchwrite")


def sink_for(engine: Engine, *, owns_engine: bool = False) -> SqlSink:
    """The sink for an engine; what is particular to a database is loaded only where it is used.

    Args:
        engine: The database.
        owns_engine: Whether the sink's `close` disposes of the engine.
    """
    if engine.dialect.name == "sqlite":
        from batchwrite.sinks.sqlite import SqliteRules  # noqa: PLC0415

        return SqlSink(engine, SqliteRules(), owns_engine=owns_engine)
    if engine.dialect.name == "postgresql":
        if engine.dialect.driver == "psycopg":
            from batchwrite.sinks.postgresql.sink import PostgresqlSink  # noqa: PLC0415

            return PostgresqlSink(engine, owns_engine=owns_engine)
        from batchwrite.sinks.postgresql.rules import PostgresqlRules  # noqa: PLC0415

        _log.warning(
            "rows are written by INSERT: COPY and pipelines are used through psycopg, and the driver is %s",
            engine.dialect.driver,
            extra={"action": "slow_path"},
        )
        return SqlSink(engine, PostgresqlRules(), owns_engine=owns_engine)
    return SqlSink(engine, DialectRules(), owns_engine=owns_engine)
