"""The engine for a database URL."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import Engine, event
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.engine import URL, make_url

from batchwrite.errors import ConfigurationError

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_EXTRAS = {"postgresql": "binary", "mysql": "mysql", "mariadb": "mysql"}


def create_engine_for(url: URL | str) -> Engine:
    """An engine for a database URL: psycopg and PyMySQL, foreign keys enforced on SQLite, no values in errors.

    Raises:
        ConfigurationError: The URL is malformed, or its driver is not installed. The text holds no password.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in _DRIVERS:
            parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
        if "@" in (parsed.host or ""):
            raise ValueError  # what stands before it is the rest of a password, and would be told as part of the host
        engine = sqlalchemy.create_engine(parsed, hide_parameters=True)
    except (ImportError, sqlalchemy_errors.NoSuchModuleError):
        extra = _EXTRAS.get(parsed.get_backend_name())
        hint = f"; install batchwrite[{extra}]" if extra else ""
        raise ConfigurationError(f"no driver for {parsed.drivername} can be loaded{hint}") from None
    except (sqlalchemy_errors.ArgumentError, ValueError, TypeError, AttributeError):
        # The parser's own text may quote the URL, and with it the password.
        form = "dialect://user:password@host:port/database, with @, : and / of a password written %40, %3A and %2F"
        raise ConfigurationError(f"this is no database URL of the form {form}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _enforce_foreign_keys)
    return engine


def _enforce_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
