"""What is written while faults strike: workloads that together make the library send each of its statements."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from failing_proxy import Kind
from orders_and_stock import bad_line, bad_order, item_key, line, order

from batchwrite import IdempotencyKey


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Items, and how they are written.

    Attributes:
        items: The items.
        chunk_size: Most items of a chunk.
        workers: The writer's.
        has_ledger: Whether a ledger is kept.
        is_cold: Whether connecting, and what is learnt once, are part of it: the writer has done nothing before.
        run_id: Whether the run has a name, so that what earlier starts have committed is read.
        letters: Whether dead letters are kept.
        keys: Whether items have idempotency keys.
        is_generic: Whether it is written by SQLAlchemy's statements.
        setup: SQL that changes the tables beforehand.
        first_fault: What goes wrong before, at the first COMMIT, so that what follows is what is swept.
    """

    items: list[dict[str, Any]]
    chunk_size: int = 1_000
    workers: int = 0
    has_ledger: bool = False
    is_cold: bool = False
    run_id: bool = False
    letters: bool = False
    keys: bool = False
    is_generic: bool = False
    setup: str = ""
    first_fault: Kind | None = None


def _lines(count: int) -> list[dict[str, Any]]:
    return [line(number) for number in range(count)]


def _lines_with_bad(count: int, every: int) -> list[dict[str, Any]]:
    return [bad_line(number) if number % every == every - 1 else line(number) for number in range(count)]


def _orders(count: int) -> list[dict[str, Any]]:
    return [*map(order, range(1, count)), {"kind": "changes", "sku": "sku-1"}]


def _orders_with_bad(count: int) -> list[dict[str, Any]]:
    made = [bad_order(number) if number % 5 == 4 else order(number) for number in range(1, count)]
    changes = [{"kind": "changes", "sku": "sku-2"}, {"kind": "counts", "sku": "unknown"}]
    return [*made, {"kind": "raises"}, {"kind": "skips"}, *changes]


# A line of an order that only comes behind it: to be refused, but seen to be so only by a look before.
_TOO_EARLY = [line(50, order_id=3), order(2), order(3)]

_TAKES = [line(number) | {"kind": "takes"} for number in range(6)]
_TAKES[4] = bad_line(4) | {"kind": "takes"}

_CUSTOMERS = [{"kind": "customer", "name": name, "order": 1} for name in ("one", "two", "far too long a name", "three")]


_DEFERRED = "ALTER TABLE lines ALTER CONSTRAINT known_order DEFERRABLE INITIALLY DEFERRED"

# What looks like the program's fault is looked at without rows, item by item.
_LOOKS_FATAL = """
CREATE FUNCTION look_up() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no such table' USING ERRCODE = '42P01'; END $$;
CREATE TRIGGER looks_up BEFORE INSERT ON lines FOR EACH ROW WHEN (NEW.quantity = 13) EXECUTE FUNCTION look_up()
"""

_WITH_LEDGER: dict[str, Workload] = {
    "small, cold": Workload(items=_lines(4), is_cold=True, run_id=True),
    "small, cold, beside": Workload(items=_lines(4), is_cold=True, workers=1, letters=True),
    "small": Workload(items=_lines(6), chunk_size=3, workers=1),
    "copy": Workload(items=_lines(120)),
    "copy, beside": Workload(items=_lines(220), chunk_size=110, workers=2),
    "tables": Workload(items=_orders(6), workers=1, setup=_DEFERRED),
    "tables, copy": Workload(items=_orders(60), keys=True),
    "bad": Workload(items=_lines_with_bad(8, 4), workers=1, letters=True, run_id=True),
    "bad tables": Workload(items=_orders_with_bad(8), setup=_DEFERRED, keys=True, letters=True),
    "bad copy": Workload(items=_lines_with_bad(120, 50), workers=1),
    "bad takes": Workload(items=_TAKES, workers=1),
    "bad customers": Workload(items=_CUSTOMERS),
    "too early": Workload(items=_TOO_EARLY),
    "too early, generic": Workload(items=_TOO_EARLY, is_generic=True),
    "generic": Workload(items=_orders(4), is_generic=True),
    "generic bad": Workload(items=_orders_with_bad(5), is_generic=True, setup=_DEFERRED, letters=True, keys=True),
    "generic, looks fatal": Workload(items=[line(1), line(2, quantity=13)], is_generic=True, setup=_LOOKS_FATAL),
    "doubt, landed": Workload(items=_lines(3), workers=1, first_fault=Kind.CUT_AFTER),
    "doubt, undone": Workload(items=_lines(3), first_fault=Kind.CUT_BEFORE),
    "doubt of a copy, landed": Workload(items=_lines(110), first_fault=Kind.SWALLOWED),
    "doubt of bad ones, undone": Workload(
        items=_lines_with_bad(4, 2), workers=1, letters=True, first_fault=Kind.CUT_BEFORE
    ),
    "doubt, generic, landed": Workload(items=_orders_with_bad(4), is_generic=True, first_fault=Kind.CUT_AFTER),
}

_WITHOUT_LEDGER: dict[str, Workload] = {
    "small, cold": Workload(items=_lines(4), is_cold=True, workers=1),
    "copy": Workload(items=_lines(120), workers=1),
    "tables, copy": Workload(items=_orders(60), workers=1, setup=_DEFERRED),
    "bad tables": Workload(items=_orders_with_bad(8), setup=_DEFERRED),
    "generic": Workload(items=_orders(3), is_generic=True),
}


def _with(workload: Workload, **change: Any) -> Workload:
    return Workload(**{**workload.__dict__, **change})


WORKLOADS = {
    **{f"{name}, ledger": _with(workload, has_ledger=True) for name, workload in _WITH_LEDGER.items()},
    **_WITHOUT_LEDGER,
}


def key_of(workload: Workload) -> IdempotencyKey | None:
    return IdempotencyKey(of=item_key, retention=timedelta(days=1)) if workload.keys else None
