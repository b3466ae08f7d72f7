"""Functions, operators and types of PostgreSQL's own, named so that nobody else's can be meant.

An unqualified name is looked for along the `search_path`, and the best match for its arguments' types wins, wherever it
is. So whoever may create functions in any schema of it would have them called as the writer, with the rows' texts:
`unnest(text[])` would give rows of his own. (PostgreSQL's own advice since CVE-2018-1058.) Everything that our own
statements call is named by its schema; `tests/postgresql/test_search_path.py` lays traps for all there is.

What stays unqualified is the user's: the table, which SQLAlchemy would name in the same way, and the SQL of its
defaults. The expressions of CHECK constraints are written by the server itself, which qualifies what would not be
found.

A column is compared by the `=` of its own type: pg_catalog's, or, where the type is an extension's (citext), the one in
the type's own schema; a reference by the operator that the foreign key itself has. What SQLAlchemy writes in its own
way (ltree, hstore, arrays, SQL expressions) is looked for along the `search_path`, as in the user's own statements.
"""


def operator(name: str) -> str:
    """An operator of PostgreSQL's own. Whatever its name, it binds tighter than `=` and looser than `+` would."""
    return f"OPERATOR(pg_catalog.{name})"


EQUALS = operator("=")
DIFFERS = operator("<>")
PLUS = operator("+")
MINUS = operator("-")
JOINED = operator("||")
TEXT = "pg_catalog.text"


def rows_of(arrays: list[str]) -> str:
    """Arrays as the columns of rows, to stand behind FROM; `unnest(a, b)` cannot be qualified."""
    return f"ROWS FROM ({', '.join(f'pg_catalog.unnest({array})' for array in arrays)})"
