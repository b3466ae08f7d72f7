"""What a client is told of his order. No answer quotes a value: answers end up in logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .tables import NUMBER_TAKEN

if TYPE_CHECKING:
    from .models import NewOrder

RETRY_AFTER = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of HTTP: its status, body and additional headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def written(order: NewOrder) -> Answer:
    """The order is committed."""
    return Answer(status=201, body={"number": order.number, "lines": len(order.lines)})


def refused(message: str, table: str | None, column: str | None, constraint: str | None) -> Answer:
    """The order was refused for its own sake; it is of no use to send it again."""
    body = {"message": message, "table": table, "column": column, "constraint": constraint}
    return Answer(status=409 if constraint == NUMBER_TAKEN else 422, body=body)


def unavailable(message: str | None) -> Answer:
    """The order was not written, or nobody knows.

    It may be sent again either way: where it has landed the answer is 409 then.
    """
    return Answer(status=503, body={"message": message}, headers=RETRY_AFTER)
