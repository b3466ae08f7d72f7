"""What objects hold, looked at from outside. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# An attribute that says nothing of what an object holds: SQLAlchemy's state of an instance.
_NO_VALUE = "_sa_instance_state"


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, by name, in the order of the names; none for an object that has none."""
    slots = [name for each in type(value).__mro__ for name in _names(getattr(each, "__slots__", ()))]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    # Names with two underscores are Python's own: what slots are for, where a class comes from.
    return {name: each for name, each in sorted(found.items()) if name != _NO_VALUE and not name.startswith("__")}


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots
