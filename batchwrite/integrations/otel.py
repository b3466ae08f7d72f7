"""Spans and metrics of runs, for OpenTelemetry. Needs the extra `otel`."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from batchwrite import __version__
from batchwrite.listeners import Listener

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError(
        'batchwrite.integrations.otel needs opentelemetry-api: pip install "batchwrite[otel]"', name=error.name
    ) from error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from batchwrite.listeners import ChunkDetails, FailureDetails, FallbackDetails, RetryDetails, SlowPathDetails

    Attributes = dict[str, str | int | float | bool]
    Event = tuple[str, Attributes, int]

# Source: OpenTelemetry's semantic conventions for database client metrics, db.client.operation.duration.
_SECONDS_BOUNDARIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

# What the individual operations of a chunk are is not told; the conventions call a batch of several kinds by this.
_OPERATION = "BATCH"

# The conventions' word for an `error.type` that is not told by itself.
_OTHER = "_OTHER"

# Retries and fallbacks are told before their chunk, and a run that is interrupted may never tell of that. More chunks
# than this are not on their way in one process; a retry policy that asks for more attempts is seen by the last of them.
_MOST_CHUNKS = 1_000
_MOST_EVENTS = 32

# Each value of an attribute makes time series of its own, which a program pays for as long as it runs.
_MOST_VALUES = 100

# An item that is put off has no outcome yet: it is told again, with a later chunk.
_OUTCOMES = ("written", "failed", "skipped", "unattempted", "unknown")


class OpenTelemetryListener(Listener):
    """Tells OpenTelemetry of runs: a span a chunk, and metrics; no values of rows.

    A span is a child of the one that is current where the run is, and covers the chunk from the moment when it was full
    to its end. It has the attributes of the semantic conventions for database clients, and those of `ChunkDetails`
    under `batchwrite.`; retries and fallbacks are its events. Items that fail do not make it an error, items whose fate
    is unknown, or that were not attempted, do: `error.type` is then `unknown` or `unattempted`.

    The metrics are `db.client.operation.duration`, and the counters `batchwrite.items` (by `batchwrite.outcome`),
    `batchwrite.failures` (by `error.type` and `batchwrite.stage`), `batchwrite.retries`, `batchwrite.fallbacks` and
    `batchwrite.slow_paths`. An attribute of a metric has at most 100 values; those after them are `_OTHER`.

    Args:
        database: What the conventions call the database (`db.system.name`), e.g. `postgresql`, `mariadb` or `sqlite`.
        tracer_provider: Where spans go; default the program's.
        meter_provider: Where metrics go; default the program's.
    """

    def __init__(
        self,
        *,
        database: str = "other_sql",
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._database = database
        self._tracer = trace.get_tracer("batchwrite", __version__, tracer_provider)
        self._counted = _Metrics(database, meter_provider)
        self._events = _Events()

    def on_chunk(self, chunk: ChunkDetails, /) -> None:
        """Make its span, and count its items."""
        ended = time.time_ns()
        span = self._tracer.start_span(
            " ".join((_OPERATION, *_only(chunk.tables))),
            kind=trace.SpanKind.CLIENT,
            attributes=_span_attributes(self._database, chunk),
            start_time=ended - round(chunk.seconds * 1e9),
        )
        for name, attributes, timestamp in self._events.taken(chunk.run_id, chunk.number):
            span.add_event(name, attributes, timestamp)
        # That some items fail, each of them told, is what a run is for, and its other items are committed. What needs
        # somebody's attention is a chunk that has not come to its end.
        if _error_of(chunk):
            text = f"{chunk.unknown} items unknown, {chunk.unattempted} not attempted"
            span.set_status(trace.Status(trace.StatusCode.ERROR, text))
        span.end(ended)
        self._counted.chunk(chunk)

    def on_failure(self, failure: FailureDetails, /) -> None:
        """Count it; its chunk's span has ended."""
        self._counted.failure(failure)

    def on_retry(self, retry: RetryDetails, /) -> None:
        """Count it, and keep it for the chunk's span."""
        self._counted.retry(retry)
        attributes: Attributes = {
            "batchwrite.items": retry.items,
            "batchwrite.attempt": retry.attempt,
            "batchwrite.wait": retry.wait,
            "batchwrite.fault.kind": retry.kind,
            "batchwrite.fault.message": retry.message,
            **_status_code(retry.sqlstate),
        }
        self._events.keep(retry.run_id, retry.chunk, "batchwrite.retry", attributes)

    def on_fallback(self, fallback: FallbackDetails, /) -> None:
        """Count it, and keep it for the chunk's span."""
        self._counted.fallback(fallback)
        attributes: Attributes = {
            "batchwrite.items": fallback.items,
            "batchwrite.fault.message": fallback.message,
            **_status_code(fallback.sqlstate),
        }
        if fallback.table:
            attributes["db.collection.name"] = fallback.table
        self._events.keep(fallback.run_id, fallback.chunk, "batchwrite.fallback", attributes)

    def on_slow_path(self, slow_path: SlowPathDetails, /) -> None:
        """Count it."""
        self._counted.slow_path(slow_path)


