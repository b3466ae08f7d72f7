"""A client that is to be killed: for each line of input a process that does one run, and is none of the test's.

It is started once, and forks: what is imported is imported once, so that a kill comes as soon as it should.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from orders_and_stock import bad_order, order, record
from sqlalchemy import create_engine

from batchwrite import BatchWriter, DeadLetters, Ledger, RetryPolicy

PATIENT = RetryPolicy(attempts=20, first_wait=0.05, longest_wait=0.5)


def stream(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Orders of which about 1 % are bad, the same for the same seed."""
    random = Random(seed)
    for number in range(1, count + 1):
        chance = random.random()
        if chance < 0.008:
            yield bad_order(number)
        elif chance < 0.011:
            yield {"kind": "raises"}
        elif chance < 0.02:
            yield {"kind": "skips"}
        else:
            yield order(number)


def write(settings: dict[str, Any]) -> dict[str, Any]:
    """One start of the run; what its result says."""
    engine = create_engine(settings["url"])
    writer = BatchWriter(
        engine,
        chunk_size=settings["chunk_size"],
        workers=settings["workers"],
        ledger=Ledger(),
        dead_letters=DeadLetters(),
        retry=PATIENT,
    )
    items = stream(settings["seed"], settings["count"])
    result = writer.run(items, record, run_id=settings["run_id"])
    engine.dispose()
    counts = {
        name: getattr(result, name) for name in ("written", "failed", "skipped", "unattempted", "unknown", "resumed")
    }
    return counts | {"abort": result.abort and result.abort.message}


def main() -> None:
    """For each line: fork, kill the child in its time, say how it ended; a child prints its result before it does."""
    for line in sys.stdin:
        settings = json.loads(line)
        child = os.fork()
        if child == 0:
            os.write(1, json.dumps({"result": write(settings)}).encode() + b"\n")
            os._exit(0)
        if settings["kill_after"] is not None:
            time.sleep(settings["kill_after"])
            os.kill(
                child, signal.SIGKILL
            )  # it may have ended, but has not been waited for: the number is still its own
        _, status = os.waitpid(child, 0)
        os.write(1, json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


if __name__ == "__main__":
    main()
