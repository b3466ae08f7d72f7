"""The plain sequential writer that every promise is compared with: one item, one transaction, one statement a write."""

import numbers
import operator
from decimal import Decimal

from sqlalchemy import Engine, Integer, Numeric, Table, and_, delete, insert, inspect, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql import ClauseElement


class Missing(Exception):
    """A row to be changed does not exist."""


def write_sequentially(engine: Engine, items, map_item) -> list[str]:
    """What became of each item: `written`, `skipped`, or `failed` and by which code."""
    outcomes = []
    for item in items:
        out = Recorder(engine.dialect.name)
        try:
            map_item(item, out)
            if out.is_skipped or not out.writes:
                outcomes.append("skipped")
                continue
            with engine.begin() as connection:
                for _, _, is_key_unhit, statement in in_order(out.writes):
                    rows = statement(connection) if callable(statement) else connection.execute(statement).rowcount
                    if is_key_unhit(rows):
                        raise Missing
            outcomes.append("written")
        except Exception as error:
            outcomes.append(f"failed {code_of(error)}")
    return outcomes


class Recorder:
    """Takes the same calls as the collector, and makes one statement of each."""

    def __init__(self, dialect: str):
        self.insert_with_conflict = getattr({"postgresql": postgresql, "sqlite": sqlite}.get(dialect), "insert", None)
        self.writes = []
        self.is_skipped = False

    def record(self, table: Table, statement, *, is_delete=False, is_key_unhit=lambda rows: False):
        self.writes.append((is_delete, table, is_key_unhit, statement))

    def insert(self, table, row):
        self.record(table, insert(table).values(row))

    def upsert(self, table, row, *, key=None, set=None):  # noqa: A002 - as the collector has it
        key = key or [column.name for column in table.primary_key]
        names = [name for name in row if name not in key] if set is None else set
        row = {name: key_value(table.c[name], value) if name in key else value for name, value in row.items()}
        if self.insert_with_conflict is None:
            self.record(table, lambda connection: insert_or_change(connection, table, row, key, names))
            return
        statement = self.insert_with_conflict(table).values(row)
        changes = {name: statement.excluded[name] for name in names}
        if changes:  # SQLAlchemy leaves an `onupdate` out here, which belongs to every change of a row
            touched = (column for column in table.columns if column.onupdate is not None and column.name not in changes)
            changes |= {column.name: column.onupdate.arg for column in touched}
        conflict = {"index_elements": list(key)}
        self.record(
            table,
            statement.on_conflict_do_update(**conflict, set_=changes)
            if changes
            else statement.on_conflict_do_nothing(**conflict),
        )

    def update(self, table, key, values=None, **columns):
        values = {**(values or {}), **columns}
        self.record(table, update(table).where(at(table, key)).values(values), is_key_unhit=lambda rows: rows != 1)

    def increment(self, table, key, deltas=None, **columns):
        deltas = {name: exactly(delta) for name, delta in {**(deltas or {}), **columns}.items()}
        condition = and_(at(table, key), *(table.c[name].is_not(None) for name in deltas))
        changes = {name: table.c[name] + of_column(table.c[name], delta) for name, delta in deltas.items()}
        self.record(table, update(table).where(condition).values(changes), is_key_unhit=lambda rows: rows != 1)

    def delete(self, table, key, *, missing_ok=False):
        unhit = (lambda rows: False) if missing_ok else (lambda rows: rows != 1)
        self.record(table, delete(table).where(at(table, key)), is_delete=True, is_key_unhit=unhit)

    def add(self, instance):
        table = inspect(type(instance)).local_table
        self.record(table, lambda connection: flushed(connection, instance))

    def skip(self, reason=""):
        self.is_skipped = True


def flushed(connection, instance) -> int:
    """The row that the ORM makes of an instance."""
    # The session is given up, not closed, which would undo the transaction.
    session = Session(connection, join_transaction_mode="rollback_only")
    session.add(instance)
    session.flush()
    session.expunge_all()
    return 1


def insert_or_change(connection, table, row, key, names):
    """An upsert where the database has none that minds which key stands in the way."""
    try:
        with connection.begin_nested():
            return connection.execute(insert(table).values(row)).rowcount
    except IntegrityError as error:
        condition = at(table, {name: row[name] for name in key})
        is_there = connection.execute(select(literal(1)).select_from(table).where(condition)).first() is not None
        if code_of(error) != "1062" or not is_there:
            raise
    if names:
        connection.execute(update(table).where(condition).values({name: row[name] for name in names}))
    return 1


def of_column(column, delta):
    """What is added to a column of decimals is sent as one, as what is stored there is."""
    is_number = isinstance(delta, (int, float, Decimal)) and isinstance(column.type, Numeric)
    return literal(delta, column.type) if is_number else delta


def exactly(value):
    """A number of another class (one of numpy's, an enum) as the plain one that it is equal to; all else as it is."""
    if type(value) in {bool, int, float, Decimal}:
        return value
    try:
        if isinstance(value, numbers.Integral):
            return int(operator.index(value))
        if isinstance(value, numbers.Real):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    return value


def key_value(column, value):
    """A row is found by the number that a value is, where the column's type has no say in it."""
    is_whole = isinstance(column.type, Integer) and isinstance(value, numbers.Integral)
    return exactly(value) if is_whole else value


def at(table, key):
    """What finds a row: its key, whose values are of the columns' types, whatever their own."""
    columns = [(table.c[name], key_value(table.c[name], value)) for name, value in key.items()]
    return and_(
        *(
            column == (value if isinstance(value, ClauseElement) else literal(value, column.type))
            for column, value in columns
        )
    )


def in_order(writes):
    """As recorded, but runs of deletes go children first, and the runs between them parents first."""
    ordered, run = [], []
    for write in [*writes, None]:
        if run and (write is None or write[0] != run[0][0]):
            ordered += sorted(run, key=lambda write: depth(write[1]), reverse=run[0][0])
            run = []
        run.append(write)
    return ordered


def depth(table) -> int:
    parents = {key.column.table for key in table.foreign_keys} - {table}
    return 1 + max(map(depth, parents), default=0)


def code_of(error) -> str:
    original = getattr(error, "orig", error)
    if original.args and isinstance(original.args[0], int):  # MariaDB
        return str(original.args[0])
    return getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None) or type(original).__name__
