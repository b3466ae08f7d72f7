"""What OpenTelemetry is told of real runs: by its SDK, with exporters that keep what they get."""

import asyncio
import sys
import threading
import time

import pytest
from followed import (
    LABELS,
    METADATA,
    PARCELS,
    WeatherOnce,
    chunk_details,
    failure_details,
    fallback_details,
    retry_details,
    write_parcel,
)
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import func
from sqlalchemy.ext.asyncio import create_async_engine

from batchwrite import BatchWriter, RetryPolicy, SlowPathDetails
from batchwrite.aio import AsyncBatchWriter
from batchwrite.integrations import otel
from batchwrite.integrations.otel import OpenTelemetryListener

AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)


class Telemetry:
    """A listener, and all that its SDK was told."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader])
        self._tracers = TracerProvider()
        self._tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self._tracers.get_tracer("tests")
        self.listener = OpenTelemetryListener(
            database="testdb", tracer_provider=self._tracers, meter_provider=self._meters
        )

    @property
    def spans(self):
        """The spans of chunks that have ended, in that order."""
        return [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]

    def measured(self):
        """What was measured, by instrument: pairs of attributes and points."""
        data = self._reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {metric.name: [(dict(p.attributes), p) for p in metric.data.data_points] for metric in found}

    def counted(self, name, attribute):
        """The counts of an instrument, by one attribute."""
        return {attributes.get(attribute): point.value for attributes, point in self.measured().get(name, ())}

    def everything(self):
        """All that was told, as one text."""
        spans = [span.to_json() for span in self._exporter.get_finished_spans()]
        return "\n".join([*spans, str(self.measured())])

    def close(self):
        self._tracers.shutdown()
        self._meters.shutdown()


@pytest.fixture
def telemetry():
    made = Telemetry()
    yield made
    made.close()


def own(span):
    """The counts and marks of a span that are the library's own."""
    start = "batchwrite."
    return {name.removeprefix(start): value for name, value in span.attributes.items() if name.startswith(start)}


# ---- spans


def test_a_chunk_is_a_span(database, telemetry):
    before = time.time_ns()
    writer = BatchWriter(database, chunk_size=2, listeners=[telemetry.listener])
    assert writer.run([1, 2, None], write_parcel).written == 2
    first, last = telemetry.spans
    assert first.name == "BATCH parcels"
    assert first.kind is SpanKind.CLIENT
    assert {name: first.attributes[name] for name in first.attributes if name.startswith("db.")} == {
        "db.system.name": "testdb",
        "db.operation.name": "BATCH",
        "db.operation.batch.size": 2,
        "db.collection.name": "parcels",
    }
    assert (own(first)["chunk"], own(first)["items"], own(first)["written"], own(first)["fell_back"]) == (
        0,
        2,
        2,
        False,
    )
    assert own(first)["run_id"] == own(last)["run_id"]
    assert (own(last)["first_index"], own(last)["written"], own(last)["skipped"]) == (2, 0, 1)
    assert last.name == "BATCH"  # nothing was to be written, so to no table
    assert not {"db.operation.batch.size", "db.collection.name"} & set(last.attributes)
    for span in (first, last):
        assert span.status.status_code is StatusCode.UNSET
        assert "error.type" not in span.attributes
        assert span.events == ()
        assert before <= span.start_time <= span.end_time <= time.time_ns()


def test_failed_items_are_counted_and_no_error_of_the_chunk(database, telemetry):
    result = BatchWriter(database, listeners=[telemetry.listener]).run([1, -2, "x", 4], write_parcel)
    assert (result.written, result.failed) == (2, 2)
    (span,) = telemetry.spans
    assert (own(span)["written"], own(span)["failed"], own(span)["fell_back"]) == (2, 2, True)
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes
    (event,) = span.events
    assert event.name == "batchwrite.fallback"
    assert event.attributes["batchwrite.items"] == 4
    assert event.attributes["db.response.status_code"]
    assert span.start_time <= event.timestamp <= span.end_time


def test_a_retry_is_an_event_of_its_chunk(database, telemetry):
    writer = BatchWriter(database, chunk_size=2, retry=AT_ONCE, classify=WeatherOnce(), listeners=[telemetry.listener])
    result = writer.run([1, 2, 3, -4, 5, 6], write_parcel)
    assert (result.written, result.failed) == (5, 1)
    spans = telemetry.spans
    assert [[event.name for event in span.events] for span in spans] == [
        [],
        ["batchwrite.retry", "batchwrite.fallback"],
        [],
    ]
    retry = spans[1].events[0].attributes
    assert (retry["batchwrite.attempt"], retry["batchwrite.wait"], retry["batchwrite.fault.kind"]) == (
        1,
        0,
        "transient",
    )
    assert list(telemetry.counted("batchwrite.retries", "batchwrite.fault.kind").items()) == [("transient", 1)]
    assert telemetry.counted("batchwrite.fallbacks", "db.system.name") == {"testdb": 1}


