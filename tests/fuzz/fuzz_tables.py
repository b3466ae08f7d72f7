"""Random tables: columns of all types, and whatever may refuse a row or do something else with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from fuzz_case import FuzzTable
from fuzz_types import BIG, INTEGER, KINDS, MARIADB, POSTGRESQL, SHORT_TEXT, SQLITE, WIDER, Kind

ROLE = "batchwrite_fuzz"
BAD_N = ("7", "0", "60", "-5")
"""Values of column n that the rules below refuse; 1 to 4 are fine with all of them."""

ERROR_CODES = (
    "P0001",
    "42501",
    "42601",
    "42P01",
    "42703",
    "23505",
    "22012",
    "XX000",
    "0A000",
    "55000",
    "28000",
    "U0001",
)
"""What triggers on PostgreSQL raise: nothing that passes, so that the item alone is to blame."""

MYSQL_NUMBERS = (1644, 1146, 1054, 1142, 1064, 1062, 3999, 30001)


@dataclass(slots=True, kw_only=True)
class DrawnTable:
    """A table while it is drawn.

    Attributes:
        kinds: Types of the columns that a write may give.
        key: The primary key's columns, which name rows.
        refused_n: Whether something refuses `BAD_N`.
    """

    name: str
    kinds: dict[str, Kind]
    columns: dict[str, str]
    key: tuple[str, ...] = ("id",)
    parts: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    ddl: list[str] = field(default_factory=list)
    parent: str | None = None
    generates_key: bool = False
    is_view: bool = False
    may_upsert: bool = True
    refused_n: bool = False

    def finished(self) -> FuzzTable:
        return FuzzTable(
            name=self.name,
            columns=self.columns,
            parts=tuple(self.parts),
            after=tuple(self.after),
            ddl=tuple(self.ddl),
            parent=self.parent,
            generates_key=self.generates_key,
            is_made_by_ddl=self.is_view,
        )


def kinds_for(database: str, *, exotic: bool | None = None) -> list[Kind]:
    """The types that a database has; those that are exotic, or not, if that is asked for."""
    return [kind for kind in KINDS if database in kind.databases and exotic in {None, kind.exotic}]


def draw_table(random: Random, database: str, theme: str, name: str, parent: DrawnTable | None) -> DrawnTable:
    """A table of columns id (the key), n (a number), u (perhaps unique), p (the parent) and some of any type."""
    generates = theme == "session functions" or (theme == "generated keys" and parent is None)
    key_kind = INTEGER
    if not generates and theme != "views" and random.random() < 0.4:
        key_kind = random.choice([kind for kind in kinds_for(database) if kind.keyed])
    number = random.choice([INTEGER, INTEGER, BIG]) if theme != "increments" else random.choice(_numbers(database))
    autoincrement = "" if generates else ", autoincrement=False"
    table = DrawnTable(
        name=name,
        kinds={"id": key_kind, "n": number, "u": random.choice([INTEGER, SHORT_TEXT])},
        columns={"id": f"{_source(key_kind, name, 'id')}, primary_key=True{autoincrement}"},
        generates_key=generates,
    )
    table.columns["n"] = f"{number.source}, nullable=False, server_default='1'"
    table.columns["u"] = table.kinds["u"].source
    for column in ("a", "b", "c")[: random.choice([1, 2, 2, 3])]:
        _add_column(random, database, theme, table, column)
    if parent is not None:
        _add_parent(random, table, parent, database)
    for feature in _features(random, database, theme):
        feature(random, database, table)
    return table


def _source(kind: Kind, table: str, column: str) -> str:
    return kind.source.replace("{name}", f"k_{table}_{column}")


def _numbers(database: str) -> list[Kind]:
    """What sums are made in: types whose sums are exact, so that the order of adding shows nothing."""
    return [BIG, BIG, *[kind for kind in kinds_for(database) if kind.source in {"Double", "Numeric(30, 10)"}]]


_SET = frozenset(
    {"Text", "String(40)", "Interval", "DateTime", "DateTime(timezone=True)", "LargeBinary", "Double", "Float"}
)
"""Types whose texts settings of the session have to do with."""


def _add_column(random: Random, database: str, theme: str, table: DrawnTable, column: str) -> None:
    is_exotic = theme == "exotic" and random.random() < 0.7
    kinds = kinds_for(database, exotic=True if is_exotic and database == POSTGRESQL else None)
    is_of_theme = column == "a" and theme in {"alter", "settings"}
    if is_of_theme:
        kinds = [kind for kind in kinds if kind.source in ({*WIDER[database], "REAL"} if theme == "alter" else _SET)]
    kind = random.choice(kinds)
    table.kinds[column] = kind
    good = random.choice(kind.good)
    options = ["", "", "", ", nullable=False", f", default={good}"] if not is_of_theme else [""]
    if kind is INTEGER and not is_of_theme:
        options += [", server_default='3'", ", default=lambda: 2", ", onupdate=4", ", default=text('1 + 1')"]
        options += [", default=lambda context: len(context.get_current_parameters())"]
    table.columns[column] = _source(kind, table.name, column) + random.choice(options)


def _add_parent(random: Random, table: DrawnTable, parent: DrawnTable, database: str) -> None:
    options = random.choice(["", "", ", ondelete='CASCADE'", ", ondelete='SET NULL'"])
    if database != MARIADB and random.random() < 0.15:
        options += ", deferrable=True, initially='DEFERRED'"
    kind = parent.kinds["id"]
    table.kinds["p"] = kind
    table.columns["p"] = f"{_source(kind, parent.name, 'id')}, ForeignKey('{parent.name}.id'{options})"
    table.parent = parent.name


# ---- what else there may be of a table

Feature = Callable[[Random, str, DrawnTable], None]


def _features(random: Random, database: str, theme: str) -> list[Feature]:
    of_theme: dict[str, list[Feature]] = {
        "rls": [_row_level_security],
        "views": [_view],
        "triggers": [_trigger],
        "checks": [_check],
        "conflict": [_conflict],
        "uniques": [_unique],
        "partitions": [_partition],
    }
    chosen = list(of_theme.get(theme, []))
    if theme in {"session functions", "views", "alter", "conflict", "partitions"}:
        return chosen
    for feature in (_trigger, _check, _unique, _computed):
        if feature not in chosen and random.random() < 0.12:
            chosen.append(feature)
    return chosen


def _check(random: Random, database: str, table: DrawnTable) -> None:
    conditions = ["n < 50", "n <> 7", "n BETWEEN 1 AND 9"]
    if database == POSTGRESQL:
        conditions += [
            "10 / n < 100",
            "n < 50 OR ('zq9' || n)::regclass IS NOT NULL",
            "n < 50 OR has_table_privilege('zq9', 'select')",
            "n < 50 OR ('[' || n)::jsonb IS NOT NULL",
            "n < 50 OR to_tsvector(('zq9' || n)::regconfig, 'x') IS NOT NULL",
            "n < 50 OR ('$[' || n)::jsonpath IS NOT NULL",
        ]
    if database == SQLITE:
        conditions += ["n < 50 OR json_extract('{', '$.a') IS NOT NULL", "n < 50 OR abs(-9223372036854775807 - 1) > 0"]
    table.parts.append(f'CheckConstraint(text("{random.choice(conditions)}"), name="ck_{table.name}")')
    table.refused_n = True


def _unique(random: Random, database: str, table: DrawnTable) -> None:
    name = table.name
    plain = f'UniqueConstraint("u", name="uq_{name}")'
    ways: list[tuple[list[str], str]] = [(table.parts, plain)]
    if table.kinds["u"] is SHORT_TEXT and database != MARIADB:
        ways.append((table.after, f'Index("ix_{name}", func.lower({name}.c.u), unique=True)'))
    if database == POSTGRESQL:
        ways.append((table.parts, plain[:-1] + ", postgresql_nulls_not_distinct=True)"))
    if database != MARIADB:
        where = "text('n > 2')"
        ways.append(
            (
                table.after,
                f'Index("ix_{name}", {name}.c.u, unique=True, postgresql_where={where}, sqlite_where={where})',
            )
        )
        ways.append((table.after, f'Index("ix_{name}", {name}.c.n, {name}.c.u, unique=True)'))
    where_to, line = random.choice(ways)
    where_to.append(line)


def _conflict(random: Random, database: str, table: DrawnTable) -> None:
    """What a unique constraint of SQLite's does with a row that collides."""
    if database != SQLITE:
        return _unique(random, database, table)
    how = random.choice(["REPLACE", "REPLACE", "REPLACE", "ROLLBACK", "ROLLBACK", "FAIL", "IGNORE"])
    table.parts.append(f"UniqueConstraint('u', sqlite_on_conflict='{how}')")
    if random.random() < 0.2:
        how = random.choice(["ROLLBACK", "FAIL", "IGNORE", "REPLACE"])
        table.columns["n"] += f", sqlite_on_conflict_not_null='{how}'"
    return None


