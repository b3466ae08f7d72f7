"""Runs a case item by item, by `reference`, and by the library, and says what differs."""

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import sqlalchemy as sa
import sqlalchemy.orm
from databases import set_up_sqlite
from fuzz_case import MADE, FuzzCase
from fuzz_findings import Finding, HangError, Ran, breach, may_differ, outcomes, refused_in_words, rows
from fuzz_tables import ROLE
from fuzz_types import MARIADB, POSTGRESQL, SQLITE
from odd_values import NAMESPACE
from pymysql import converters
from reference import exactly, write_sequentially
from sqlalchemy import Engine, create_engine, event

from batchwrite import BatchWriter, Ledger
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.postgresql import bulk, fallback
from batchwrite.sinks.sql import SqlSink

PATIENCE_SECONDS = 30

_LOG = logging.getLogger("batchwrite")


class InvalidCase(Exception):
    """The tables cannot be made: nobody's fault but the generator's."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What a comparison has come to: a finding or none, and whether the case was one of those that may differ."""

    finding: Finding | None = None
    may_differ: bool = False
    refusals: list[str] = field(default_factory=list)
    items: int = 0


class Comparer:
    """Runs cases on one database; tables are kept for as long as cases have the same ones.

    Args:
        engine: An engine on it, whose sessions have no settings of their own.
    """

    def __init__(self, engine: Engine) -> None:
        self._url = engine.url
        self._dialect = engine.dialect.name
        self._kept: object = None  # the schema whose tables are there
        self._namespace: dict[str, Any] = {}  # with them
        self._engines: dict[object, Engine] = {}
        self._admin = create_engine(engine.url, pool_pre_ping=True, **_patience(engine.url))
        if self._dialect == SQLITE:
            event.listen(self._admin, "connect", set_up_sqlite)
        self._prepare()
        self._level = _LOG.level
        _LOG.setLevel(logging.CRITICAL)

    def close(self) -> None:
        """Leave the database empty, and the log as it was."""
        _LOG.setLevel(self._level)
        self.drop()
        self._admin.dispose()

    def _prepare(self) -> None:
        if self._dialect != POSTGRESQL:
            return
        role = f"CREATE ROLE {ROLE}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL"
        self._execute(f"DO $$ BEGIN {role}; END $$", f"GRANT ALL ON SCHEMA public TO {ROLE}")
        for name in ("ltree", "hstore", "citext"):
            self._execute(f"CREATE EXTENSION IF NOT EXISTS {name}")

    def _execute(self, *statements: str) -> None:
        with self._admin.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    # ---- a case

    def compare(self, case: FuzzCase) -> Verdict:
        """Run the case both ways.

        Raises:
            InvalidCase: It cannot be run.
        """
        if not case.alters_between_chunks:
            raise InvalidCase("it alters a table in the middle of a chunk")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SQLAlchemy's, numpy's and pandas'; as errors they would be exceptions
            return self._compared(case)

    def _compared(self, case: FuzzCase) -> Verdict:
        expected = self._by_reference(case)
        with self._tables(case) as (namespace, engine):
            ran = self._by_library(case, namespace, engine)
        verdict = Verdict(items=len(expected.statuses))
        verdict.finding = breach(case, ran, expected)
        if verdict.finding:
            return verdict
        refused: list[int] = []
        while more := refused_in_words(case, ran, expected):
            refused += more  # without them, others may do more than with them
            expected = self._by_reference(case, without=refused)
        verdict.refusals = [ran.failures[place].message for place in refused]
        self._judge(case, ran, expected, verdict)
        return verdict

    def _judge(self, case: FuzzCase, ran: Ran, expected: Ran, verdict: Verdict) -> None:
        differing = [
            place for place, pair in enumerate(zip(ran.statuses, expected.statuses, strict=True)) if pair[0] != pair[1]
        ]
        if differing and all(may_differ(case, place, ran, expected) for place in differing):
            verdict.may_differ = True
        elif differing:
            verdict.finding = outcomes(case, ran, expected, differing)
        elif ran.rows != expected.rows:
            verdict.finding = rows(case, ran, expected)

    def _by_reference(self, case: FuzzCase, without: Sequence[int] = ()) -> Ran:
        with self._tables(case, is_reference=True) as (namespace, engine):

            def map_item(pair, out):
                place, item = pair
                if place in without:
                    raise ValueError("the library says in words that it does not take this")
                item(out)

            given = enumerate(self._given(namespace))
            told = write_sequentially(engine, given, map_item)
            return Ran(statuses=[words.split()[0] for words in told], told=told, rows=self._rows(case))

    def _by_library(self, case: FuzzCase, namespace: dict[str, Any], engine: Engine) -> Ran:
        ran = Ran()
        manner = case.manner
        patches = [
            patch.object(bulk, "_FEWEST_FOR_COPY", manner.fewest_for_copy),
            patch.object(fallback, "_WINDOW", manner.window),
        ]
        with contextlib.ExitStack() as stack, _patient():
            for each in patches:
                stack.enter_context(each)
            try:
                self._write(case, namespace, engine, ran)
            except (Exception, HangError) as error:
                ran.raised = error
        ran.held = engine.pool.checkedout()
        if ran.raised is not None or ran.held:
            engine.dispose()  # whatever is still open must not keep locks
        if not isinstance(ran.raised, HangError):
            ran.rows = self._rows(case)
        return ran

    def _write(self, case: FuzzCase, namespace: dict[str, Any], engine: Engine, ran: Ran) -> None:
        manner, given = case.manner, self._given(namespace)
        options: dict[str, Any] = {"ledger": Ledger()} if manner.has_ledger and manner.way != "in_session" else {}
        if manner.way == "in_session":
            with engine.begin() as connection:
                writer = BatchWriter.in_session(connection, chunk_size=manner.chunk_size)
                _follow(writer.stream(given, _call), ran)
            return
        writer = BatchWriter(engine, chunk_size=manner.chunk_size, workers=manner.workers, **options)
        if manner.way == "general":
            writer._runs._sink = SqlSink(engine, sink_for(engine)._rules)
        if manner.way == "run":
            ran.result = writer.run(given, _call)
            ran.failures = {failure.index: failure for failure in ran.result.failures}
            ran.statuses = _statuses_of(ran.result)
        else:
            _follow(writer.stream(given, _call), ran)

    def _given(self, namespace: dict[str, Any]) -> Iterator[Callable[[Any], None]]:
        """The items, and between them what somebody else does to the tables."""
        for item in namespace["items"]:
            if isinstance(item, str):
                self._kept = None  # the tables are no longer what they were
                self._execute(item)
            else:
                yield item

    # ---- tables

    @contextmanager
    def _tables(self, case: FuzzCase, *, is_reference: bool = False) -> Iterator[tuple[dict[str, Any], Engine]]:
        """The tables with what is planted, the items, and an engine whose sessions are set up as the case says."""
        if self._kept == case.schema:
            self._empty(case)
        else:
            self.drop()
            self._namespace = _executed(MADE + case.definitions_of_tables(), _FIRST)
            self._make(case, self._namespace)
            self._kept = case.schema
        namespace = _executed(case.definitions_of_items(), self._namespace)
        self._plant(namespace["planted"])
        yield namespace, self._engine_for(case, is_reference=is_reference)

    def _plant(self, planted: Sequence[tuple[sa.Table, dict[str, Any]]]) -> None:
        """Insert what the tables take of some rows."""
        try:
            with self._admin.begin() as connection:
                for table, row in planted:
                    connection.execute(table.insert().values(row))
        except Exception:
            for table, row in planted:
                with contextlib.suppress(Exception), self._admin.begin() as connection:
                    connection.execute(table.insert().values(row))

    def _make(self, case: FuzzCase, namespace: dict[str, Any]) -> None:
        try:
            with self._admin.begin() as connection:
                namespace["metadata"].create_all(connection, checkfirst=False)
                Ledger().metadata.create_all(connection, checkfirst=False)
                for statement in case.ddl():
                    connection.exec_driver_sql(statement)
        except Exception as error:
            raise InvalidCase(str(error)) from error
        if case.is_as_role:
            self._execute(
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}",
                f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
            )

    def _empty(self, case: FuzzCase) -> None:
        names = [f"{table.name}_base" if table.is_made_by_ddl else table.name for table in reversed(case.tables)]
        self._execute(*(f"DELETE FROM {name}" for name in names))

    def drop(self) -> None:
        """Drop all that there is, and close the connections that know of it."""
        self._kept = None
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
        if self._dialect == POSTGRESQL:
            self._execute(_DROP_POSTGRESQL)
            return
        off, on = _CHECKS_OF_FOREIGN_KEYS[self._dialect]  # rows may refer to none, where a case has switched them off
        with self._admin.connect() as connection:
            connection.exec_driver_sql(off)
            inspector = sa.inspect(connection)
            for name in inspector.get_view_names():
                connection.exec_driver_sql(f"DROP VIEW {name}")
            for name in inspector.get_table_names():
                connection.exec_driver_sql(f"DROP TABLE {name}")
            connection.commit()
            connection.exec_driver_sql(on)

    def _engine_for(self, case: FuzzCase, *, is_reference: bool) -> Engine:
        """An engine for one of the ways; both begin their sessions in the same manner."""
        key = (is_reference, set_up_of(case))
        if key not in self._engines:
            options = _patience(self._url)
            if is_reference and self._dialect == POSTGRESQL:
                # What psycopg prepares it may lose again: issues 563 and 585 of its own.
                options["connect_args"]["prepare_threshold"] = None
            if is_reference and self._dialect == MARIADB:
                options["connect_args"]["conv"] = _ENCODERS
            engine = self._engines[key] = create_engine(self._url, **options)
            event.listen(engine, "connect", _set_up(set_up_of(case), is_sqlite=self._dialect == SQLITE))
        return self._engines[key]

    # ---- what is there

    def _rows(self, case: FuzzCase) -> dict[str, list[str]]:
        """Every row as the database itself writes it; what the database numbers is known by its other columns."""
        found: dict[str, list[str]] = {}
        named: dict[str, dict[str, str]] = {}
        with self._admin.connect() as connection:
            for table in case.tables:
                columns = list(table.columns)
                texts = ", ".join(f"{_AS_TEXT[self._dialect].format(name)} AS {name}" for name in columns)
                rows = []
                named[table.name] = {}
                for row in connection.exec_driver_sql(f"SELECT {texts} FROM {table.name}").mappings():
                    values = {name: _plain(value) for name, value in row.items()}
                    parents = named.get(table.parent or "", {})
                    if table.parent and "p" in values:
                        values["p"] = parents.get(values["p"], values["p"])
                    if table.generates_key:
                        key = values.pop("id")
                        named[table.name][key] = repr(values)
                    rows.append(repr(values))
                found[table.name] = sorted(rows)
        return found


