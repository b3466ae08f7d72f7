"""What a case of the fuzzer is: tables, items, and how they are written; and the same as a script.

All parts are pieces of Python or SQL, so that what is printed is what was run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from odd_values import IMPORTS, sources_of

Row = Mapping[str, str]  # source of a value by column

FEWEST_FOR_COPY, WINDOW = 100, 60  # what the library has


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzTable:
    """A table of a case.

    Attributes:
        columns: By name, the source of what follows the name in `Column(…)`.
        parts: Sources of further arguments of `Table(…)`.
        after: Lines of Python that come behind the table's.
        ddl: Statements that are executed once all tables are there.
        parent: The table that column `p` refers to.
        generates_key: Whether the database numbers the rows: which gets which number is nobody's promise.
        is_made_by_ddl: Whether `ddl` makes it (a view) and not SQLAlchemy.
    """

    name: str
    columns: Mapping[str, str]
    parts: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    ddl: tuple[str, ...] = ()
    parent: str | None = None
    generates_key: bool = False
    is_made_by_ddl: bool = False

    def lines(self) -> Iterator[str]:
        metadata = "views" if self.is_made_by_ddl else "metadata"
        yield f"{self.name} = Table("
        yield f'    "{self.name}",'
        yield f"    {metadata},"
        for name, source in self.columns.items():
            yield f'    Column("{name}", {source}),'
        for part in self.parts:
            yield f"    {part},"
        yield ")"
        yield from self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzWrite:
    """A call on the collector; `options` are the sources of keyword arguments."""

    method: str
    table: str
    key: Row = field(default_factory=dict)
    values: Row = field(default_factory=dict)
    options: Row = field(default_factory=dict)

    def line(self) -> str:
        key, values = map(_shown, (self.key, self.values))
        options = "".join(f", {name}={source}" for name, source in self.options.items())
        if self.method == "add":
            return f"out.add(made({self.table}, {values}))"
        if self.method in {"insert", "upsert"}:
            return f"out.{self.method}({self.table}, {values}{options})"
        if self.method == "delete":
            return f"out.delete({self.table}, {key}{options})"
        return f"out.{self.method}({self.table}, {key}, {values})"


def _shown(row: Row) -> str:
    return "{" + ", ".join(f'"{name}": {source}' for name, source in row.items()) + "}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """Stands between items: what somebody else does to a table meanwhile."""

    sql: str


FuzzItem = tuple[FuzzWrite, ...] | Alteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the items are written.

    Attributes:
        way: `stream`, `run`, `in_session` or `general`, which is the sink for drivers that have no pipelines.
    """

    way: str = "stream"
    chunk_size: int = 1
    workers: int = 0
    has_ledger: bool = False
    fewest_for_copy: int = FEWEST_FOR_COPY
    window: int = WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzCase:
    """A case: all that it takes to run it. `theme` says what it was drawn for."""

    database: str
    theme: str
    tables: tuple[FuzzTable, ...]
    planted: tuple[tuple[str, Row], ...] = ()
    items: tuple[FuzzItem, ...]
    settings: tuple[str, ...] = ()
    is_as_role: bool = False  # whether a role writes that may not pass row-level security by
    manner: Manner = Manner()

    @property
    def alters_between_chunks(self) -> bool:
        """Whether alterations come between chunks only: within one, nobody can say which items they come before."""
        count = 0
        for item in self.items:
            if not isinstance(item, Alteration):
                count += 1
            elif count % self.manner.chunk_size:
                return False
        return True

    @property
    def schema(self) -> tuple[object, ...]:
        """What the tables are made of: cases with equal ones can have the same tables."""
        return self.definitions_of_tables(), tuple(self.ddl()), self.is_as_role

    def ddl(self) -> list[str]:
        return [statement for table in self.tables for statement in table.ddl]

    def definitions_of_tables(self) -> str:
        """Python that makes `metadata` and the tables."""
        return "\n".join(
            ["metadata, views = MetaData(), MetaData()", *chain(*(table.lines() for table in self.tables))]
        )

    def definitions_of_items(self) -> str:
        """Python that makes `items`, a list of functions and statements, and `planted`."""
        lines = []
        for number, item in enumerate(self.items):
            if not isinstance(item, Alteration):
                lines += ["", f"def item_{number}(out):", *(f"    {write.line()}" for write in item or ())]
                lines += [] if item else ["    pass"]
        names = [
            repr(item.sql) if isinstance(item, Alteration) else f"item_{number}"
            for number, item in enumerate(self.items)
        ]
        lines += ["", f"items = [{', '.join(names)}]"]
        planted = [f"({name}, {_shown(row)})" for name, row in self.planted]
        return "\n".join([*lines, f"planted = [{', '.join(planted)}]", ""])

    def definitions(self) -> str:
        """Python for all of it."""
        return f"{self.definitions_of_tables()}\n{self.definitions_of_items()}"


