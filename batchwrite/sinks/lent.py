"""Writing in somebody else's transaction: a chunk is a savepoint of it, and nothing is ever committed here."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.orm import Session, scoped_session

from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.fault import Fault, FaultKind, FlushFailed
from batchwrite.sinks.dialects import DialectRules

if TYPE_CHECKING:
    from sqlalchemy import NestedTransaction


def is_transaction(database: object) -> bool:
    """Whether something is a session or a connection, or stands for one."""
    return _is_awaited(database) or isinstance(database, (Session, Connection, scoped_session))


def check_transaction(database: object) -> None:
    """Make sure that something is a session or a connection.

    Raises:
        ConfigurationError: It is not: what is written there would be committed.
    """
    if not is_transaction(database):
        raise ConfigurationError(f"{type(database).__name__} is no class of sessions or connections")


def _is_awaited(database: object) -> bool:
    """Whether it is to be awaited; what is for asyncio is not imported here: it needs an extra."""
    return any(hasattr(database, name) for name in ("sync_session", "sync_connection"))


def _owner_of(database: Any) -> Session | Connection:
    if isinstance(database, scoped_session):
        database = database()
    found = getattr(database, "sync_session", None) or getattr(database, "sync_connection", None) or database
    if not isinstance(found, (Session, Connection)):
        raise ConfigurationError("the connection is not open yet: await its start(), or use it as a context manager")
    return found


class Lender:
    """Lends the connection of a transaction that is somebody else's.

    Args:
        database: A session or a connection, or what stands for one.
        is_awaited: Whether the writer is one for asyncio.

    Raises:
        ConfigurationError: It is one for the other kind of writer.
    """

    def __init__(self, database: object, *, is_awaited: bool) -> None:
        if _is_awaited(database) is not is_awaited:
            name = "BatchWriter" if is_awaited else "batchwrite.aio.AsyncBatchWriter"
            raise ConfigurationError(f"a {type(database).__name__} needs a {name}")
        self._database = database

    @property
    def engine(self) -> Engine:
        """The engine that the connection is of.

        Raises:
            ConfigurationError: The session has none, or not one for all tables.
        """
        owner = _owner_of(self._database)
        if isinstance(owner, Connection):
            return owner.engine
        try:
            bind = owner.get_bind()
        except Exception as error:
            raise ConfigurationError("the session is bound to no engine, or to several: give a Connection") from error
        return bind.engine

    def check(self, table: Table, engine: Engine) -> None:
        """Make sure that a table is in the database that is written to.

        Raises:
            ItemRefused: The session has it in another.
        """
        owner = _owner_of(self._database)
        if isinstance(owner, Session) and owner.get_bind(clause=table).engine is not engine:
            raise ItemRefused("the session has this table in another database: give its Connection", table=table.name)

    def lend(self) -> Connection:
        """The connection; what the session has not written yet is written first, as before any query.

        Raises:
            FlushFailed: That is refused.
        """
        owner = _owner_of(self._database)  # asked each time: a scoped session may be another by now
        if isinstance(owner, Connection):
            return owner
        try:
            if owner.autoflush:
                owner.flush()
        except Exception as error:
            text = f"what the session holds itself cannot be flushed ({type(error).__name__})"
            fault = Fault(kind=FaultKind.FATAL, error_type=type(error).__name__, message=text, detail=str(error))
            raise FlushFailed(fault) from error
        return owner.connection()


class LentRules(DialectRules):
    """What is otherwise in somebody else's transaction, whatever the database; in front of its own rules.

    Constraints that wait for COMMIT are left to wait: it is not ours, and what they find may be mended before.
    """

    is_lent = True

    def __init__(self) -> None:
        super().__init__()
        self._savepoints: weakref.WeakKeyDictionary[Connection, NestedTransaction] = weakref.WeakKeyDictionary()

    def begin(self, connection: Connection) -> None:
        """Set the chunk's savepoint, and learn what is learnt at a beginning."""
        DialectRules.begin(self, connection)  # before the savepoint: in AUTOCOMMIT there is none
        self.start(connection)
        self._savepoints[connection] = connection.begin_nested()
        super().begin(connection)

    def start(self, connection: Connection) -> None:
        """Make sure that there is a transaction for a savepoint to be in."""

    def commit(self, connection: Connection) -> None:
        """Release the savepoint."""
        self._savepoints.pop(connection).commit()

    def rollback(self, connection: Connection) -> None:
        """Go back to the savepoint. Where it is not there any more, nor is the transaction: whoever asks is told so."""
        savepoint = self._savepoints.pop(connection, None)
        if savepoint is not None and savepoint.is_active:
            savepoint.rollback()

    def before_bulk(self, connection: Connection) -> None:
        """Nothing: see the class."""

    def no_bulk_because(self, connection: Connection) -> str | None:  # noqa: ARG002 - the rules'
        """Nothing: see the class."""
        return None

    def begin_fallback(self, connection: Connection) -> None:
        """Nothing: see the class."""

    def begin_item(self, connection: Connection) -> None:
        """Nothing: see the class."""

    def end_item(self, connection: Connection) -> None:
        """Nothing: see the class."""
