"""Coalescers at the ends of processes: signals, exits, forks; and in the wrong event loop."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from databases import async_engine_for
from rows import ids, write
from sqlalchemy import NullPool

from batchwrite import BatchWriter, Coalescer, ConfigurationError
from batchwrite.aio import AsyncBatchWriter, AsyncCoalescer

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# Submits numbers without end, and prints each that it has been told is written, or is not.
THREADS = """
import sys, threading
from itertools import count
from batchwrite import BatchWriter, Coalescer, CoalescerClosed
from rows import write
coalescer = Coalescer(BatchWriter(sys.argv[1]), write, max_queue=500)
numbers, lock, printing = count(), threading.Lock(), threading.Lock()
def say(*words):
    with printing:
        print(*words, flush=True)
def submit():
    while True:
        with lock:
            number = next(numbers)
        try:
            future = coalescer.submit(number)
        except CoalescerClosed:
            say("refused", number)
            return
        say(future.result().status, number)
coalescer.close_on_signal()
threads = [threading.Thread(target=submit) for _ in range(20)]
for thread in threads:
    thread.start()
say("ready", -1)
for thread in threads:
    thread.join()
threading.Event().wait(30)  # the signal ends it, when all is written
"""

TASKS = """
import asyncio, sys
from itertools import count
from batchwrite import CoalescerClosed
from batchwrite.aio import AsyncBatchWriter, AsyncCoalescer
from rows import write
async def main():
    numbers = count()
    async with AsyncBatchWriter(sys.argv[1]) as writer, AsyncCoalescer(writer, write, max_queue=500) as coalescer:
        coalescer.close_on_signal()
        async def submit():
            while True:
                number = next(numbers)
                try:
                    outcome = await coalescer.submit(number)
                except CoalescerClosed:
                    print("refused", number, flush=True)
                    return
                print(outcome.status, number, flush=True)
        print("ready", -1, flush=True)
        await asyncio.gather(*[submit() for _ in range(20)])
        await asyncio.sleep(30)
asyncio.run(main())
"""

LEAVES = """
import sys
from batchwrite import BatchWriter, Coalescer
from rows import write
coalescer = Coalescer(BatchWriter(sys.argv[1]), write, max_delay=5.0)
for number in range(1_000):
    coalescer.submit(number)
"""


def started(program, engine, **options):
    url = engine.url.set(drivername=engine.dialect.name)  # each writer takes the driver that it likes
    return subprocess.Popen(
        [sys.executable, "-c", program, url.render_as_string(hide_password=False)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


TWO = """
import asyncio, sys
from batchwrite.aio import AsyncBatchWriter, AsyncCoalescer
from rows import write
async def main():
    async with AsyncBatchWriter(sys.argv[1]) as writer:
        first, second = AsyncCoalescer(writer, write), AsyncCoalescer(writer, write)
        for number, coalescer in enumerate((first, second)):
            await coalescer.submit(number)
            coalescer.close_on_signal()
        waiting = [asyncio.create_task(each.submit(number)) for number, each in ((2, first), (3, second))]
        print("ready", flush=True)
        await asyncio.sleep(30)
asyncio.run(main())
"""


def test_two_coalescers_of_one_event_loop_are_closed_one_after_the_other(prepared):
    process = started(TWO, prepared)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM, err
    assert ids(prepared) == [0, 1, 2, 3]


@pytest.mark.parametrize("program", [THREADS, TASKS], ids=["threads", "tasks"])
def test_sigterm_under_load_writes_or_answers_all_that_was_accepted(prepared, program):
    process = started(program, prepared)
    first = process.stdout.readline()  # not always that it is ready: some threads are faster
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    out = first + out
    assert process.returncode == -signal.SIGTERM, err
    told = {int(number): status for status, number in (line.split() for line in out.splitlines()[:-1])}
    told.pop(-1, None)
    written = {number for number, status in told.items() if status == "written"}
    there = set(ids(prepared))
    assert len(written) > 20
    assert written <= there
    # What was written just before the process ended may not have been printed: one line a thread, and the last one.
    assert len(there - written) <= 21
    assert set(told.values()) <= {"written", "refused"}


def test_what_waits_when_a_program_ends_is_written(prepared):
    process = started(LEAVES, prepared)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert ids(prepared) == list(range(1_000))


def in_a_child(ask):
    """What a function gives in a fork of this process, as text."""
    read, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = ask()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write_end, str(answer).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read) as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later: that is what is tested
def test_after_a_fork_the_coalescer_of_the_parent_is_refused(prepared):
    with Coalescer(BatchWriter(prepared), write) as coalescer:
        coalescer.submit(1).result()
        answer = in_a_child(lambda: coalescer.submit(2))
        assert answer.startswith("ConfigurationError: this coalescer belongs to the process")
        assert in_a_child(coalescer.close) == "0"
        coalescer.submit(3).result()
    assert ids(prepared) == [1, 3]


def test_in_another_event_loop_an_async_coalescer_is_refused(prepared):
    engine = async_engine_for(prepared)
    coalescer = AsyncCoalescer(AsyncBatchWriter(engine), write)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(coalescer.submit(1)).status == "written"
        with pytest.raises(ConfigurationError, match="another event loop"):
            second.run(coalescer.submit(2))
        with pytest.raises(ConfigurationError, match="another event loop"):
            second.run(coalescer.close())
        assert first.run(coalescer.close()) == 0
        first.run(engine.dispose())
    assert ids(prepared) == [1]


def test_the_end_of_an_event_loop_answers_everybody(prepared):
    engine = async_engine_for(prepared, poolclass=NullPool)  # no connection outlives the event loop
    coalescer = AsyncCoalescer(AsyncBatchWriter(engine), write, max_delay=10.0)

    async def leave():
        await asyncio.gather(*[coalescer.submit(number) for number in range(3)])
        task = asyncio.create_task(coalescer.submit(4))
        await asyncio.sleep(0.05)
        return task

    with asyncio.Runner() as runner:
        task = runner.run(leave())
    assert task.cancelled() or task.result().status == "unattempted"
    assert ids(prepared) == [0, 1, 2]


def test_a_map_function_that_waits_for_its_own_coalescer_is_refused(prepared):
    engine = async_engine_for(prepared)

    async def scenario():
        async def map_item(item, out):
            write(item, out)
            if item == 1:
                await coalescer.submit(2)
            if item == 3:
                await coalescer.close()

        coalescer = AsyncCoalescer(AsyncBatchWriter(engine), map_item)
        outcomes = [await coalescer.submit(1), await coalescer.submit(3), await coalescer.submit(4)]
        await coalescer.close()
        await engine.dispose()
        return outcomes

    first, third, fourth = asyncio.run(scenario())
    assert (first.failure.error_type, third.failure.error_type) == ("ConfigurationError", "ConfigurationError")
    assert fourth.status == "written"
    assert ids(prepared) == [4]