_FIRST = {**NAMESPACE, "sa": sa, "__name__": "case"}


def _executed(text: str, names: dict[str, Any]) -> dict[str, Any]:
    """Some names, and those that a text of Python adds.

    Raises:
        InvalidCase: The text cannot be executed: what is left after shrinking need not be a table any more.
    """
    namespace = {"MAPPED": {}, **names}
    try:
        exec(compile(text, "<case>", "exec"), namespace)  # noqa: S102 - our own text
    except Exception as error:
        raise InvalidCase(str(error)) from error
    return namespace


_CHECKS_OF_FOREIGN_KEYS = {
    SQLITE: ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
    MARIADB: ("SET foreign_key_checks = 0", "SET foreign_key_checks = 1"),
}
_AS_TEXT = {SQLITE: "quote({})", POSTGRESQL: "{}::text", MARIADB: "HEX({})"}
_DROP_POSTGRESQL = """
DO $$ DECLARE name text; BEGIN
FOR name IN SELECT 'DROP TABLE ' || oid::regclass || ' CASCADE' FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
LOOP EXECUTE name; END LOOP;
FOR name IN SELECT 'DROP TYPE ' || oid::regtype || ' CASCADE' FROM pg_type t
    WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
LOOP EXECUTE name; END LOOP;
FOR name IN SELECT 'DROP FUNCTION ' || oid::regprocedure || ' CASCADE' FROM pg_proc p
    WHERE pronamespace = 'public'::regnamespace AND prorettype = 'trigger'::regtype
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
LOOP EXECUTE name; END LOOP;
END $$
"""


