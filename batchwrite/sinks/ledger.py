"""The ledger in the user's own database: its tables, made by an explicit call, and what is read from them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    literal,
    select,
)
from sqlalchemy.dialects.mysql import DATETIME, MEDIUMTEXT, VARCHAR
from sqlalchemy.exc import IntegrityError

from batchwrite.errors import ConfigurationError
from batchwrite.ledger import BookRows, Entry
from batchwrite.letters import Letter
from batchwrite.sinks.qualified import equals, is_above, is_below, is_one_of, most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection, Select

# Entries read at a time when a run goes on.
_PAGE = 500

MOST_OF_A_RUN_ID = 200
"""Most characters of a run's name."""

MOST_OF_A_SCOPE = 100
"""Most characters of the scope of idempotency keys."""

_LONG_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")

# On MariaDB and MySQL a table can have an engine that knows no transactions, and an encoding that lacks characters.
_OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"))
}


def _name(length: int) -> String:
    """A text that names something: two that differ in case alone are two, whatever the database's collation."""
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


class Ledger:
    """A record of each committed chunk, in the database that the chunks are written to.

    With it, a COMMIT that gets no answer is looked up instead of guessed at, and a run that is started again goes on
    behind its last committed chunk. It takes one row a chunk, which is written and committed with the chunk.

    Args:
        schema: The schema of its tables; default the one that the database takes where none is named. An engine's
            `schema_translate_map` translates it, as it does for any table.
        prefix: What the names of its tables begin with.

    Raises:
        ConfigurationError: They are no texts.

    Attributes:
        metadata: The tables, for migrations: `<prefix>chunks`, `<prefix>dead_letters`, `<prefix>keys`
            and `<prefix>runs`.
    """

    def __init__(self, *, schema: str | None = None, prefix: str = "batchwrite_") -> None:
        if not (isinstance(schema, str | None) and isinstance(prefix, str)):
            raise ConfigurationError("the schema and the prefix of a ledger are texts")
        self.metadata = MetaData(schema=schema)
        self.chunks = Table(
            f"{prefix}chunks",
            self.metadata,
            Column("run_id", _name(MOST_OF_A_RUN_ID), primary_key=True),
            Column("first_item", BigInteger, primary_key=True, autoincrement=False),
            Column("items", Integer, nullable=False),
            Column("fingerprint", String(64), nullable=False),
            Column("written", Integer, nullable=False),
            Column("failed", Integer, nullable=False),
            Column("skipped", Integer, nullable=False),
            Column("failures", _LONG_TEXT, nullable=False),
            Column("written_at", DateTime(timezone=True), server_default=func.current_timestamp()),
            **_OPTIONS,
        )
        self.dead_letters = Table(
            f"{prefix}dead_letters",
            self.metadata,
            Column("run_id", _name(MOST_OF_A_RUN_ID), primary_key=True),
            Column("item_index", BigInteger, primary_key=True, autoincrement=False),
            Column("attempt", Integer, primary_key=True, autoincrement=False),
            Column("item", _LONG_TEXT, nullable=False),
            Column("stage", String(20), nullable=False),
            Column("error_type", String(200), nullable=False),
            Column("message", _LONG_TEXT, nullable=False),
            Column("sqlstate", String(100)),
            Column("table_name", Text),
            Column("column_name", Text),
            Column("constraint_name", Text),
            Column("detail", _LONG_TEXT),
            Column("failed_at", DateTime(timezone=True), server_default=func.current_timestamp()),
            Column("landed_at", DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")),
            **_OPTIONS,
        )
        self.runs = Table(
            f"{prefix}runs",
            self.metadata,
            Column("run_id", _name(MOST_OF_A_RUN_ID), primary_key=True),
            Column("job", _LONG_TEXT, nullable=False),
            Column("started_at", DateTime(timezone=True), server_default=func.current_timestamp()),
            **_OPTIONS,
        )
        self.keys = Table(
            f"{prefix}keys",
            self.metadata,
            Column("scope", _name(MOST_OF_A_SCOPE), primary_key=True),
            Column("item_key", _name(128), primary_key=True),
            Column("run_id", _name(MOST_OF_A_RUN_ID), nullable=False),
            Column("landed_at", DateTime(timezone=True), nullable=False, server_default=func.current_timestamp()),
            **_OPTIONS,
        )

    def create(self, engine: Engine) -> None:
        """Make the tables that are not there yet; the schema must exist.

        Raises:
            ConfigurationError: What is given is no engine.
            sqlalchemy.exc.SQLAlchemyError: The database refuses.
        """
        if not isinstance(engine, Engine):
            raise ConfigurationError(f"the ledger is made by an Engine, not by a {type(engine).__name__}")
        self.metadata.create_all(engine)

    def job(self, engine: Engine, run_id: str) -> str | None:
        """What has been remembered of a run (see `remember`), if anything has."""
        with engine.connect() as connection:
            job: str | None = connection.scalar(select(self.runs.c.job).where(equals(self.runs.c.run_id, run_id)))
            return job

    def remember(self, engine: Engine, run_id: str, job: str) -> str:
        """Remember of a run what it does, so that its items can be written again in the same way.

        Args:
            engine: The database.
            run_id: The run.
            job: What it does, in the caller's terms.

        Returns:
            What is remembered: what has been before, if the run was started before.
        """
        known = self.job(engine, run_id)
        if known is not None:
            return known
        try:
            with engine.begin() as connection:
                connection.execute(insert(self.runs), {"run_id": run_id, "job": job})
        except IntegrityError:  # somebody else was faster
            return self.job(engine, run_id) or job
        return job

    def forget_keys(self, engine: Engine, *, scope: str = "", older_than: timedelta) -> int:
        """Forget idempotency keys: items that have them are no duplicates any more.

        Args:
            engine: The database.
            scope: The keys' scope.
            older_than: How long ago the items have landed, at least.

        Returns:
            How many are forgotten.
        """
        with engine.begin() as connection:
            return self.forget_keys_on(connection, scope=scope, older_than=older_than)

    def forget_keys_on(self, connection: Connection, *, scope: str = "", older_than: timedelta) -> int:
        """As `forget_keys`, in the transaction of a connection."""
        keys = self.keys
        now = connection.scalar(select(func.current_timestamp()))
        old = delete(keys).where(equals(keys.c.scope, scope), is_below(keys.c.landed_at, _as_time(now) - older_than))
        return connection.execute(old).rowcount

    def require(self, engine: Engine | Connection) -> None:
        """Make sure that the tables are there: in the schemas to which the engine or connection translates theirs.

        Raises:
            ConfigurationError: They are not.
        """
        if isinstance(engine, Engine):
            with engine.connect() as connection:
                self.require(connection)
            return
        for table in self.metadata.sorted_tables:
            schema = engine.schema_for_object(table)
            if not _is_there(engine, table.name, schema):
                name = f"{schema}.{table.name}" if schema else table.name
                raise ConfigurationError(
                    f"the ledger's table {name} does not exist:"
                    " make it with Ledger.create, or `batchwrite ledger create`"
                )


class SqlLedger:
    """A ledger as the engine sees it.

    Args:
        ledger: The tables.
        read: Gives the rows of a query, or raises `FlushFailed`.
    """

    def __init__(self, ledger: Ledger, read: Callable[[Select[Any]], Sequence[Mapping[str, Any]]]) -> None:
        self._chunks, self._letters, self._keys = ledger.chunks, ledger.dead_letters, ledger.keys
        self._read = read

    def entries(self, run_id: str) -> Iterator[Entry]:
        """As `LedgerStore.entries`."""
        table, last = self._chunks, -1
        while True:
            behind = equals(table.c.run_id, run_id) & is_above(table.c.first_item, last)
            rows = self._read(select(table).where(behind).order_by(table.c.first_item).limit(_PAGE))
            for row in rows:
                yield Entry.from_row(row)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["first_item"]

    def entries_of_parked(self, run_id: str) -> list[Entry]:
        """As `LedgerStore.entries_of_parked`."""
        table = self._chunks
        query = select(table).where(equals(table.c.run_id, run_id), is_below(table.c.first_item, 0))
        return [Entry.from_row(row) for row in self._read(query.order_by(table.c.first_item.desc()))]

    def find(self, run_id: str, first_item: int) -> Entry | None:
        """As `LedgerStore.find`."""
        table = self._chunks
        rows = self._read(select(table).where(equals(table.c.run_id, run_id), equals(table.c.first_item, first_item)))
        return Entry.from_row(rows[0]) if rows else None

    def rows_of(self, entry: Entry) -> BookRows:
        """As `LedgerStore.rows_of`."""
        return BookRows(self._chunks, [entry.row()])

    def rows_of_letters(self, letters: Sequence[Letter]) -> BookRows:
        """As `LedgerStore.rows_of_letters`."""
        return BookRows(self._letters, [letter.row() for letter in letters])

    def letters(self, run_id: str) -> Iterator[Letter]:
        """The letters of a run whose items have not landed, the last of each item, in the items' order.

        Raises:
            FlushFailed: They cannot be read.
        """
        table, last = self._letters, -1
        own = table.alias("own")
        attempts = select(most(own.c.attempt)).where(
            equals(own.c.run_id, table.c.run_id), equals(own.c.item_index, table.c.item_index)
        )
        while True:
            wanted = equals(table.c.run_id, run_id) & is_above(table.c.item_index, last)
            is_last = equals(table.c.attempt, attempts.scalar_subquery())
            query = select(table).where(wanted, table.c.landed_at.is_(None), is_last)
            rows = self._read(query.order_by(table.c.item_index).limit(_PAGE))
            yield from map(Letter.from_row, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["item_index"]

    def landed_since(self, run_id: str) -> set[int]:
        """Positions of the failed items of a run that a retry has written.

        Raises:
            FlushFailed: They cannot be read.
        """
        table = self._letters
        query = select(table.c.item_index).where(table.c.run_id == run_id, table.c.landed_at.is_not(None))
        return {row["item_index"] for row in self._read(query)}

    def rows_of_keys(self, scope: str, keys: Sequence[str], run_id: str) -> BookRows:
        """As `LedgerStore.rows_of_keys`."""
        return BookRows(self._keys, [{"scope": scope, "item_key": key, "run_id": run_id} for key in sorted(keys)])

    def seen(self, scope: str, keys: Sequence[str]) -> set[str]:
        """As `LedgerStore.seen`."""
        table = self._keys
        found: set[str] = set()
        for start in range(0, len(keys), _PAGE):
            wanted = is_one_of(table.c.item_key, keys[start : start + _PAGE])
            rows = self._read(select(table.c.item_key).where(equals(table.c.scope, scope), wanted))
            found.update(row["item_key"] for row in rows)
        return found


def _is_there(connection: Connection, name: str, schema: str | None) -> bool:
    if connection.dialect.name != "postgresql":
        return inspect(connection).has_table(name, schema=schema)
    # SQLAlchemy's question has names without their schema in it, which may mean somebody else's functions.
    quote = connection.dialect.identifier_preparer.quote
    quoted = f"{quote(schema)}.{quote(name)}" if schema else quote(name)
    query = select(func.pg_catalog.to_regclass(literal(quoted.replace("%%", "%"))).is_not(None))
    return bool(connection.scalar(query))


def _as_time(now: Any) -> datetime:
    """The time now as the database has it, which SQLite gives as a text."""
    return now if isinstance(now, datetime) else datetime.fromisoformat(str(now))
