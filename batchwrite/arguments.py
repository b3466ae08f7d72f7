"""What arguments have to be, where several take the same. Pure."""

from __future__ import annotations

import threading

from batchwrite.errors import ConfigurationError


def check_seconds(name: str, seconds: float, *, may_be_zero: bool = False, hint: str = ", or None") -> None:
    """Make sure that something can be waited for so long.

    Args:
        name: What the argument is called.
        seconds: What was given for it.
        may_be_zero: Whether it may be not at all.
        hint: What else it may be.

    Raises:
        ConfigurationError: It cannot.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not (is_number and 0 <= seconds <= threading.TIMEOUT_MAX) or (seconds == 0 and not may_be_zero):
        bound = "of at least 0" if may_be_zero else "above 0"
        raise ConfigurationError(f"{name} must be a number of seconds {bound}{hint}")