def _plain(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _call(item: Callable[[Any], None], out: Any) -> None:
    item(out)


def _follow(stream: Any, ran: Ran) -> None:
    for outcome in stream:
        ran.statuses.append(str(outcome.status))
        if outcome.failure is not None:
            ran.failures[outcome.index] = outcome.failure
    ran.result = stream.result


def _statuses_of(result: Any) -> list[str]:
    """What became of each item, as far as a result tells; skipped ones, of which there are none here, it does not."""
    failed = {failure.index for failure in result.failures}
    return ["failed" if place in failed else "written" for place in range(result.received)]


def set_up_of(case: FuzzCase) -> tuple[str, ...]:
    """Statements that every session of a case begins with."""
    own = ("PRAGMA foreign_keys = ON", "PRAGMA synchronous = OFF") if case.database == SQLITE else ()
    role = (f"SET ROLE {ROLE}",) if case.is_as_role else ()
    return (*own, *case.settings, *role)


def _set_up(statements: Sequence[str], *, is_sqlite: bool) -> Callable[..., None]:
    def set_up(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        if not is_sqlite:
            connection.commit()

    return set_up


def _encode_number(value: Any, encoders: Any) -> str:
    return str(converters.escape_item(exactly(value), "utf8mb4", mapping=encoders))


# PyMySQL sends what it does not know as the text that `str` makes of it; numbers of numpy's are meant as numbers.
_NUMPY = [
    kind for kind in np.sctypeDict.values() if issubclass(kind, np.number) and not issubclass(kind, np.complexfloating)
]
_ENCODERS = {**converters.conversions, **dict.fromkeys(_NUMPY, _encode_number)}


def _patience(url: sa.URL) -> dict[str, Any]:
    """Options of an engine that does not wait for ever for a lock that somebody has kept."""
    name = url.get_backend_name()
    if name == POSTGRESQL:
        return {"connect_args": {"options": "-c lock_timeout=10s"}}
    if name == SQLITE:
        return {"connect_args": {"timeout": 10}}
    return {"connect_args": {"init_command": "SET SESSION innodb_lock_wait_timeout=10, SESSION lock_wait_timeout=10"}}


@contextmanager
def _patient() -> Iterator[None]:
    """Ends what takes too long."""

    def end(_number: int, _frame: object) -> None:
        raise HangError(f"no end after {PATIENCE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
