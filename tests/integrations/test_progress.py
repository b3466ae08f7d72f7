"""What a terminal shows of real runs."""

import io
import sys

import pytest
from followed import WeatherOnce, chunk_details, write_parcel
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from batchwrite import BatchWriter, RetryPolicy
from batchwrite.integrations import progress as module
from batchwrite.integrations.progress import CountsColumn, RichProgressListener

AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)


@pytest.fixture
def bar(screen):
    """A bar of the caller's own, not shown yet."""
    return Progress(TextColumn("{task.description}"), BarColumn(), CountsColumn(), console=screen, auto_refresh=False)


def shown(screen):
    return screen.file.getvalue()


def test_a_run_is_a_line_with_its_counts(database, screen, bar):
    listener = RichProgressListener("parcels", total=6, progress=bar)
    writer = BatchWriter(database, chunk_size=2, listeners=[listener])
    with bar:
        result = writer.run([1, -2, None, "x", 5, 6], write_parcel)
    (task,) = bar.tasks
    assert (task.description, task.completed, task.total, task.finished) == ("parcels", 6, 6, True)
    assert f"{result.written} written, {result.failed} failed, " in task.fields["counts"]
    assert task.fields["counts"].endswith("/s")
    assert "parcels" in shown(screen)
    assert f"{result.written} written, {result.failed} failed" in shown(screen)


def test_chunks_that_are_retried_are_counted_once(database, bar):
    listener = RichProgressListener(progress=bar)
    writer = BatchWriter(database, chunk_size=2, retry=AT_ONCE, classify=WeatherOnce(), listeners=[listener])
    assert writer.run([1, -2, 3], write_parcel).failed == 1
    assert bar.tasks[0].completed == 3


def test_items_left_undone_do_not_move_the_bar(database, bar):
    listener = RichProgressListener(total=4, progress=bar)
    BatchWriter(database, on_failure="stop", workers=0, listeners=[listener]).run([1, -2, 3, 4], write_parcel)
    (task,) = bar.tasks
    assert (task.completed, task.finished) == (2, False)


def test_items_that_are_put_off_move_the_bar_once(bar):
    listener = RichProgressListener(total=3, progress=bar)
    listener.on_chunk(chunk_details(written=1, parked=2))
    assert bar.tasks[0].completed == 1
    listener.on_chunk(chunk_details(written=1, failed=1))
    assert bar.tasks[0].completed == 3


def test_the_clock_begins_with_the_first_chunk(bar):
    listener = RichProgressListener(progress=bar)
    listener.on_chunk(chunk_details(written=1_000, seconds=100.0))
    assert bar.tasks[0].elapsed >= 100
    assert bar.tasks[0].fields["counts"] == "1,000 written, 10/s"


def test_a_bar_of_its_own_is_shown_on_stderr_while_the_block_lasts(database, screen, monkeypatch):
    monkeypatch.setattr(module, "Console", lambda **options: screen if options == {"stderr": True} else None)
    with RichProgressListener("parcels") as listener:
        BatchWriter(database, listeners=[listener]).run([1, 2, -3], write_parcel)
        task = listener._progress.tasks[0]
        assert task.total is None
        assert listener._progress.live.is_started
    assert not listener._progress.live.is_started
    assert task.finished  # nothing moves any more
    assert "2 written, 1 failed" in shown(screen)


def test_a_bar_of_the_caller_s_is_left_to_the_caller(database, bar):
    with bar, RichProgressListener(progress=bar) as listener:
        BatchWriter(database, listeners=[listener]).run([1], write_parcel)
        listener.__exit__(None, None, None)
        assert bar.live.is_started
    assert bar.tasks[0].finished


def test_other_tasks_of_a_bar_have_no_counts(screen, bar):
    with bar:
        bar.add_task("something else")
        RichProgressListener(progress=bar).on_chunk(chunk_details(written=1))
    assert "something else" in shown(screen)
    assert "1 written" in shown(screen)


def test_each_run_has_a_line(database, bar):
    writer = BatchWriter(database, listeners=[RichProgressListener("parcels", progress=bar)])
    writer.run([1, 2], write_parcel)
    writer.run([3, 4, 5], write_parcel)
    assert [task.completed for task in bar.tasks] == [2, 3]


def test_lines_are_bounded_and_those_that_move_stay(bar):
    listener = RichProgressListener(progress=bar)
    other = bar.add_task("something else")
    for number in range(100):
        listener.on_chunk(chunk_details(run_id="long", written=1))
        listener.on_chunk(chunk_details(run_id=f"short {number}", written=1))
    assert len(bar.tasks) == module._MOST_RUNS + 1
    assert len(listener._runs) == module._MOST_RUNS
    assert bar.tasks[0].id == other
    assert bar.tasks[1].completed == 100


def test_a_listener_that_is_not_shown_counts_all_the_same(database, capsys, caplog):
    listener = RichProgressListener()
    assert BatchWriter(database, listeners=[listener]).run([1], write_parcel).written == 1
    assert listener._progress.tasks[0].completed == 1
    assert capsys.readouterr() == ("", "")
    assert not [record for record in caplog.records if getattr(record, "action", "") == "listener"]


def test_a_description_is_no_markup(database, screen, monkeypatch):
    monkeypatch.setattr(module, "Console", lambda **_options: screen)
    with RichProgressListener("[red]2024[/nothing]") as listener:
        listener.on_chunk(chunk_details(written=1))
    assert "[red]2024[/nothing]" in shown(screen)


def test_a_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.delitem(sys.modules, "batchwrite.integrations.progress")
    with pytest.raises(ImportError, match=r'pip install "batchwrite\[cli\]"'):
        import batchwrite.integrations.progress  # noqa: F401 - it cannot be
