"""Every statement that the library sends to PostgreSQL, met by every fault: nothing is lost, and nothing is twice.

A run in which nothing goes wrong tells which statements are sent; then there is a run for each of them and each fault,
of which the default run draws one for each statement. So a new statement is swept as soon as a workload sends it, and
one that no workload sends is found by the last tests.
"""

import re
from functools import partial

import pytest
from accounts import COUNTED
from messages import as_label
from sending_places import lines_run, not_come_by
from sweep import faults_before, lanes, sweep
from workloads import WORKLOADS

from batchwrite.sinks.postgresql import sink

_LANES = 4


@pytest.fixture(autouse=True)
def _tables_are_asked_for_anew(monkeypatch):
    """Whenever a chunk falls back, so that what is sent does not depend on the time."""
    monkeypatch.setattr(sink, "_SECONDS_TO_BELIEVE", -1.0)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_fault_at_every_statement_leaves_what_the_reference_has(postgres_databases, draw, name, record_property):
    workload = WORKLOADS[name]
    with lanes(postgres_databases, _LANES, workload.setup) as all_lanes:
        swept, complaints = sweep(workload, all_lanes, partial(draw.pairs, name))
    record_property(COUNTED, ("statements x faults", len(swept)))
    assert not complaints, f"{len(complaints)} of {len(swept)}:\n" + "\n".join(complaints)
    assert len(swept) > len(workload.items[:1])


_EXPRESSIONS = "values that are SQL expressions: an INSERT like the others, a row at a time"
_BY_HAND = "databases that have no ON CONFLICT"
_ENCODINGS = "connections that speak another encoding than UTF-8"
_COMMAND = "the command line's, before a run and outside of any chunk"

# Places in the sinks' code that no workload comes by, with the reason.
_NOT_SWEPT = {
    "sql.py, _working: connection = self._engine.connect()": "comes when a fault strikes the SELECT 1 before it",
    "statements.py, _insert: connection.execute(sqlalchemy.insert(table).inline())": "rows without any column",
    "statements.py, _insert: "
    "connection.execute(sqlalchemy.insert(table).inline().values(_by_column(table, write.values)))": _EXPRESSIONS,
    "statements.py, _upsert_by_hand: "
    "connection.execute(sqlalchemy.insert(table).inline().values(_by_column(table, write.values)))": _BY_HAND,
    "statements.py, _change_existing: "
    "return connection.execute(sqlalchemy.update(table).where(matches).values(changes)).rowcount > 0": _BY_HAND,
    "statements.py, _change_existing: return connection.execute(query).first() is not None": _BY_HAND,
    "statements.py, _refuse_several: "
    "found = connection.scalar(query.where(_matches(write.table.handle, write))) or 0": "keys that are not unique",
    "positional.py, insert: connection.exec_driver_sql(prepared.text, rows)": "drivers whose parameters have no names",
    "ledger.py, job: with engine.connect() as connection:": _COMMAND,
    "ledger.py, job: "
    "job: str | None = connection.scalar(select(self.runs.c.job).where(equals(self.runs.c.run_id, run_id)))": _COMMAND,
    'ledger.py, remember: connection.execute(insert(self.runs), {"run_id": run_id, "job": job})': _COMMAND,
    "ledger.py, _is_there: return inspect(connection).has_table(name, schema=schema)": "other databases",
    "ledger.py, require: with engine.connect() as connection:": _COMMAND,
    "postgresql/rules.py, commit: super().commit(connection)": "drivers other than psycopg",
    "postgresql/rules.py, _speak_utf8: connection.exec_driver_sql(_SPEAK_UTF8)": _ENCODINGS,
    "postgresql/rules.py, commit: "
    "connection.exec_driver_sql(f\"SET LOCAL client_encoding TO '{encoding}'\")": _ENCODINGS,
    "postgresql/rules.py, _mark: savepoint.rollback()": "servers that are PostgreSQL in name only",
    "postgresql/attempt.py, blockers: result = asked._pgconn.exec_params(_BLOCKERS, [parameter])  "
    "# noqa: SLF001 - another of the same class": "only where one chunk waits for the lock of another, in its time",
    "postgresql/sink.py, _copy: "
    'raise FailedAt(part.table) from ItemRefused("COPY cannot serve here", table=part.table.name)': "no statement",
}

# What libpq, psycopg and SQLAlchemy send by themselves, which neither log shows.
_OF_THE_DRIVERS = re.compile(
    r"\(|BEGIN$|COMMIT$|ROLLBACK$|SAVEPOINT|RELEASE|DEALLOCATE ALL$|SELECT typname AS name, "
    r"|select (pg_catalog\.version|current_schema)\(\)$|show [a-z_ ]+$"
)


@pytest.fixture(scope="module")
def counted(postgres_databases):
    """What each workload sends and logs where nothing goes wrong; and the lines of the sinks that have run."""
    outcomes = {}
    with pytest.MonkeyPatch.context() as patch, lines_run() as found:
        patch.setattr(sink, "_SECONDS_TO_BELIEVE", -1.0)
        for name, workload in WORKLOADS.items():
            with lanes(postgres_databases, 1, workload.setup) as (lane,):
                logged = []
                outcomes[name] = (lane.run(workload, faults_before(workload), logged), logged)
    return outcomes, found


@pytest.mark.xdist_group("counted")
def test_every_place_that_sends_a_statement_is_swept(counted):
    left = {place.name for place in not_come_by(counted[1])}
    assert left == set(_NOT_SWEPT), "what no workload sends is not swept: add one that does, or say why it cannot be"


def plain(statement):
    """A statement on one line, with its parameters written in one way."""
    return re.sub(r"%\(\w+\)s|%s|\$\d+", "?", as_label(statement)).replace("%%", "%")


@pytest.mark.xdist_group("counted")
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_proxy_sees_every_statement_that_is_logged_and_no_others(counted, name):
    outcome, logged = counted[0][name]
    logged = {plain(statement) for statement in logged}
    seen = {plain(statement) for statement in outcome.seen}
    assert logged
    assert [each for each in logged if not any(other.startswith(each) for other in seen)] == []
    others = [each for each in seen if not each.startswith(tuple(logged))]
    assert [each for each in others if not _OF_THE_DRIVERS.match(each)] == []
