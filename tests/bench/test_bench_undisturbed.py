"""Times that leave out what others have used of the core."""

import time
from contextlib import nullcontext

import pytest
from sqlalchemy import text

from batchwrite.bench import undisturbed as module
from batchwrite.bench.server import process_of, throwaway_server
from batchwrite.bench.timing import Comparison, Contender, compare
from batchwrite.bench.undisturbed import Spent, undisturbed
from batchwrite.database import create_engine_for


def spent(passed, computed, queued):
    return Spent(passed=passed, computed=computed, queued=queued)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        (spent(1.0, 1.0, 0.0), 1.0),  # nobody else was there
        (spent(3.0, 1.0, 2.0), 1.0),  # others were
        (spent(5.0, 1.0, 1.0), 4.0),  # three seconds of sleep count
        (spent(1.0, 0.8, 0.4), 0.8),  # bench and server waited for each other
        (spent(1.0, 1.2, 0.0), 1.2),  # both computed, on two cores
    ],
)
def test_waiting_for_a_core_is_left_out_and_sleeping_is_not(found, seconds):
    assert found.undisturbed == pytest.approx(seconds)


def test_what_was_spent_since():
    assert spent(3.0, 2.0, 1.0).since(spent(1.0, 1.5, 0.75)) == spent(2.0, 0.5, 0.25)


def contender(write):
    return Contender(name="sleeper", rows=1, opened=lambda: nullcontext(write), fresh=lambda: None, check=lambda: None)


def seconds_of(comparison):
    return compare("guard", comparison, 1, lambda _text: None).of("sleeper").seconds[0]


def test_a_contender_s_time_is_what_was_spent_while_it_wrote(monkeypatch):
    moments = iter([spent(10.0, 5.0, 1.0), spent(14.0, 6.0, 2.5)])
    monkeypatch.setattr(module, "_spent", lambda _server: next(moments))
    comparison = Comparison(name="all", contenders=[contender(lambda: None)])
    assert seconds_of(undisturbed(comparison, None)) == pytest.approx(2.5)


def test_where_the_system_does_not_tell_the_comparison_stays_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_PROCESSES", tmp_path)
    comparison = Comparison(name="all", contenders=[contender(lambda: None)])
    assert undisturbed(comparison, None) is comparison


def test_what_the_server_computes_counts():
    with throwaway_server() as url:
        process = process_of(url)
        engine = create_engine_for(url)
        with engine.connect() as connection:
            query = text("SELECT count(*) FROM generate_series(1, 1000000)")

            def write():
                before = time.process_time()
                connection.execute(query)
                write.mine = time.process_time() - before

            seconds = seconds_of(undisturbed(Comparison(name="all", contenders=[contender(write)]), process))
        engine.dispose()
    assert seconds > write.mine
    assert process_of(url) is None
    assert process_of(url.set(query={})) is None
