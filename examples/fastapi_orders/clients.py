"""Clients for `load.py`: each sends one order after the other over a connection of its own, and notes the answers.

HTTP/1.1 over asyncio's streams, no more of it than is needed here: they share the processors with what is measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

SKUS = tuple(f"sku-{number:03}" for number in range(1, 101))

GOOD, UNKNOWN_SKU, NO_QUANTITY, NUMBER_TAKEN = "good", "unknown sku", "quantity 0", "number taken"
BAD = (UNKNOWN_SKU, NO_QUANTITY, NUMBER_TAKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An order that was sent, and its answer.

    Attributes:
        number: Its number.
        kind: `GOOD`, or what is wrong with it.
        lines: How many lines it has.
        cents: What they come to.
        status: Of the answer; `None` where the connection ended without one.
        constraint: Which the answer names.
        began: When it was sent, on the clock that only goes up.
        seconds: How long the answer took.
    """

    number: str
    kind: str
    lines: int
    cents: int
    status: int | None
    constraint: str | None
    began: float
    seconds: float


class Connection:
    """A connection that is kept open from request to request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def opened(cls, port: int) -> Self:
        """One to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request; the status and body of the answer.

        Raises:
            OSError: The connection was closed, as `ConnectionError` too.
            asyncio.IncompleteReadError: Likewise, before the answer was whole.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: orders\r\nContent-Type: application/json\r\n"
        self._writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body))
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(answer[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close it."""
        self._writer.close()


class Client:
    """One client, with orders of his own.

    Args:
        name: What his orders' numbers begin with.
        bad_share: The share of orders that are to be refused, from 0 to 1.
    """

    def __init__(self, name: str, bad_share: float) -> None:
        self._name = name
        self._bad_share = bad_share
        self._chance = random.Random(name)  # noqa: S311 - keeps no secret
        self._taken: list[str] = []
        self.sent: list[Sent] = []

    async def run(self, port: int, deadline: float) -> None:
        """Send orders until a moment, or until the connection ends."""
        try:
            connection = await Connection.opened(port)
        except OSError:
            return  # refused: nothing was sent
        try:
            while time.monotonic() < deadline and await self._send(connection):
                pass
        finally:
            connection.close()

    async def _send(self, connection: Connection) -> bool:
        """Send an order and note the answer; whether there was one."""
        number, kind, lines = self._order()
        order = {
            "number": number,
            "customer": self._name,
            "lines": [
                {"sku": sku, "quantity": quantity, "unit_price": f"{cents // 100}.{cents % 100:02}"}
                for sku, quantity, cents in lines
            ],
        }
        body = json.dumps(order).encode()
        status, constraint = None, None
        began = time.monotonic()
        try:
            status, answer = await connection.request("POST", "/orders", body)
        except (OSError, asyncio.IncompleteReadError):
            pass
        else:
            if status == 201:
                self._taken.append(number)
            else:
                constraint = json.loads(answer).get("constraint")
        self.sent.append(
            Sent(
                number=number,
                kind=kind,
                lines=len(lines),
                cents=sum(quantity * cents for _, quantity, cents in lines),
                status=status,
                constraint=constraint,
                began=began,
                seconds=time.monotonic() - began,
            )
        )
        return status is not None

    def _order(self) -> tuple[str, str, list[tuple[str, int, int]]]:
        chance = self._chance
        number = f"{self._name}-{len(self.sent)}"
        kind = chance.choice(BAD) if chance.random() < self._bad_share else GOOD
        lines = [
            (sku, chance.randint(1, 20), chance.randint(1, 99_999)) for sku in chance.sample(SKUS, chance.randint(1, 5))
        ]
        sku, quantity, cents = lines[-1]
        if kind == UNKNOWN_SKU:
            lines[-1] = ("sku-unknown", quantity, cents)
        elif kind == NO_QUANTITY:
            lines[-1] = (sku, 0, cents)
        elif kind == NUMBER_TAKEN:
            if not self._taken:
                return number, GOOD, lines
            number = chance.choice(self._taken)
        return number, kind, lines


async def load(port: int, clients: int, deadline: float, bad_share: float) -> list[Sent]:
    """Let so many clients send orders until a moment; all that was sent."""
    crowd = [Client(f"client-{number}", bad_share) for number in range(clients)]
    await asyncio.gather(*[client.run(port, deadline) for client in crowd])
    return [sent for client in crowd for sent in client.sent]
