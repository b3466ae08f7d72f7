"""Random cases: a theme, tables for it, items with writes of every kind, trouble, and a manner of writing them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from fuzz_case import FEWEST_FOR_COPY, WINDOW, Alteration, FuzzCase, FuzzItem, FuzzWrite, Manner
from fuzz_tables import BAD_N, DrawnTable, draw_table
from fuzz_types import LITE, MARIADB, MY, PG, POSTGRESQL, SETTINGS, SQLITE, WIDER, Kind
from odd_values import AMBIGUOUS, ODD_DELTAS

EVERYWHERE = (SQLITE, POSTGRESQL, MARIADB)

THEMES: dict[str, tuple[tuple[str, ...], int]] = {
    "anything": (EVERYWHERE, 4),
    "odd values": (EVERYWHERE, 4),
    "same keys": (EVERYWHERE, 4),
    "poison keys": (EVERYWHERE, 3),
    "increments": (EVERYWHERE, 3),
    "expressions": (EVERYWHERE, 1),
    "generated keys": (EVERYWHERE, 1),
    "session functions": (EVERYWHERE, 2),
    "triggers": (EVERYWHERE, 2),
    "checks": (EVERYWHERE, 1),
    "uniques": (EVERYWHERE, 1),
    "settings": (EVERYWHERE, 3),
    "alter": (EVERYWHERE, 3),
    "conflict": (LITE, 4),
    "views": ((SQLITE, POSTGRESQL), 1),
    "rls": (PG, 2),
    "exotic": (PG, 3),
    "partitions": ((*PG, *MY), 1),
}
"""What a case is drawn for: on which databases, and how often among the others."""

CASES_OF_TABLES = 5

_METHODS = (
    ("insert", "insert", "upsert", "update", "increment", "delete"),
    ("upsert", "upsert", "increment", "update"),
    ("insert", "upsert", "absent"),
    ("insert", "insert", "insert", "add"),
    ("update", "increment"),
)


def themes_of(database: str) -> list[str]:
    """Themes, each as often as it is to come."""
    return [theme for theme, (databases, weight) in THEMES.items() if database in databases for _ in range(weight)]


def draw_cases(random: Random, database: str, theme: str | None = None) -> Iterator[FuzzCase]:
    """Some cases with the same tables, which take longer to make than most cases to run."""
    theme = theme or random.choice(themes_of(database))
    tables = draw_tables(random, database, theme)
    for _ in range(1 if theme == "alter" else CASES_OF_TABLES):
        yield draw_case(random, database, theme, tables)


def draw_tables(random: Random, database: str, theme: str) -> list[DrawnTable]:
    """A table, or two of which one refers to the other."""
    tables = [draw_table(random, database, theme, "t0", None)]
    is_single = theme in {"views", "partitions"} or random.random() < 0.6
    if not is_single or theme == "session functions":
        tables.append(draw_table(random, database, theme, "t1", tables[0]))
        if theme == "session functions" and random.random() < 0.3:
            _ask_by_default(random, database, tables[1])
    return tables


def draw_case(random: Random, database: str, theme: str, tables: Sequence[DrawnTable]) -> FuzzCase:
    """A case; by itself a value, which says all that there is to it."""
    drawn = _CaseDrawer(random, database, theme, tables)
    items = drawn.items()
    manner = drawn.manner(len(items))
    if theme == "alter":
        items = drawn.with_alterations(items, manner.chunk_size)
    return FuzzCase(
        database=database,
        theme=theme,
        tables=tuple(table.finished() for table in tables),
        planted=tuple(drawn.planted()),
        items=tuple(items),
        settings=drawn.settings(),
        is_as_role=theme == "rls",
        manner=manner,
    )


_ASKED = {
    SQLITE: ["func.last_insert_rowid()"],
    POSTGRESQL: ["func.currval('t0_id_seq')"],  # not `lastval`: a row's own number is drawn before the row asks
    MARIADB: ["func.last_insert_id()"],
}


def _ask_by_default(random: Random, database: str, child: DrawnTable) -> None:
    where_to = random.choice(["default", "default", "server_default"])
    if database == MARIADB:  # which takes no such function there
        where_to = "default"
    child.columns["p"] += f", {where_to}={random.choice(_ASKED[database])}"


class _CaseDrawer:
    def __init__(self, random: Random, database: str, theme: str, tables: Sequence[DrawnTable]) -> None:
        self._random, self._database, self._theme, self._tables = random, database, theme, tables
        few = theme in {"same keys", "increments"}
        self._most_keys = random.choice([1, 2, 3] if few else [4, 12, 40])
        self._is_planted = random.random() < 0.8
        # New rows mostly get keys of their own, in any order: a chunk that always falls back shows nothing.
        self._fresh = random.sample(range(5, 64), 48) if not few and random.random() < 0.7 else []
        self._methods = random.choice(_METHODS)
        if theme == "increments":
            self._methods = ("increment", "increment", "increment", "update", "upsert")
        if theme == "poison keys":
            self._methods = random.choice(
                [("upsert", "update", "increment", "insert"), ("update", "increment", "delete")]
            )
        if theme == "conflict":
            self._methods = random.choice([("insert",), ("insert",), ("insert", "upsert"), ("insert", "update")])
        if theme in {"exotic", "partitions"}:
            self._methods = random.choice([("insert",), ("insert", "upsert"), ("insert", "add", "update")])

    # ---- rows

    def planted(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Rows that are there before."""
        if not self._is_planted:
            return
        for table in self._tables:
            if not table.is_view and not table.generates_key:
                for number in range(1, min(self._most_keys, 4) + 1):
                    yield table.name, {**self._row(table, full=True), "id": key_of(table.kinds["id"], number), "n": "1"}

    def _row(self, table: DrawnTable, *, full: bool = False, is_new: bool = False) -> dict[str, str]:
        row = {} if table.generates_key else self._key(table, is_new=is_new)
        for column, kind in table.kinds.items():
            if column in row or column == "g" or (column == "id"):
                continue
            if column == "p":
                if full or self._random.random() < 0.5:
                    row["p"] = self._parent_key(kind)
            elif full or self._random.random() < 0.8:
                row[column] = self._value(table, column, kind)
        return row

    def _parent_key(self, kind: Kind) -> str:
        most = min(4, self._most_keys) if self._is_planted and self._random.random() < 0.9 else self._most_keys
        return "None" if self._tables[0].generates_key else key_of(kind, self._random.randint(1, most))

    def _value(self, table: DrawnTable, column: str, kind: Kind) -> str:
        if column == "n":
            return self._random.choice(["1", "2", "3", "4"])
        if column == "u" and self._theme in {"conflict", "uniques"}:
            return self._random.choice(kind.good[:2])
        if self._theme == "settings" and column == "a" and self._random.random() < 0.4:
            return "None"
        if self._theme == "alter" and column == "a" and self._random.random() < 0.4:
            return self._random.choice(kind.near)  # which it may take once it is altered
        return self._random.choice([*kind.good, *kind.good, "None"] if column in {"u", "a"} else kind.good)

    def _key(self, table: DrawnTable, *, is_new: bool = False) -> dict[str, str]:
        number = self._fresh.pop() if is_new and self._fresh else self._random.randint(1, self._most_keys)
        key = {"id": key_of(table.kinds["id"], number)}
        if "n" in table.key:
            key["n"] = self._random.choice(["1", "2", "3"])
        return key

    # ---- items

    def items(self) -> list[FuzzItem]:
        random = self._random
        if self._theme == "session functions":
            return list(self._items_of_session_functions())
        items: list[tuple[FuzzWrite, ...]] = []
        for _ in range(random.choice([2, 3, 4, 6, 8, 12, 16] if self._theme != "alter" else [4, 6, 8, 12])):
            count = random.choice([1, 1, 1, 1, 2, 3])
            items.append(tuple(self._write(random.choice(self._tables)) for _ in range(count)))
        for position in self._troubled(len(items)):
            writes = list(items[position])
            place = random.randrange(len(writes))
            writes[place] = self._poisoned(writes[place])
            items[position] = tuple(writes)
        return list(items)

    def _troubled(self, count: int) -> list[int]:
        """Which items are in trouble: mostly few, for a chunk in which most fail never gets to show its bulk path."""
        shares = [0.6, 1.0] if self._theme in {"same keys", "increments"} else [0, 0.3, 1.0]
        most = self._random.choice(
            [0, 0 if self._theme == "conflict" else 1, 1, 1, 2, 2, int(count * self._random.choice(shares))]
        )
        return self._random.sample(range(count), min(most, count))

    def _write(self, table: DrawnTable) -> FuzzWrite:
        random, name = self._random, table.name
        method = random.choice(self._methods)
        if table.is_view or (table.generates_key and method not in {"insert", "add"}):
            method = "insert"
        if method in {"insert", "add"}:
            # The ORM gives NULL for what is not set, of some types even a value: all of it is set.
            return FuzzWrite(method=method, table=name, values=self._row(table, is_new=True, full=method == "add"))
        if method in {"upsert", "absent"}:
            row = self._row(table, is_new=random.random() < 0.5)
            options = {"set": "()"} if method == "absent" else {}
            if method == "upsert" and random.random() < 0.3:
                others = [column for column in row if column not in table.key]
                options = {"set": repr(tuple(random.sample(others, random.randint(0, len(others)))))}
            return FuzzWrite(method="upsert", table=name, values=row, options=options)
        key = self._key(table)
        if method == "delete":
            return FuzzWrite(method=method, table=name, key=key, options={"missing_ok": str(random.random() < 0.5)})
        if method == "increment":
            return FuzzWrite(method=method, table=name, key=key, values={"n": random.choice(table.kinds["n"].deltas)})
        columns = [column for column in table.kinds if column not in (*table.key, "g", "p")]
        changed = random.sample(columns, random.randint(1, min(2, len(columns))))
        values = {column: self._value(table, column, table.kinds[column]) for column in changed}
        return FuzzWrite(method=method, table=name, key=key, values=values)

    def _poisoned(self, write: FuzzWrite) -> FuzzWrite:
        """The same write with one value that is not what it seems."""
        table = next(table for table in self._tables if table.name == write.table)
        key_first = self._theme == "poison keys" and self._random.random() < 0.8
        keys, values = dict(write.key), dict(write.values)
        if keys and (key_first or not values or self._random.random() < 0.2):
            column = self._random.choice(list(keys))
            keys[column] = self._trouble(table, column, write.method)
            return replace(write, key=keys)
        columns = [*values, *(["g"] if "g" in table.kinds and self._database == POSTGRESQL else [])]
        if not columns:
            return write
        column = self._random.choice(["id"] if key_first and "id" in values else columns)
        if table.refused_n and "n" in values and self._random.random() < 0.5:
            column = "n"
        values[column] = self._trouble(table, column, write.method)
        return replace(write, values=values)

    def _trouble(self, table: DrawnTable, column: str, method: str) -> str:
        random, kind = self._random, table.kinds[column]
        if method == "increment" and column == "n":
            return random.choice(ODD_DELTAS)
        if column == "n" and table.refused_n and random.random() < 0.7:
            return random.choice(BAD_N)
        if self._theme == "expressions" and random.random() < 0.6:
            return random.choice(_expressions(table.name))
        if self._theme == "same keys" and random.random() < 0.5:
            return random.choice(AMBIGUOUS)
        return random.choice(kind.near if kind.near and random.random() < 0.5 else kind.odd())

    def _items_of_session_functions(self) -> Iterator[FuzzItem]:
        """Orders and their lines, which ask the session for the key that their order has got."""
        random, database = self._random, self._database
        function = random.choice(_ASKED[database])
        parent, child = self._tables
        is_default = "default=" in child.columns["p"]
        for _ in range(random.randint(2, 6)):
            order = FuzzWrite(method="insert", table="t0", values=self._row(parent, full=True))
            lines = []
            # A second line would ask after the first has been inserted, and get the line's own key but by `currval`.
            for _ in range(random.randint(1, 2) if "currval" in function else 1):
                row = {name: value for name, value in self._row(child, full=True).items() if name != "p"}
                lines.append(
                    FuzzWrite(method="insert", table="t1", values=row if is_default else {**row, "p": function})
                )
            yield (order, *lines)

    def with_alterations(self, items: list[FuzzItem], chunk_size: int) -> list[FuzzItem]:
        """The items, with something that somebody else does to a table between two chunks."""
        table = self._random.choice(self._tables)
        found = list(_alterations(self._database, table))
        places = range(chunk_size, len(items), chunk_size)
        if not found or not places:
            return items
        place = self._random.choice(places)
        return [*items[:place], Alteration(sql=self._random.choice(found)), *items[place:]]

    # ---- how

    def settings(self) -> tuple[str, ...]:
        if self._theme != "settings":
            return ()
        return tuple(self._random.sample(SETTINGS[self._database], self._random.choice([1, 1, 1, 2])))

    def manner(self, count: int) -> Manner:
        random = self._random
        sizes = [1, 2, 3, 5, count, count, count + 1]
        ways = ["stream", "stream", "stream", "run", "general"]
        # There, deferred constraints wait for the caller's COMMIT, and SQLite's ROLLBACK undoes what is the caller's.
        if not any(word in text for word in ("DEFERRED", "ROLLBACK") for text in _sources(self._tables)):
            ways.append("in_session")
        if self._theme == "alter":
            return Manner(
                chunk_size=random.choice([1, 2, max(1, count // 2)]),
                way=random.choice(["stream", "stream", "stream", "general"]),
            )
        if self._theme == "session functions":
            sizes = [2, 3, count]
        return Manner(
            way=random.choice(ways),
            chunk_size=random.choice(sizes),
            workers=random.choice([0, 1, 1, 3]),
            has_ledger=random.random() < 0.15,
            fewest_for_copy=random.choice([1, 3, FEWEST_FOR_COPY]),
            window=random.choice([1, 2, WINDOW, WINDOW]),
        )


def _sources(tables: Sequence[DrawnTable]) -> Iterator[str]:
    for table in tables:
        yield from (*table.columns.values(), *table.parts, *table.ddl)


def key_of(kind: Kind, number: int) -> str:
    """A value of a key's type; the same number, the same value."""
    source = kind.source
    if source.startswith(("String", "postgresql.CITEXT")):
        return f"'k{number}'"
    if source.startswith("Numeric"):
        return f"Decimal('{number}.5')"
    if source.startswith("Date"):
        return f"date(2024, 1, {number % 28 + 1})"
    if source.startswith("Uuid"):
        return f"uuid.UUID(int={number})"
    if source == "Choosy" and number == 13:
        return "14"
    return str(number)


def _expressions(name: str) -> Sequence[str]:
    """Values that the database computes, of rows or of nothing."""
    return (
        "func.abs(-3)",
        "literal(2) + 1",
        f"select(func.count()).select_from({name}).scalar_subquery()",
        f"select(func.coalesce(func.max({name}.c.n), 1)).scalar_subquery()",
        f"text('(SELECT count(*) FROM {name})')",
        "cast(2, Integer)",
        "case((literal(1) == 1, 2), else_=3)",
        f"{name}.c.n",
        f"func.coalesce({name}.c.n, 1)",
        "bindparam(None, 3)",
    )


def _alterations(database: str, table: DrawnTable) -> Iterator[str]:
    """What may be done to a table so that items go on as if it had always been so."""
    alter = f"ALTER TABLE {table.name}"
    yield f"{alter} ADD COLUMN z INTEGER NOT NULL DEFAULT 7"
    if database == SQLITE:
        return
    how = "ALTER COLUMN {} TYPE {}" if database == POSTGRESQL else "MODIFY COLUMN {} {}"
    for column, kind in table.kinds.items():
        to = WIDER[database].get(kind.source)
        if to and column not in {"id", "p", "g"}:
            yield from [f"{alter} {how.format(column, to)}"] * (10 if column == "a" else 2)
    yield f"{alter} ALTER COLUMN n SET DEFAULT 4"
    if database == POSTGRESQL:
        yield f"{alter} ALTER COLUMN u TYPE text"
        yield f"{alter} ADD CHECK (n < 50) NOT VALID"
        yield f"{alter} RENAME TO {table.name}_old; CREATE TABLE {table.name} (LIKE {table.name}_old INCLUDING ALL)"
