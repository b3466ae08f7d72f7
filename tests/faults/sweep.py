"""One workload, once for each place and each fault: what became of it, compared with the plain sequential writer."""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from databases import assert_all_returned
from failing_proxy import FailingProxy, Kind, Place, Strike, places_behind
from orders_and_stock import METADATA, contents, fill, line, order, record
from reference import write_sequentially
from sqlalchemy import URL, Engine, create_engine, event, select, text
from workloads import Workload, key_of

from batchwrite import BatchResult, BatchWriter, DeadLetters, Ledger, RetryPolicy

Pairs = Callable[[Sequence[Place], Sequence[Kind]], list[tuple[Place, Kind]]]

AT_ONCE = RetryPolicy(attempts=6, first_wait=0, longest_wait=0)
FIRST_COMMIT = Place("COMMIT", 0)

_WARM = [line(950), order(400), {"kind": "changes", "sku": "sku-0"}]

# Only where an answer never comes: on a machine that is busy, a bound of time is one more fault.
_CHUNK_TIMEOUT = 0.5
_PATIENCE_SECONDS = 10.0
_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run.

    Attributes:
        result: What it says.
        rows: What the tables hold.
        books: What the ledger's tables hold, as far as it is the same for each start.
        struck: The faults that have struck.
        sent: The places that were come to.
        seen: The statements sent.
    """

    result: BatchResult
    rows: dict[str, list[tuple[Any, ...]]]
    books: tuple[Any, ...]
    struck: list[Strike]
    sent: list[Place]
    seen: list[str]


class Lane:
    """A database of its own behind a proxy of its own, for one run at a time."""

    def __init__(self, url: URL, setup: str):
        self.ledger = Ledger()
        self.direct = create_engine(url)
        METADATA.create_all(self.direct)
        self.ledger.create(self.direct)
        with self.direct.begin() as connection:
            connection.execute(text(setup or "SELECT 1"))
        self.proxy = FailingProxy((url.host or "127.0.0.1", url.port or 5432), self._kill)
        self._proxied = url.set(host="127.0.0.1", port=self.proxy.port)
        self._engine: Engine | None = None

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
        self.proxy.close()
        self.direct.dispose()

    def _kill(self, pid: int) -> None:
        with self.direct.connect() as connection:
            assert connection.scalar(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})

    def empty(self) -> None:
        with self.direct.begin() as connection:
            for table in self.ledger.metadata.sorted_tables:
                connection.execute(table.delete())
            fill(connection)

    def engine(self, workload: Workload) -> Engine:
        """An engine without connections; one that has never had any, where connecting is a part of the workload."""
        if self._engine is not None and not workload.is_cold:
            return self._engine
        options = {"schema_translate_map": {"nowhere": "public"}} if workload.is_generic else {}
        self._engine = create_engine(
            self._proxied,
            execution_options=options,
            connect_args={"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 2},
        )
        return self._engine

    def run(self, workload: Workload, faults: dict[Place, Kind], logged: list[str] | None = None) -> Outcome:
        """Write a workload, with these faults; what is logged of it goes into a list, if there is one."""
        engine = self.engine(workload)
        try:
            result = self._result(workload, faults, engine, logged)
            assert_all_returned(engine)
        finally:
            engine.dispose()
            self.proxy.drop()  # what a client has given up and not closed: a backend that is starting holds up much
        with self.direct.connect() as connection:
            rows, books = contents(connection), self._books(connection)
        proxy = self.proxy
        return Outcome(result=result, rows=rows, books=books, struck=proxy.struck, sent=proxy.sent, seen=proxy.seen)

    def _result(
        self, workload: Workload, faults: dict[Place, Kind], engine: Engine, logged: list[str] | None
    ) -> BatchResult:
        writer = BatchWriter(
            engine,
            chunk_size=workload.chunk_size,
            workers=workload.workers,
            ledger=self.ledger if workload.has_ledger else None,
            dead_letters=DeadLetters() if workload.letters else None,
            key=key_of(workload),
            retry=AT_ONCE,
            chunk_timeout=_CHUNK_TIMEOUT if Kind.SWALLOWED in faults.values() else _PATIENCE_SECONDS,
        )
        run_id = "swept" if workload.run_id else None
        self.proxy.plan({})
        self.empty()
        if not workload.is_cold:
            warm = writer.run(_WARM, record)
            assert (warm.written, warm.abort) == (len(_WARM), None), warm
            self.empty()
        self.proxy.plan(faults)
        with statements_into(logged, engine) if logged is not None else nullcontext():
            return self._watched(lambda: writer.run(workload.items, record, run_id=run_id))

    def _watched(self, run: Callable[[], BatchResult]) -> BatchResult:
        """The result of a run, which is given so much time."""
        watch = threading.Timer(_PATIENCE_SECONDS, self.proxy.drop)
        watch.start()
        try:
            result = run()
            assert watch.is_alive(), f"it took longer than {_PATIENCE_SECONDS} seconds"
            return result
        finally:
            watch.cancel()
            watch.join()

    def _books(self, connection: Any) -> tuple[Any, ...]:
        chunks, letters, keys = self.ledger.chunks, self.ledger.dead_letters, self.ledger.keys
        counts = [chunks.c[name] for name in ("items", "written", "failed", "skipped")]
        entries = [tuple(row) for row in connection.execute(select(*counts))]
        return (
            tuple(map(sum, zip(*entries, strict=True))) or (0, 0, 0, 0),
            sorted(map(tuple, connection.execute(select(letters.c.item_index, letters.c.attempt, letters.c.sqlstate)))),
            sorted(connection.scalars(select(keys.c.item_key))),
        )


class _Into(logging.Handler):
    """Puts the texts of log records into a list."""

    def __init__(self, texts: list[str]):
        super().__init__()
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())


@contextmanager
def statements_into(texts: list[str], engine: Engine) -> Iterator[None]:
    """Puts the statements that SQLAlchemy, and the library past it, say they send into a list."""

    def before(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        texts.append(statement)

    log, handler = logging.getLogger("batchwrite.sql"), _Into(texts)
    event.listen(engine, "before_cursor_execute", before)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


@contextmanager
def lanes(databases: Any, count: int, setup: str) -> Iterator[list[Lane]]:
    """So many lanes, each a fresh database."""
    if not count:
        yield []
        return
    with databases.fresh() as url:
        lane = Lane(url, setup)
        try:
            with lanes(databases, count - 1, setup) as others:
                yield [lane, *others]
        finally:
            lane.close()


class Reference:
    """What the plain sequential writer makes of a workload: the tables after each chunk, and who fails."""

    def __init__(self, lane: Lane, workload: Workload):
        items, outcomes = workload.items, []
        lane.empty()
        with lane.direct.connect() as connection:
            self.after = {0: contents(connection)}
        for start in range(0, len(items), workload.chunk_size):
            outcomes += write_sequentially(lane.direct, items[start : start + workload.chunk_size], record)
            with lane.direct.connect() as connection:
                self.after[len(outcomes)] = contents(connection)
        self.counts = Counter(outcome.split()[0] for outcome in outcomes)
        self.failed = [position for position, outcome in enumerate(outcomes) if outcome.startswith("failed")]
        self.rows = self.after[len(items)]


def check_whole(outcome: Outcome, reference: Reference, expected: Outcome) -> None:
    """All of it landed as it does where nothing goes wrong, and is counted so."""
    result = outcome.result
    assert result.abort is None, f"the run stopped: {result.abort}"
    counts = (result.written, result.failed, result.skipped, result.unattempted, result.unknown)
    assert counts == (*(reference.counts[word] for word in ("written", "failed", "skipped")), 0, 0)
    assert result.status == expected.result.status
    assert [failure.index for failure in result.failures] == reference.failed
    assert [failure.sqlstate for failure in result.failures] == [each.sqlstate for each in expected.result.failures]
    assert outcome.rows == reference.rows
    assert outcome.books == expected.books


def check_unknown(outcome: Outcome, reference: Reference) -> None:
    """A chunk is unknown, for a reason; before it all has landed, of itself all or nothing, behind it nothing."""
    result = outcome.result
    assert any(strike.may_leave_doubt for strike in outcome.struck), "there was no COMMIT that could leave a doubt"
    reached = result.written + result.failed + result.skipped + result.unknown
    assert result.received == reached + result.unattempted
    before = max(count for count in reference.after if count < reached)
    assert outcome.rows in (reference.after[before], reference.after[reached])


def places(workload: Workload, counted: Outcome) -> list[Place]:
    """Every statement, where it is sent first and where it is sent last."""
    sent = counted.sent if workload.first_fault is None else places_behind(counted.sent, FIRST_COMMIT)
    first = {place.statement: place for place in reversed(sent)}
    last = {place.statement: place for place in sent}
    return [place for place in sent if place in (first[place.statement], last[place.statement])]


def faults_before(workload: Workload) -> dict[Place, Kind]:
    return {} if workload.first_fault is None else {FIRST_COMMIT: workload.first_fault}


def struck_run(lane: Lane, workload: Workload, place: Place, kind: Kind) -> Outcome:
    """A run in which the fault has struck.

    With several chunks on their way it depends on the time what is sent together, so that a place may not be come to.
    """
    for _ in range(_TRIES if workload.workers else 1):
        outcome = lane.run(workload, {**faults_before(workload), place: kind})
        if (place, kind) in [(strike.place, strike.kind) for strike in outcome.struck]:
            return outcome
    raise AssertionError("the place was not come to")


def sweep(workload: Workload, all_lanes: Sequence[Lane], pairs: Pairs) -> tuple[list[tuple[Place, Kind]], list[str]]:
    """All cases, and what was wrong in some; `pairs` says which places are met by which faults."""
    reference = Reference(all_lanes[0], workload)
    counted = all_lanes[0].run(workload, faults_before(workload))
    check_whole(counted, reference, counted)
    free: queue.Queue[Lane] = queue.Queue()
    for lane in all_lanes:
        free.put(lane)

    def complaint(case: tuple[Place, Kind]) -> str | None:
        place, kind = case
        lane = free.get()
        try:
            outcome = struck_run(lane, workload, place, kind)
            if outcome.result.unknown and not workload.has_ledger:
                check_unknown(outcome, reference)
            else:
                check_whole(outcome, reference, counted)
        except BaseException as error:
            said = str(error).splitlines() or [""]
            return f"{kind} at {place.statement[:100]} ({place.before}): {type(error).__name__}: {said[0]}"
        finally:
            free.put(lane)
        return None

    wanted = pairs(places(workload, counted), list(Kind))
    with ThreadPoolExecutor(len(all_lanes)) as pool:
        complaints = [each for each in pool.map(complaint, wanted) if each is not None]
    return wanted, complaints
