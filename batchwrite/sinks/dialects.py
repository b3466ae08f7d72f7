"""What differs from database to database, as the SQL sink sees it: the general rules, and where to find others."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from batchwrite.errors import BatchWriteError, ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Constraint, Table
    from sqlalchemy.exc import DBAPIError

    from batchwrite.plan import Block
    from batchwrite.write import Write


class NotReplicated(BatchWriteError):
    """COMMIT was answered, but with a warning: what it committed may be lost should another server take over."""

    def __init__(self) -> None:
        super().__init__(
            "COMMIT was answered with a warning (the wait for a synchronous standby was cancelled, say): "
            "what was written may be lost at a failover"
        )


class DialectRules:
    """The rules for any dialect; subclasses say what their database does otherwise."""

    locks_rows = False
    """Whether rows can, and have to, be locked in order before they are changed."""
    nan_becomes_null = False
    """Whether the database stores NaN as NULL without a word."""
    text_is_exact = False
    """Whether texts are equal in the database exactly where they are in Python, unless a collation says otherwise."""
    folds_texts = False
    """Whether texts are compared by the database's own collations alone, and not by any that somebody has written."""
    survives_errors = False
    """Whether a statement that fails undoes itself alone, so that a transaction can go on without a savepoint."""
    compares_loosely = False
    """Whether texts are compared with numbers, so that a key may name rows that hold something else."""
    overflows_into_real = False
    """Whether a sum that is too large for a whole number becomes a fraction without a word."""
    keeps_sqlite_order = False
    """Whether `sqlite_on_conflict` has a meaning."""
    is_lent = False
    """Whether the transaction is somebody else's, and a chunk a savepoint of it."""
    adds_intervals = False
    """Whether the database can add a time span to a date."""

    def begin(self, connection: Connection) -> None:
        """Begin the chunk's transaction.

        Raises:
            ConfigurationError: The engine commits every statement by itself: a chunk would be no transaction.
        """
        if self.commits_by_itself(connection.connection.driver_connection):
            raise ConfigurationError(
                "the engine is set to AUTOCOMMIT, in which a chunk is no transaction: set another isolation level"
            )

    def commits_by_itself(self, raw: Any) -> bool:
        """Whether a driver's connection commits every statement."""
        return getattr(raw, "autocommit", None) is True

    def end(self, connection: Connection) -> None:
        """Leave the connection as it was found, whatever happened."""

    def expecting_errors(self) -> AbstractContextManager[None]:
        """Around statements whose errors are handled here: drivers need not log them."""
        return nullcontext()

    def before_bulk(self, connection: Connection) -> None:
        """Make sure that a bulk write meets its constraints no later than its items one by one would."""

    def no_bulk_because(self, connection: Connection) -> str | None:  # noqa: ARG002 - for those that override it
        """Why a bulk write cannot be made sure to do that, if so: the items are written one by one then."""
        return None

    def require(self, connection: Connection, table: Table) -> None:
        """Called before anything is written to a table.

        Raises:
            ConfigurationError: What is written there could not be undone.
        """

    def check(self, connection: Connection, block: Block) -> None:
        """Called before rows are written.

        Raises:
            ItemRefused: The database would write something else than it is asked to, without a word.
        """

    def no_upsert_because(self, connection: Connection, write: Write) -> str | None:  # noqa: ARG002 - likewise
        """Why what `insert` gives cannot do for such an upsert, if so: it is done by hand then."""
        return None

    def hits_another_key(self, error: DBAPIError) -> bool:  # noqa: ARG002 - likewise
        """Whether what `insert` gives has failed because the row that stands in the way has another key."""
        return False

    def sends_singly(self, connection: Connection, statement: Any, columns: tuple[str, ...]) -> bool:  # noqa: ARG002 - likewise
        """Whether the driver's `executemany` sends rows of some columns one by one, or cannot be trusted with them."""
        return False

    def ready(self, connection: Connection, statement: Any, columns: tuple[str, ...]) -> Any:  # noqa: ARG002 - likewise
        """What to execute, for rows of some columns, in place of a statement that is kept: perhaps it is compiled."""
        return statement

    def constraint_name(self, constraint: Constraint) -> str | None:
        """The name that the database's errors have for a constraint, as far as it can be known."""
        return constraint.name if isinstance(constraint.name, str) else None

    def escaped(self, connection: Connection, statement: str) -> str:
        """A statement for `exec_driver_sql`, with `%` doubled for drivers that look for parameters in it."""
        return statement.replace("%", "%%") if connection.dialect.paramstyle in {"format", "pyformat"} else statement

    def begin_fallback(self, connection: Connection) -> None:
        """Called before items are written one by one."""

    def begin_item(self, connection: Connection) -> None:
        """Called in an item's savepoint before its writes."""

    def end_item(self, connection: Connection) -> None:
        """Raise now what would be raised when the item's own transaction was committed."""

    def before_commit(self, connection: Connection) -> None:
        """Raise unless a COMMIT now would commit."""

    def commit(self, connection: Connection) -> None:
        """Commit the transaction.

        Raises:
            NotReplicated: It is committed, and may be lost.
        """
        connection.commit()

    def note_doubt(self) -> None:
        """A COMMIT got no answer, or none to be relied on: what is read next is to be what stays."""

    def rollback(self, connection: Connection) -> None:
        """Undo the transaction, also where a COMMIT has just failed."""
        connection.rollback()

    def has_undone_all(self, connection: Connection) -> bool:  # noqa: ARG002 - likewise
        """Whether the database has undone the whole transaction by itself, where a statement has failed."""
        return False

    def insert(self, table: Table) -> Any:  # noqa: ARG002 - for those that override it
        """An INSERT that knows `on_conflict_do_update` and `on_conflict_do_nothing`; nothing where there is none."""
        return None
