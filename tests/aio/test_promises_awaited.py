"""The promises hold under asyncio: the same property tests, against the same reference."""

import pytest
import test_promises
from awaited import Awaited, AwaitedByAsyncpg
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine


@given(data=st.data())
def test_a_run_does_what_its_items_do_one_by_one(shared_engine, created, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_promises, "BatchWriter", Awaited)
        test_promises.compare(shared_engine, created, data)


@given(data=st.data())
def test_it_does_so_through_asyncpg(module_database, created, data):
    engine = create_engine(module_database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_promises, "BatchWriter", AwaitedByAsyncpg)
        test_promises.compare(engine, created, data)
    engine.dispose()