MADE = '''
def made(table, values):
    """An instance of a class that is mapped to a table."""
    mapped = MAPPED.setdefault(table, type(table.name, (), {}))
    if sa.inspect(mapped, raiseerr=False) is None:
        sa.orm.registry().map_imperatively(mapped, table)
    return mapped(**{}) if not values else _filled(mapped(), values)

def _filled(instance, values):
    for name, value in values.items():
        setattr(instance, name, value)
    return instance
'''

_SCRIPT = '''\
"""{title}

Give the URL of an empty database. Item by item, each in a transaction of its own, SQLAlchemy Core ends with:
    {statuses}
"""
{imports}import sqlalchemy.orm
from batchwrite import BatchWriter, Ledger
{patches}
MAPPED = {{}}
{helpers}
{made}
{definitions}
admin = create_engine(sys.argv[1])
engine = create_engine(sys.argv[1])

@event.listens_for(engine, "connect")
def set_up(connection, _record):
    cursor = connection.cursor()
    for statement in {settings!r}:
        cursor.execute(statement)
    connection.commit()

with admin.begin() as connection:
    metadata.create_all(connection)
    for statement in {ddl!r}:
        connection.exec_driver_sql(statement)
    for table, row in planted:
        connection.execute(table.insert().values(row))
{ledger}
def given():
    for item in items:
        if isinstance(item, str):
            with admin.begin() as connection:
                connection.exec_driver_sql(item)
        else:
            yield item

{run}
for table in [*metadata.sorted_tables, *views.sorted_tables]:
    with admin.connect() as connection:
        print(table.name, connection.execute(table.select()).all())
'''

_RUN = """\
stream = {writer}.stream(given(), lambda item, out: item(out))
for outcome in stream:
    print(outcome, outcome.failure and outcome.failure.detail)
print(stream.result)
"""
_IN_SESSION = """\
with engine.begin() as connection:
    stream = BatchWriter.in_session(connection, chunk_size={size}).stream(given(), lambda item, out: item(out))
    for outcome in stream:
        print(outcome, outcome.failure and outcome.failure.detail)
    print(stream.result)
"""


def script(case: FuzzCase, *, title: str, statuses: list[str], set_up: tuple[str, ...]) -> str:
    """A script that stands alone: what the case does, and what it should have done."""
    manner = case.manner
    patches = ""
    if (manner.fewest_for_copy, manner.window) != (FEWEST_FOR_COPY, WINDOW):
        patches = "from batchwrite.sinks.postgresql import bulk, fallback\n"
        patches += f"bulk._FEWEST_FOR_COPY, fallback._WINDOW = {manner.fewest_for_copy}, {manner.window}\n"
    ledger = "ledger=Ledger(), " if manner.has_ledger else ""
    writer = f"BatchWriter(engine, {ledger}chunk_size={manner.chunk_size}, workers={manner.workers})"
    run = _RUN.format(writer=writer)
    if manner.way == "general":
        run = "from batchwrite.sinks.choose import sink_for\nfrom batchwrite.sinks.sql import SqlSink\n"
        run += f"writer = {writer}\nwriter._runs._sink = SqlSink(engine, sink_for(engine)._rules)\n"
        run += _RUN.format(writer="writer")
    elif manner.way == "in_session":
        run = _IN_SESSION.format(size=manner.chunk_size)
    definitions = case.definitions()
    return _SCRIPT.format(
        title=title,
        statuses=statuses,
        imports=IMPORTS,
        patches=patches,
        helpers=sources_of(definitions),
        made=MADE if "made(" in definitions else "",
        definitions=definitions,
        settings=list(set_up),
        ddl=case.ddl(),
        ledger="Ledger().create(admin)\n" if manner.has_ledger else "",
        run=run,
    )
