"""The promises hold under asyncio: the same property tests, against the same reference."""

import pytest
import test_promises
from awaited import Awaited, AwaitedByAsyncpg
from databases import tables_kept, watched
from generated import cases
from hypothesis import given
from sqlalchemy import create_engine


@given(case=cases())
def test_a_run_does_what_its_items_do_one_by_one(shared_engine, emptied, case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_promises, "BatchWriter", Awaited)
        test_promises.compare(shared_engine, emptied, case)


def by_class(outcome):
    """An outcome without what asyncpg, which looks at values itself, says otherwise of them than the server."""
    return "failed 22" if outcome.startswith("failed 22") else outcome


@pytest.fixture(scope="module")
def postgres_module_engine(module_database):
    with watched(create_engine(module_database)) as engine:
        yield engine


@pytest.fixture(scope="module")
def emptied_for_asyncpg(postgres_module_engine):
    with tables_kept(postgres_module_engine) as kept:
        yield kept.emptied


@given(case=cases())
def test_it_does_so_through_asyncpg(postgres_module_engine, emptied_for_asyncpg, case):
    described, reference = test_promises.described, test_promises.write_sequentially
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_promises, "BatchWriter", AwaitedByAsyncpg)
        patch.setattr(test_promises, "described", lambda outcome: by_class(described(outcome)))
        patch.setattr(test_promises, "write_sequentially", lambda *arguments: [*map(by_class, reference(*arguments))])
        test_promises.compare(postgres_module_engine, emptied_for_asyncpg, case)