def test_items_left_undone_make_an_error(database, telemetry):
    writer = BatchWriter(database, on_failure="stop", workers=0, listeners=[telemetry.listener])
    result = writer.run([1, -2, 3, 4], write_parcel)
    (span,) = telemetry.spans
    assert own(span)["unattempted"] == result.unattempted == 2
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "0 items unknown, 2 not attempted"
    assert span.attributes["error.type"] == "unattempted"
    ((attributes, _),) = telemetry.measured()["db.client.operation.duration"]
    assert attributes["error.type"] == "unattempted"


def test_a_commit_without_an_answer_makes_an_error(telemetry):
    telemetry.listener.on_chunk(chunk_details(unknown=2, unattempted=1))
    (span,) = telemetry.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "unknown"


def test_several_tables_are_none(database, telemetry):
    def map_item(number, out):
        out.insert(PARCELS, {"id": number, "grams": 1})
        out.insert(LABELS, {"id": number})

    BatchWriter(database, listeners=[telemetry.listener]).run([1, 2], map_item)
    (span,) = telemetry.spans
    assert span.name == "BATCH"
    assert "db.collection.name" not in span.attributes


def test_spans_have_the_current_one_for_a_parent(database, telemetry):
    writer = BatchWriter(database, chunk_size=1, listeners=[telemetry.listener])
    with telemetry.tracer.start_as_current_span("import") as parent:
        writer.run([1, -2, 3], write_parcel)
        assert trace.get_current_span() is parent
    assert [span.parent for span in telemetry.spans] == [parent.get_span_context()] * 3


def test_a_chunk_that_is_settled_while_the_input_waits_has_its_parent_too(postgres, telemetry):
    told, threads = threading.Event(), []

    class Waited:
        def on_chunk(self, _chunk):
            threads.append(threading.current_thread().name)
            told.set()

    def waiting_input():
        yield from [1, 2]
        assert told.wait(timeout=30)
        yield from [3, 4]

    with telemetry.tracer.start_as_current_span("import") as parent:
        BatchWriter(postgres, chunk_size=2, listeners=[telemetry.listener, Waited()]).run(waiting_input(), write_parcel)
    assert threads[0] == "batchwrite-attendant"
    assert [span.parent for span in telemetry.spans] == [parent.get_span_context()] * 2


def test_spans_under_asyncio_have_the_task_s_current_one_for_a_parent(sqlite_engine, telemetry):
    METADATA.create_all(sqlite_engine)

    async def main():
        engine = create_async_engine(sqlite_engine.url.set(drivername="sqlite+aiosqlite"))
        writer = AsyncBatchWriter(engine, chunk_size=2, listeners=[telemetry.listener])
        with telemetry.tracer.start_as_current_span("import") as parent:
            result = await writer.run([1, 2, 3], write_parcel)
        await engine.dispose()
        return result, parent

    result, parent = asyncio.run(main())
    assert result.written == 3
    assert [span.parent for span in telemetry.spans] == [parent.get_span_context()] * 2


# ---- metrics


def test_items_are_counted_by_outcome(database, telemetry):
    writer = BatchWriter(database, chunk_size=3, listeners=[telemetry.listener])
    result = writer.run([1, 2, -3, None, "x", 6], write_parcel)
    expected = {"written": result.written, "failed": result.failed, "skipped": result.skipped}
    assert telemetry.counted("batchwrite.items", "batchwrite.outcome") == expected
    assert telemetry.counted("batchwrite.failures", "batchwrite.stage") == {"map": 1, "write": 1}
    assert set(telemetry.counted("batchwrite.failures", "error.type")) == {
        failure.error_type for failure in result.failures
    }


def test_items_that_are_put_off_are_counted_once(sqlite_engine, telemetry):
    telemetry.listener.on_chunk(chunk_details(written=1, parked=2))
    telemetry.listener.on_chunk(chunk_details(written=2))
    assert telemetry.counted("batchwrite.items", "batchwrite.outcome") == {"written": 3}


def test_the_duration_has_the_boundaries_of_the_conventions_and_is_the_span_s(database, telemetry):
    BatchWriter(database, listeners=[telemetry.listener]).run([1, 2], write_parcel)
    ((attributes, point),) = telemetry.measured()["db.client.operation.duration"]
    assert attributes == {
        "db.system.name": "testdb",
        "db.operation.name": "BATCH",
        "db.collection.name": "parcels",
    }
    assert tuple(point.explicit_bounds) == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    (span,) = telemetry.spans
    assert point.count == 1
    assert point.sum == pytest.approx((span.end_time - span.start_time) / 1e9, abs=1e-6)


