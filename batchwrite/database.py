"""The engine for a database URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy
from sqlalchemy import Engine, event
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.engine import URL, make_url

from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_EXTRAS = {"postgresql": "binary", "mysql": "mysql", "mariadb": "mysql"}

Made = TypeVar("Made")


def create_engine_for(url: URL | str) -> Engine:
    """An engine for a database URL: psycopg and PyMySQL, foreign keys enforced on SQLite, no values in errors.

    Raises:
        ConfigurationError: The URL is malformed, or its driver is not installed. The text holds no password.
    """
    engine = made_of(url, sqlalchemy.create_engine, _DRIVERS)
    keep_foreign_keys(engine)
    return engine


def made_of(url: URL | str, create: Callable[..., Made], drivers: Mapping[str, str], extra: str | None = None) -> Made:
    """What a function makes of a URL.

    Args:
        url: The URL.
        create: SQLAlchemy's function.
        drivers: The drivers to take where the URL names none, by dialect.
        extra: What brings the drivers, where one extra brings them all.

    Raises:
        ConfigurationError: As `create_engine_for`.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in drivers:
            parsed = parsed.set(drivername=drivers[parsed.drivername])
        if "@" in (parsed.host or ""):
            raise ValueError  # what stands before it is the rest of a password, and would be told as part of the host
        return create(parsed, hide_parameters=True)
    except (ImportError, sqlalchemy_errors.NoSuchModuleError):
        extra = extra or _EXTRAS.get(parsed.get_backend_name())
        hint = f"; install batchwrite[{extra}]" if extra else ""
        raise ConfigurationError(f"no driver for {parsed.drivername} can be loaded{hint}") from None
    except sqlalchemy_errors.InvalidRequestError:
        text = f"{parsed.drivername} cannot be awaited: name a driver for asyncio in the URL, or none"
        raise ConfigurationError(text) from None
    except (sqlalchemy_errors.ArgumentError, ValueError, TypeError, AttributeError):
        # The parser's own text may quote the URL, and with it the password.
        form = "dialect://user:password@host:port/database, with @, : and / of a password written %40, %3A and %2F"
        raise ConfigurationError(f"this is no database URL of the form {form}") from None


def keep_foreign_keys(engine: Engine) -> None:
    """Have foreign keys enforced, where that has to be asked for."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _enforce_foreign_keys)


def _enforce_foreign_keys(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