class _Events:
    """What is told of chunks before they end; bounded, and for several threads."""

    def __init__(self) -> None:
        self._of_chunks: dict[tuple[str, int], deque[Event]] = {}
        self._lock = threading.Lock()

    def keep(self, run_id: str, chunk: int, name: str, attributes: Attributes) -> None:
        """Keep an event of now."""
        with self._lock:
            if (run_id, chunk) not in self._of_chunks:
                if len(self._of_chunks) >= _MOST_CHUNKS:
                    del self._of_chunks[next(iter(self._of_chunks))]  # the oldest
                self._of_chunks[run_id, chunk] = deque(maxlen=_MOST_EVENTS)
            self._of_chunks[run_id, chunk].append((name, attributes, time.time_ns()))

    def taken(self, run_id: str, chunk: int) -> tuple[Event, ...]:
        """The events of a chunk, which are not kept any longer."""
        with self._lock:
            return tuple(self._of_chunks.pop((run_id, chunk), ()))


class _Metrics:
    """The instruments, and what is told to them."""

    def __init__(self, database: str, provider: MeterProvider | None) -> None:
        self._common: Attributes = {"db.system.name": database}
        self._values: dict[str, set[str]] = {}
        meter = metrics.get_meter("batchwrite", __version__, provider)
        self._duration = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_SECONDS_BOUNDARIES,
        )
        self._items = meter.create_counter("batchwrite.items", "{item}", "Items, by what became of them.")
        self._failures = meter.create_counter("batchwrite.failures", "{item}", "Items that have failed, by reason.")
        self._retries = meter.create_counter("batchwrite.retries", "{retry}", "Attempts that were undone and repeated.")
        self._fallbacks = meter.create_counter("batchwrite.fallbacks", "{chunk}", "Chunks written item by item.")
        self._slow_paths = meter.create_counter("batchwrite.slow_paths", "{slow_path}", "Slower ways taken.")

    def chunk(self, chunk: ChunkDetails) -> None:
        """A chunk has ended."""
        attributes = self._common | self._bounded("db.collection.name", *_only(chunk.tables))
        for outcome in _OUTCOMES:
            count = getattr(chunk, outcome)
            if count:
                self._items.add(count, attributes | {"batchwrite.outcome": outcome})
        self._duration.record(chunk.seconds, attributes | {"db.operation.name": _OPERATION} | _error_of(chunk))

    def failure(self, failure: FailureDetails) -> None:
        """An item has failed."""
        found = failure.failure
        attributes = self._common | {"batchwrite.stage": str(found.stage)}
        self._failures.add(1, attributes | self._bounded("error.type", found.error_type))

    def retry(self, retry: RetryDetails) -> None:
        """A chunk is tried again."""
        attributes = self._common | {"batchwrite.fault.kind": retry.kind}
        self._retries.add(1, attributes | self._bounded("db.response.status_code", retry.sqlstate))

    def fallback(self, fallback: FallbackDetails) -> None:
        """A chunk is written item by item."""
        attributes = self._common | self._bounded("db.collection.name", fallback.table)
        self._fallbacks.add(1, attributes | self._bounded("db.response.status_code", fallback.sqlstate))

    def slow_path(self, slow_path: SlowPathDetails) -> None:
        """A table is written in a slower way; the log says why."""
        self._slow_paths.add(1, self._common | self._bounded("db.collection.name", slow_path.table))

    def _bounded(self, name: str, value: str | None = None) -> Attributes:
        """An attribute, if it has a value; one of the first values that it has had, or else another word."""
        if not value:
            return {}
        values = self._values.setdefault(name, set())
        if value not in values and len(values) >= _MOST_VALUES:
            return {name: _OTHER}
        values.add(value)  # two threads at once may add one too many each, and no more
        return {name: value}


def _span_attributes(database: str, chunk: ChunkDetails) -> Attributes:
    attributes: Attributes = {
        "db.system.name": database,
        "db.operation.name": _OPERATION,
        "batchwrite.run_id": chunk.run_id,
        "batchwrite.chunk": chunk.number,
        "batchwrite.first_index": chunk.first_index,
        "batchwrite.items": chunk.items,
        "batchwrite.parked": chunk.parked,
        "batchwrite.fell_back": chunk.fell_back,
        **{f"batchwrite.{outcome}": getattr(chunk, outcome) for outcome in _OUTCOMES},
        **_error_of(chunk),
    }
    if chunk.items > 1:  # by the conventions one operation is no batch, and has no such attribute
        attributes["db.operation.batch.size"] = chunk.items
    for table in _only(chunk.tables):
        attributes["db.collection.name"] = table
    return attributes


def _only(tables: tuple[str, ...]) -> tuple[str, ...]:
    """The table, where it is exactly one."""
    return tables if len(tables) == 1 else ()


def _error_of(chunk: ChunkDetails) -> Attributes:
    """The `error.type` of a chunk that has not come to its end."""
    if chunk.unknown:
        return {"error.type": "unknown"}
    return {"error.type": "unattempted"} if chunk.unattempted else {}


def _status_code(sqlstate: str | None) -> Attributes:
    return {"db.response.status_code": sqlstate} if sqlstate else {}