def test_slow_paths_are_counted(database, telemetry):
    writer = BatchWriter(database, chunk_size=2, listeners=[telemetry.listener])
    writer.run(range(1, 7), lambda n, out: out.insert(PARCELS, {"id": n, "grams": func.abs(n)}))
    assert telemetry.counted("batchwrite.slow_paths", "db.collection.name") == {"parcels": 1}
    telemetry.listener.on_slow_path(SlowPathDetails(table=None, reason="the driver"))
    assert telemetry.counted("batchwrite.slow_paths", "db.collection.name")[None] == 1


def test_attributes_of_metrics_have_so_many_values_and_no_more(telemetry):
    for number in range(250):
        telemetry.listener.on_failure(failure_details(error_type=f"Error{number}"))
        telemetry.listener.on_chunk(chunk_details(written=1, tables=(f"table{number}",)))
        telemetry.listener.on_retry(retry_details(sqlstate=f"{number:05}"))
    failures = telemetry.counted("batchwrite.failures", "error.type")
    assert len(failures) == 101
    assert failures["_OTHER"] == 150
    assert len(telemetry.counted("batchwrite.items", "db.collection.name")) == 101
    assert len(telemetry.counted("batchwrite.retries", "db.response.status_code")) == 101


# ---- what is not told, and what is not kept


def test_no_values_are_told(database, telemetry):
    def map_item(item, out):
        number, addressee = item
        if number == 3:
            raise ValueError(addressee)
        out.insert(PARCELS, {"id": number, "grams": 5, "addressee": addressee})

    writer = BatchWriter(database, retry=AT_ONCE, classify=WeatherOnce(), chunk_size=3, listeners=[telemetry.listener])
    items = [(1, "planted one"), (1, "planted two"), (3, "planted three"), (4, "planted four"), (2047110815, None)]
    result = writer.run([*items, (2047110815, "planted five")], map_item)
    assert result.failed == 3
    assert "planted" in str([failure.item for failure in result.failures])
    told = telemetry.everything()
    assert "batchwrite.retry" in told
    assert "batchwrite.fallback" in told
    assert "planted" not in told
    assert "2047110815" not in told


def test_what_is_kept_for_chunks_is_bounded(telemetry):
    for number in range(5_000):
        telemetry.listener.on_retry(retry_details(chunk=number))
    for attempt in range(1_000):
        telemetry.listener.on_retry(retry_details(chunk=4_999, attempt=attempt))
    kept = telemetry.listener._events._of_chunks
    assert len(kept) == otel._MOST_CHUNKS
    telemetry.listener.on_chunk(chunk_details(number=4_999, written=1))
    (span,) = telemetry.spans
    assert [event.attributes["batchwrite.attempt"] for event in span.events] == list(range(968, 1_000))
    assert len(kept) == otel._MOST_CHUNKS - 1


def test_nothing_is_kept_of_chunks_that_have_ended(database, telemetry):
    writer = BatchWriter(database, chunk_size=2, retry=AT_ONCE, classify=WeatherOnce(), listeners=[telemetry.listener])
    assert writer.run([1, -2, 3, -4, 5, -6], write_parcel).failed == 3
    assert sum(len(span.events) for span in telemetry.spans) >= 2
    assert telemetry.listener._events._of_chunks == {}


def test_chunks_of_other_runs_get_no_events(telemetry):
    telemetry.listener.on_fallback(fallback_details(run_id="another"))
    telemetry.listener.on_chunk(chunk_details(written=1))
    telemetry.listener.on_chunk(chunk_details(run_id="another", written=1))
    assert [len(span.events) for span in telemetry.spans] == [0, 1]


# ---- without an SDK, and without OpenTelemetry


def test_without_an_sdk_nothing_is_told_and_nothing_breaks(database, caplog):
    result = BatchWriter(database, listeners=[OpenTelemetryListener()]).run([1, -2, 3], write_parcel)
    assert (result.written, result.failed) == (2, 1)
    assert not [record for record in caplog.records if getattr(record, "action", "") == "listener"]


def test_the_database_is_some_sql_database_where_nothing_is_said(telemetry):
    listener = OpenTelemetryListener(tracer_provider=telemetry._tracers, meter_provider=telemetry._meters)
    listener.on_chunk(chunk_details(written=1))
    assert telemetry.spans[0].attributes["db.system.name"] == "other_sql"


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "batchwrite.integrations.otel")
    with pytest.raises(ImportError, match=r'pip install "batchwrite\[otel\]"'):
        import batchwrite.integrations.otel  # noqa: F401 - it cannot be