def _computed(random: Random, database: str, table: DrawnTable) -> None:
    table.columns["g"] = "Integer, Computed('n + 1', persisted=True)"
    table.kinds["g"] = INTEGER


def _trigger(random: Random, database: str, table: DrawnTable) -> None:
    name, when = table.name, random.choice(["INSERT", "INSERT", "UPDATE"])
    table.refused_n = True
    if database == SQLITE:
        how = random.choice(["ROLLBACK", "ROLLBACK", "ROLLBACK", "ABORT", "FAIL"])
        body = f"WHEN NEW.n = 7 BEGIN SELECT RAISE({how}, 'zq9'); END"
        table.ddl.append(f"CREATE TRIGGER tr_{name} {random.choice(['BEFORE', 'AFTER'])} {when} ON {name} {body}")
    elif database == MARIADB:
        signal = random.choice([f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {random.choice(MYSQL_NUMBERS)},", _SIGNAL])
        body = f"IF NEW.n = 7 THEN {signal} MESSAGE_TEXT = 'zq9'; END IF"
        table.ddl.append(f"CREATE TRIGGER tr_{name} BEFORE {when} ON {name} FOR EACH ROW {body}")
    else:
        code = random.choice(ERROR_CODES)
        body = f"IF NEW.n = 7 THEN RAISE EXCEPTION 'zq9' USING ERRCODE = '{code}'; END IF; RETURN NEW"
        if random.random() < 0.2:
            body = "IF NEW.n = 7 THEN EXECUTE 'SELECT * FROM zq9'; END IF; RETURN NEW"
        table.ddl.append(_function(name, body))
        table.ddl.append(
            f"CREATE TRIGGER tr_{name} {random.choice(['BEFORE', 'AFTER'])} {when} ON {name} "
            f"FOR EACH ROW EXECUTE FUNCTION f_{name}()"
        )


_SIGNAL = "SIGNAL SQLSTATE '45000' SET"


def _function(name: str, body: str) -> str:
    return f"CREATE FUNCTION f_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$"


def _row_level_security(random: Random, database: str, table: DrawnTable) -> None:
    name = table.name
    table.refused_n = True
    using = random.choice(["true", "true", "n < 3"])
    table.ddl += [
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY py_{name} ON {name} USING ({using}) WITH CHECK (n BETWEEN 1 AND 5)",
    ]


def _view(random: Random, database: str, table: DrawnTable) -> None:
    """The table becomes a view, whose trigger inserts into the table behind it, or refuses to."""
    if database == MARIADB:
        return _trigger(random, database, table)
    name = table.name
    table.is_view, table.may_upsert, table.refused_n = True, False, True
    table.kinds = {"id": INTEGER, "n": INTEGER, "u": SHORT_TEXT}
    table.columns = {"id": "Integer, primary_key=True, autoincrement=False", "n": "Integer", "u": "String(5)"}
    table.parts.clear()
    table.parent = None
    table.ddl += [
        f"CREATE TABLE {name}_base (id integer PRIMARY KEY, n integer CHECK (n < 50), u varchar(5) UNIQUE)",
        f"CREATE VIEW {name} AS SELECT id, n, u FROM {name}_base",
    ]
    if database == SQLITE:
        how = random.choice(["ROLLBACK", "ABORT", "FAIL"])
        refusal = f"SELECT RAISE({how}, 'zq9') WHERE NEW.n = 7"
        insert = f"INSERT INTO {name}_base (id, n, u) VALUES (NEW.id, NEW.n, NEW.u)"
        table.ddl.append(f"CREATE TRIGGER tr_{name} INSTEAD OF INSERT ON {name} BEGIN {refusal}; {insert}; END")
    else:
        code = random.choice(ERROR_CODES)
        body = (
            f"IF NEW.n = 7 THEN RAISE EXCEPTION 'zq9' USING ERRCODE = '{code}'; END IF; "
            f"INSERT INTO {name}_base (id, n, u) VALUES (NEW.id, NEW.n, NEW.u); RETURN NEW"
        )
        table.ddl.append(_function(name, body))
        table.ddl.append(
            f"CREATE TRIGGER tr_{name} INSTEAD OF INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION f_{name}()"
        )
    return None


def _partition(random: Random, database: str, table: DrawnTable) -> None:
    """Ranges of n, which then belongs to the key; there is none for large ones."""
    if database == SQLITE:
        return _check(random, database, table)
    table.key = ("id", "n")
    table.refused_n = True
    table.columns["n"] = f"{table.kinds['n'].source}, primary_key=True, autoincrement=False"
    if table.parent is not None and database == MARIADB:  # which has no foreign keys of tables with partitions
        table.columns["p"], table.parent = _source(table.kinds["p"], table.parent, "id"), None
    if database == POSTGRESQL:
        table.parts.append("postgresql_partition_by='RANGE (n)'")
        table.ddl += [
            f"CREATE TABLE {table.name}_{low} PARTITION OF {table.name} FOR VALUES FROM ({low}) TO ({high})"
            for low, high in ((0, 2), (2, 50))
        ]
    else:
        table.ddl.append(
            f"ALTER TABLE {table.name} PARTITION BY RANGE (n) "
            "(PARTITION p0 VALUES LESS THAN (2), PARTITION p1 VALUES LESS THAN (50))"
        )
    return None
