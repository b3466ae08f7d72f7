"""Telling keys apart that a database compares by a collation which nobody has told us of. Pure.

Two texts may be equal to a database that are not to Python: by case, by accents, by what a language takes for one
letter, by spaces at the end. What `folded` gives is the same for two keys wherever that might be so; so keys of which
it differs certainly name different rows, whatever the collation.

Source: compared with every collation of MariaDB 10.11 (`tests/faults/test_mariadb_texts.py`); the classes of letters
are those of Lithuanian (i = y, c = ch), Roman (i = j, u = v), Estonian (v = w), Hungarian (ccs = cscs) and of
`macce_general_ci` (m = n).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchwrite.table import TableInfo

_LETTERS = re.compile("[a-z]+")
_ALIKE = str.maketrans("jyvwnh", "iiuum ")

# Not among them: what old encodings of single languages have in the places of @ [ \\ ] ^ ` { | } ~ and ?.
_KNOWN = re.compile(r"[0-9a-zA-Z !\"#$%&'()*+,\-./:;<=>_]*")


def folded(table: TableInfo, columns: Sequence[str], key: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """A key that is the same for any two which the database might take for one; nothing where that is not known.

    Args:
        table: The table.
        columns: The key's columns.
        key: Their values.
    """
    parts: list[Any] = []
    for column, value in zip(columns, key, strict=True):
        if table.exact.get(column) is type(value):
            parts.append(value)
        elif column in table.foldable and type(value) is str:
            text = _folded_text(value)
            if text is None:
                return None
            parts.append(text)
        else:
            return None
    return tuple(parts)


def _folded_text(text: str) -> str | None:
    """Each run of letters as the set of those in it, whatever their case; nothing where a character is not known."""
    if not _KNOWN.fullmatch(text):
        return None
    return _LETTERS.sub(_classes, text.rstrip().lower())


def _classes(run: re.Match[str]) -> str:
    return "".join(sorted(set(run[0].translate(_ALIKE)))).lstrip()
