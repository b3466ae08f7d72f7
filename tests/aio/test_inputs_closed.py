"""What a run reads is closed when the run ends, however it ends: no task, file or lock of an input outlives it."""

import asyncio
from contextlib import aclosing

import pytest
from rows import METADATA, ids, write, write_later

from batchwrite import BatchWriter, ConfigurationError, Ledger, LedgerMismatch, RetryPolicy, RunInterrupted, SourceError
from batchwrite.aio import AsyncBatchWriter

pytestmark = pytest.mark.one_database


class Ends(BaseException):
    """Ends whatever is going on."""


class Source:
    """An asynchronous input with a helper task, as those have that read ahead.

    Attributes:
        closed: How often it has come to its end.
    """

    def __init__(self, items=range(1, 1_000), fails=None):
        self.closed = 0
        self.helper = None
        self._items, self._fails = items, fails

    async def __aiter__(self):
        self.helper = asyncio.create_task(asyncio.sleep(3_600))
        try:
            for item in self._items:
                await asyncio.sleep(0)
                yield item
        finally:
            self.helper.cancel()
            await asyncio.wait({self.helper})  # closing takes turns of the event loop
            self.closed += 1
            if self._fails is not None:
                raise self._fails


def forms(source):
    """The same input as an iterable that makes a generator, and as a generator that was made before."""
    yield source
    yield aiter(source)


async def raised_at_once(stream):
    async for _ in stream:
        raise LookupError


def boom(number, out):
    if number == 7:
        raise Ends
    write(number, out)


def refuse(number, out):
    write(-number, out)


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize(
    ("options", "map_item", "reason"),
    [
        ({}, write_later, None),
        ({"on_failure": "stop"}, refuse, "failure_limit"),
        ({"max_failures": 5}, refuse, "failure_limit"),
        ({"max_failure_ratio": 0.5}, refuse, "failure_limit"),
    ],
)
def test_it_is_closed_when_the_run_has_ended(loop, aengine, form, options, map_item, reason):
    async def run():
        source = Source()
        result = await AsyncBatchWriter(aengine, chunk_size=5, **options).run(list(forms(source))[form], map_item)
        assert source.closed == 1
        assert source.helper.done()
        return result

    result = loop.run(run())
    assert (result.abort and result.abort.reason) == reason


@pytest.mark.parametrize("form", [0, 1])
def test_it_is_closed_when_the_database_ends_the_run(loop, aengine, prepared, form):
    METADATA.drop_all(prepared)

    async def run():
        source = Source()
        retry = RetryPolicy(attempts=1)
        result = await AsyncBatchWriter(aengine, chunk_size=5, retry=retry).run(list(forms(source))[form], write)
        assert (source.closed, result.abort.reason) == (1, "fatal")

    loop.run(run())


@pytest.mark.parametrize("form", [0, 1])
def test_it_is_closed_when_the_map_function_ends_the_program(loop, aengine, form):
    source = Source()

    async def run():
        await AsyncBatchWriter(aengine, chunk_size=5).run(list(forms(source))[form], boom)

    with pytest.raises(Ends):
        loop.run(run())
    assert source.closed == 1


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("items", [3, 300])
def test_it_is_closed_when_the_task_is_cancelled(loop, aengine, prepared, form, items):
    """While a chunk is flushed, and while more input is waited for."""

    async def endless():
        for number in range(1, items + 1):
            yield number
        await asyncio.sleep(3_600)

    class Waiting(Source):
        async def __aiter__(self):
            try:
                async for item in endless():
                    yield item
            finally:
                await asyncio.sleep(0)
                self.closed += 1

    async def run():
        source = Waiting()
        task = asyncio.create_task(AsyncBatchWriter(aengine, chunk_size=1).run(list(forms(source))[form], write))
        while not ids(prepared):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert source.closed == 1
        return caught.value.result

    assert loop.run(run()).written == len(ids(prepared))


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("how", ["left", "stopped", "raised"])
def test_a_stream_closes_it_too(loop, aengine, form, how):
    async def run():
        source = Source()
        stream = AsyncBatchWriter(aengine, chunk_size=5).stream(list(forms(source))[form], write)
        if how == "stopped":
            async for outcome in stream:
                if outcome.index == 7:
                    stream.stop()
        elif how == "left":
            async for _ in stream:
                break
            await stream.aclose()
        else:
            async with aclosing(stream):
                with pytest.raises(LookupError):
                    await raised_at_once(stream)
        assert source.closed == 1

    loop.run(run())


