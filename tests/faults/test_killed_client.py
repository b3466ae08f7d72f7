"""SIGKILL of the client at random moments, started again until the run ends: as if nothing had been."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from orders_and_stock import METADATA, contents, fill, modelled
from sqlalchemy import func, select
from started_client import stream

from batchwrite import Ledger

pytestmark = pytest.mark.xdist_group("machine")

_HERE = Path(__file__).resolve().parent


class Client:
    """Starts runs in processes of their own, one at a time, and kills them."""

    def __init__(self):
        paths = [*map(str, (_HERE, _HERE.parents[1])), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "started_client.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def close(self):
        self._process.communicate()  # the end of its input is the end of it
        assert self._process.returncode == 0

    def run(self, settings, kill_after):
        """What the result says, or nothing if it was killed before."""
        self._process.stdin.write(json.dumps(settings | {"kill_after": kill_after}) + "\n")
        self._process.stdin.flush()
        told = {}
        while "status" not in told:
            told.update(json.loads(self._process.stdout.readline()))
        assert told["status"] in {0, -signal.SIGKILL}
        return told.get("result") if told["status"] == 0 else None


@pytest.fixture
def client():
    started = Client()
    yield started
    started.close()


def empty(engine, ledger):
    METADATA.create_all(engine)
    ledger.create(engine)
    with engine.begin() as connection:
        for table in ledger.metadata.sorted_tables:
            connection.execute(table.delete())
        fill(connection)


def reached(engine, ledger):
    """How far the run has come."""
    with engine.connect() as connection:
        return connection.scalar(select(func.coalesce(func.sum(ledger.chunks.c["items"]), 0)))


def kill_until_it_ends(client, engine, ledger, settings, moments):
    """Start it again and again; the number of kills, and what the last result says."""
    longest, last, vain, kills = 0.12, 0, 0, 0
    while (result := client.run(settings, moments.uniform(0, longest))) is None:
        kills += 1
        now = reached(engine, ledger)
        vain = vain + 1 if now == last else 0
        longest *= 1.5 if vain > 5 else 1.0  # a machine so slow that nothing gets done in the time
        last = now
    return kills, result


@pytest.mark.parametrize(("fewest", "chunk_size"), [(40, 40), (10, 200)], ids=["postgresql", "sqlite"])
def test_a_client_that_is_killed_and_started_again_writes_all_once(request, client, fewest, chunk_size, seed):
    engine = request.getfixturevalue("postgres_engine" if fewest == 40 else "sqlite_engine")
    moments, ledger, kills, count = random.Random(seed), Ledger(), 0, 3_000
    items = list(stream(seed, count))
    rows, failed, skipped = modelled(items)
    for number in itertools.count():
        if kills >= fewest:
            break
        empty(engine, ledger)
        settings = {
            "url": engine.url.render_as_string(hide_password=False),
            "run_id": f"killed {number}",
            "chunk_size": chunk_size,
            "workers": number % 3,
            "seed": seed,
            "count": count,
        }
        more, result = kill_until_it_ends(client, engine, ledger, settings, moments)
        kills += more
        assert result["abort"] is None
        with engine.connect() as connection:
            assert contents(connection) == rows
            letters = ledger.dead_letters
            kept = connection.execute(select(letters.c.item_index, letters.c.attempt).order_by(letters.c.item_index))
            assert list(map(tuple, kept)) == [(index, 1) for index in failed]
            chunks = ledger.chunks
            sums = select(*[func.sum(chunks.c[name]) for name in ("items", "written", "failed", "skipped")])
            written = count - len(failed) - len(skipped)
            assert tuple(connection.execute(sums).one()) == (count, written, len(failed), len(skipped))
    print(f"{kills} kills in {number} runs")  # noqa: T201 - pytest shows it where the test fails
