"""The promises hold under asyncio: the same property tests, against the same reference."""

import pytest
import test_promises
from awaited import Awaited
from hypothesis import given
from hypothesis import strategies as st


@given(data=st.data())
def test_a_run_does_what_its_items_do_one_by_one(shared_engine, created, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_promises, "BatchWriter", Awaited)
        test_promises.compare(shared_engine, created, data)