def test_an_input_of_one_s_own_with_an_aclose_is_closed(loop, aengine, prepared):
    """An iterator that is no generator, also where nothing of it has been read."""

    class Numbers:
        def __init__(self):
            self.closed, self.number = 0, 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.number += 1
            if self.number > 3:
                raise StopAsyncIteration
            return self.number

        async def aclose(self):
            await asyncio.sleep(0)
            self.closed += 1

    async def run():
        numbers = Numbers()
        assert (await AsyncBatchWriter(aengine).run(numbers, write)).written == 3
        unread = Numbers()
        stream = AsyncBatchWriter(aengine).stream(unread, write)
        stream.stop()
        assert [outcome async for outcome in stream] == []
        return numbers.closed, unread.closed, unread.number

    assert loop.run(run()) == (1, 1, 0)


def test_it_is_closed_where_the_run_cannot_go_on(loop, aengine, prepared):
    ledger = Ledger()
    ledger.create(prepared)
    writer = AsyncBatchWriter(aengine, chunk_size=2, ledger=ledger)

    async def run(items):
        source = Source(items)
        try:
            result = await writer.run(aiter(source), write, run_id="x")
        except LedgerMismatch:
            result = None
        return source.closed, result

    assert loop.run(run(range(1, 6)))[1].written == 5
    assert loop.run(run(range(2, 20))) == (1, None)
    closed, result = loop.run(run(range(1, 8)))
    assert (closed, result.resumed, result.written) == (1, 5, 2)


def test_what_closing_raises_is_told_with_the_result(loop, aengine, prepared, caplog):
    """Where something else has ended the run that is told, and this is in the log."""

    async def run(map_item, **options):
        await AsyncBatchWriter(aengine, chunk_size=5, **options).run(Source(range(1, 8), OSError("planted")), map_item)

    with pytest.raises(SourceError, match="reading the input raised OSError") as caught:
        loop.run(run(write))
    assert caught.value.result.written >= 5
    with pytest.raises(SourceError, match="closing the input raised OSError; 0 items written, 1 failed") as caught:
        loop.run(run(refuse, on_failure="stop"))
    assert caught.value.result.abort.reason == "failure_limit"
    assert "planted" not in str(caught.value)
    with pytest.raises(Ends):
        loop.run(run(boom))
    assert [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "input"] == [
        "closing the input raised OSError"
    ]


# ---- without an event loop


class Numbers:
    """An input that makes a generator for each who asks."""

    def __init__(self, count=100, ends=None):
        self.closed = 0
        self._count, self._ends = count, ends

    def __iter__(self):
        try:
            for number in range(1, self._count + 1):
                if number == self._ends:
                    raise KeyboardInterrupt
                yield number
        finally:
            self.closed += 1


@pytest.mark.parametrize("how", ["end", "limit", "map", "interrupt", "left"])
def test_a_generator_that_is_made_for_the_run_is_closed(prepared, how):
    source = Numbers(ends=9 if how == "interrupt" else None)
    writer = BatchWriter(prepared, chunk_size=5, **({"on_failure": "stop"} if how == "limit" else {}))
    if how == "left":
        stream = iter(writer.stream(source, write))
        next(stream)
        stream.close()
    elif how in {"map", "interrupt"}:
        with pytest.raises(Ends if how == "map" else RunInterrupted):
            writer.run(source, boom if how == "map" else write)
    else:
        writer.run(source, refuse if how == "limit" else write)
    assert source.closed == 1


def test_a_generator_that_is_given_stays_its_makers(prepared):
    """As in a `for`: who has made it may go on with it, behind what the run has received."""
    source = Numbers(20)
    numbers = iter(source)
    result = BatchWriter(prepared, chunk_size=5, on_failure="stop").run(numbers, refuse)
    assert source.closed == 0
    assert list(numbers) == list(range(result.received + 1, 21))
    assert source.closed == 1


def test_a_generator_of_a_plain_input_is_treated_alike_by_both_writers(loop, aengine):
    source, given = Numbers(20), Numbers(20)
    numbers = iter(given)

    async def run():
        writer = AsyncBatchWriter(aengine, chunk_size=5, on_failure="stop")
        return await writer.run(source, refuse), await writer.run(numbers, refuse)

    _, result = loop.run(run())
    assert (source.closed, given.closed) == (1, 0)
    assert list(numbers) == list(range(result.received + 1, 21))


def test_an_input_of_a_run_that_was_never_begun_is_left_as_it_is(loop, aengine):
    source = Source()

    async def run():
        numbers = aiter(source)
        with pytest.raises(ConfigurationError):
            await AsyncBatchWriter(aengine).run(numbers, write, run_id="needs a ledger")
        return [number async for number in numbers][:2]

    assert loop.run(run()) == [1, 2]
