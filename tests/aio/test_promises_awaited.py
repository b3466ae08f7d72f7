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


def by_class(outcome):
    """An outcome without what asyncpg, which looks at values itself, says otherwise of them than the server."""
    return "failed 22" if outcome.startswith("failed 22") else outcome


@given(data=st.data())
def test_it_does_so_through_asyncpg(module_database, created, data):
    engine = create_engine(module_database)
    described, reference = test_promises.described, test_promises.write_sequentially
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(test_promises, "BatchWriter", AwaitedByAsyncpg)
            patch.setattr(test_promises, "described", lambda outcome: by_class(described(outcome)))
            patch.setattr(
                test_promises, "write_sequentially", lambda *arguments: [*map(by_class, reference(*arguments))]
            )
            test_promises.compare(engine, created, data)
    finally:
        engine.dispose()
