"""The rows that are written: the same in every run and for every contender. Pure; nothing is drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Row = dict[str, Any]

CUSTOMERS = 1_000
"""Customers 1 to this number exist where a foreign key asks for them."""

LINES_PER_INVOICE = 20
LINES_PER_ORDER = 5
WIDE_COLUMNS = 20
"""Columns of each of three types in a wide row."""

# Multiplied with row numbers, so that what looks random is: a prime near 2**32 divided by the golden ratio (Knuth).
_SPREAD = 2_654_435_761
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_PRICES = tuple(Decimal(cents) / 100 for cents in range(99, 10_099, 10))
_WORDS = ("RED", "WHITE", "HANGING", "HEART", "LANTERN", "KNITTED", "HOT WATER", "GLASS", "STAR", "FROSTED", "VINTAGE")
_DESCRIPTIONS = tuple(f"{a} {b} {c} HOLDER" for a in _WORDS for b in _WORDS for c in _WORDS[:5])


class BadKind(StrEnum):
    """What is wrong with a bad row."""

    UNIQUE = "unique"
    NOT_NULL = "not null"
    CHECK = "check"
    FOREIGN_KEY = "foreign key"
    BAD_VALUE = "bad value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows in order.

    Attributes:
        items: All of them, by column.
        bad: Which positions hold a row that must be refused, and why.
    """

    items: list[Row]
    bad: Mapping[int, BadKind]

    @property
    def good(self) -> list[Row]:
        """The rows that land."""
        return [row for position, row in enumerate(self.items) if position not in self.bad]


def line_rows(count: int) -> Iterator[Row]:
    """Good invoice lines of nine columns, one after the other; `id` counts from 1."""
    for number in range(count):
        spread = number * _SPREAD
        yield {
            "id": number + 1,
            "invoice": f"I{number // LINES_PER_INVOICE:08d}",
            "line": number % LINES_PER_INVOICE + 1,
            "sku": f"{spread % 90_000 + 10_000}",
            "description": _DESCRIPTIONS[spread % len(_DESCRIPTIONS)],
            "quantity": spread % 97 + 1,
            "unit_price": _PRICES[spread % len(_PRICES)],
            "customer_id": spread % CUSTOMERS + 1,
            "invoiced_at": _BEGIN + timedelta(seconds=number),
        }


def lines(count: int, bad_share: float = 0.0, kinds: Sequence[BadKind] = tuple(BadKind)) -> Rows:
    """Invoice lines, some of them bad.

    Args:
        count: Number of rows.
        bad_share: Share of bad rows, from 0 to 0.5; if above 0, there is one at least.
        kinds: What is wrong with them, in turn.
    """
    items = list(line_rows(count))
    bad = dict(zip(bad_positions(count, bad_share), cycle(kinds), strict=False))
    for position, kind in bad.items():
        _spoil(items, position, kind)
    return Rows(items=items, bad=bad)


def bad_positions(count: int, share: float) -> list[int]:
    """Where the bad rows stand: spread evenly, and never two beside each other."""
    number = max(1, round(count * share)) if share else 0
    return [(2 * index + 1) * count // (2 * number) for index in range(number)]


def _spoil(items: list[Row], position: int, kind: BadKind) -> None:
    row = items[position]
    match kind:
        case BadKind.UNIQUE:  # of the row before it, which is good
            row |= {name: items[position - 1][name] for name in ("invoice", "line")}
        case BadKind.NOT_NULL:
            row["description"] = None
        case BadKind.CHECK:
            row["quantity"] = 0
        case BadKind.FOREIGN_KEY:
            row["customer_id"] = CUSTOMERS + 1
        case BadKind.BAD_VALUE:
            row["quantity"] = "twelve"


def plain(rows: list[Row]) -> list[Row]:
    """The rows with values that SQLite stores as they are: prices in whole cents, times as ISO 8601 text."""
    return [
        row | {"unit_price": int(row["unit_price"] * 100), "invoiced_at": row["invoiced_at"].isoformat(" ")}
        for row in rows
    ]


def wide(count: int) -> list[Row]:
    """Rows of 61 columns: a key, and 20 of whole numbers, of decimals and of texts each."""
    numbered = range(WIDE_COLUMNS)
    return [
        {"id": number + 1}
        | {f"number_{column}": (number + column) * _SPREAD % 1_000_000 for column in numbered}
        | {f"amount_{column}": _PRICES[(number + column) % len(_PRICES)] for column in numbered}
        | {f"text_{column}": _DESCRIPTIONS[(number * 7 + column) % len(_DESCRIPTIONS)] for column in numbered}
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order with its lines."""

    header: Row
    lines: list[Row]


def orders(count: int) -> list[Order]:
    """Orders of five lines each."""
    made = []
    for number in range(count):
        spread = number * _SPREAD
        header = {"id": number + 1, "customer_id": spread % CUSTOMERS + 1, "ordered_at": _BEGIN + timedelta(0, number)}
        order_lines = [
            {
                "order_id": number + 1,
                "line": line,
                "sku": f"{(spread + line) % 90_000 + 10_000}",
                "quantity": (spread + line) % 97 + 1,
                "unit_price": _PRICES[(spread + line) % len(_PRICES)],
            }
            for line in range(1, LINES_PER_ORDER + 1)
        ]
        made.append(Order(header=header, lines=order_lines))
    return made


def increments(count: int, keys: int, *, skewed: bool = False) -> list[Row]:
    """What is to be added to the stock, line by line.

    Args:
        count: Number of lines.
        keys: Number of different keys, from 1 on; each comes up if there are lines enough.
        skewed: Whether few keys take most of the lines: half of them go to a thirty-second of the keys.
    """
    made = []
    for number in range(count):
        spread = number * _SPREAD % 2**32 / 2**32
        key = int(spread**5 * keys) if skewed else number * _SPREAD % keys
        made.append({"sku_id": key + 1, "delta": number % 9 + 1})
    return made
