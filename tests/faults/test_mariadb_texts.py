"""Texts that MariaDB may take for one: keys are told apart only where no collation of its own does."""

import itertools
import string
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from batchwrite.folding import folded

KEYS = SimpleNamespace(exact={}, foldable=frozenset({"key"}))


def form_of(value):
    (form,) = folded(KEYS, ["key"], (value,)) or (None,)
    return form


PAIRS = [*map("".join, itertools.product(map(chr, range(32, 127)), repeat=2))]
TRIPLES = [*map("".join, itertools.product(string.ascii_lowercase, repeat=3))]
# What languages have made one letter of; also twice, and as some write it twice.
JOINED = [
    *("dz", "dzs", "cs", "gy", "ly", "ny", "sz", "ty", "zs", "ch", "ll", "rr", "lj", "nj", "dd", "ng", "ij", "ae")
]
LONGER = (
    [a + b for a in JOINED for b in JOINED] + [each[0] + each for each in JOINED] + [f"x{each} 1" for each in JOINED]
)

# Those of other encodings of Unicode, without padding, and those that mind case or accents tell apart no fewer texts.
COLLATIONS = """
SELECT character_set_name, full_collation_name FROM information_schema.collation_character_set_applicability
WHERE character_set_name NOT IN ('binary', 'utf8mb3', 'ucs2', 'utf16', 'utf16le', 'utf32')
AND full_collation_name NOT REGEXP '_bin$|nopad|_as_|_cs$'
"""


@pytest.fixture
def texts(mariadb_engine):
    values = dict.fromkeys([*map(chr, range(32, 127)), *PAIRS, *TRIPLES, *LONGER, *map(str.title, LONGER)])
    with mariadb_engine.begin() as connection:
        exact = "VARCHAR(20) COLLATE utf8mb4_nopad_bin"
        connection.exec_driver_sql(f"CREATE TABLE texts (value {exact}, form {exact})")
        rows = [{"value": value, "form": form_of(value)} for value in values]
        connection.execute(text("INSERT INTO texts VALUES (:value, :form)"), rows)
    return mariadb_engine


def test_no_collation_of_the_databases_takes_texts_for_one_that_are_told_apart(texts):
    """In every collation, all texts that are equal have one form."""
    with texts.connect() as connection:
        collations = connection.exec_driver_sql(COLLATIONS).all()
        assert len(collations) > 50
        wrong = {}
        for encoding, collation in collations:
            compared = f"CONVERT(value USING {encoding}) COLLATE {collation}"
            query = f"SELECT GROUP_CONCAT(value) FROM texts GROUP BY {compared} HAVING COUNT(DISTINCT form) > 1 LIMIT 3"
            wrong[collation] = connection.exec_driver_sql(query).scalars().all()
    assert {collation: found for collation, found in wrong.items() if found} == {}


@pytest.mark.parametrize("value", ["ä", "a\n", "a\0", "a~", 5, None, b"a"])
def test_what_may_be_anything_to_a_collation_is_not_told_apart(value):
    assert form_of(value) is None
