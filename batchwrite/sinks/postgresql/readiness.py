"""Waiting until a socket is ready: by blocking, or, where an event loop runs it, by letting others go on."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Readiness(Protocol):
    """Waits for one socket."""

    def wait(self, events: int, timeout: float | None) -> bool:
        """Wait until the socket can be read from, or written to, so many seconds at most; whether it can."""

    def cancel(self, seconds: float) -> None:
        """Have the server cancel what it does for the connection; it is asked so many seconds at most."""

    def close(self) -> None:
        """Wait no more."""


def readiness_of(connection: Connection) -> Readiness:
    """What waits for a connection's socket."""
    raw: Any = connection.connection.driver_connection
    return _AsyncReadiness(raw) if connection.dialect.is_async else _BlockingReadiness(raw)


class _BlockingReadiness:
    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._selector = selectors.DefaultSelector()
        self._selector.register(raw.pgconn.socket, READ | WRITE)

    def wait(self, events: int, timeout: float | None) -> bool:
        self._selector.modify(self._raw.pgconn.socket, events)
        return bool(self._selector.select(timeout))

    def cancel(self, seconds: float) -> None:
        self._raw.cancel_safe(timeout=seconds)

    def close(self) -> None:
        self._selector.close()


class _AsyncReadiness(_BlockingReadiness):
    def wait(self, events: int, timeout: float | None) -> bool:
        if super().wait(events, 0) or timeout == 0:
            return super().wait(events, 0)
        from sqlalchemy.util import await_only  # noqa: PLC0415 - needs greenlet, which is an extra

        await_only(_ready(self._raw.pgconn.socket, events, timeout))
        return super().wait(events, 0)

    def cancel(self, seconds: float) -> None:
        from sqlalchemy.util import await_only  # noqa: PLC0415 - needs greenlet, which is an extra

        await_only(self._raw.cancel_safe(timeout=seconds))


async def _ready(socket: int, events: int, timeout: float | None) -> None:
    """Return once a socket is ready, or the time is over."""
    loop = asyncio.get_running_loop()
    is_ready = asyncio.Event()
    if events & READ:
        loop.add_reader(socket, is_ready.set)
    if events & WRITE:
        loop.add_writer(socket, is_ready.set)
    try:
        async with asyncio.timeout(timeout):
            await is_ready.wait()
    except TimeoutError:
        pass
    finally:
        if events & READ:
            loop.remove_reader(socket)
        if events & WRITE:
            loop.remove_writer(socket)
