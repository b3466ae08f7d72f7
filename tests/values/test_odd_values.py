"""Values that are not what they seem, wherever a value may stand: as by SQLAlchemy item by item, whoever stands beside.

That is neighbour independence, too: what becomes of an item is the same alone, in any chunk and by every path, since
it is what becomes of it in a transaction of its own. The tables have a column of every type that a database has.
"""

import pytest
from fuzz_case import Alteration, FuzzCase, FuzzTable, FuzzWrite, Manner
from fuzz_compare import Comparer
from fuzz_draw import key_of
from fuzz_run import report, shrunk_finding
from fuzz_types import BIG, KINDS, POSTGRESQL, SETTINGS, SQLITE
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from odd_values import ODD_DELTAS

MOST_ITEMS = 5
_ID = "Integer, primary_key=True, autoincrement=False"


@pytest.fixture(scope="module")
def comparer(shared_engine):
    comparer = Comparer(shared_engine)
    yield comparer
    comparer.close()


def kinds_of(database):
    """The types that a column of any row may have: all but those that refuse a NULL."""
    return [kind for kind in KINDS if database in kind.databases and "not_null" not in kind.source]


def key_kinds(database):
    return [kind for kind in kinds_of(database) if kind.keyed]


def tables_of(database):
    """t0, which has it all; keys of each type that may be one; parents and children; sums."""
    kinds = kinds_of(database)
    columns = {f"c{place}": kind.source.format(name=f"k_{place}") for place, kind in enumerate(kinds)}
    yield FuzzTable(name="t0", columns={"id": _ID, **columns})
    for place, kind in enumerate(key_kinds(database)):
        source = f"{kind.source}, primary_key=True, autoincrement=False"
        yield FuzzTable(name=f"keys_{place}", columns={"id": source, "n": "Integer", "u": "String(5)"})
    yield FuzzTable(name="parents", columns={"id": _ID, "n": "Integer"})
    yield FuzzTable(name="children", columns={"id": _ID, "p": "Integer, ForeignKey('parents.id')"}, parent="parents")
    yield FuzzTable(name="sums", columns={"id": _ID, "n": "BigInteger", "x": "Double", "q": "Numeric(30, 10)"})


SCHEMAS = {database: tuple(tables_of(database)) for database in SETTINGS}


# ---- what is drawn


def value_of(kind):
    near = st.sampled_from(kind.good + kind.near)
    return st.one_of(near, st.sampled_from(kind.odd()))


@st.composite
def rows(draw, database, most=3):
    """Values of some of t0's columns; one of them perhaps odd, for in a row of odd ones nobody is to blame."""
    kinds = list(enumerate(kinds_of(database)))
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most, unique_by=lambda pair: pair[0]))
    odd = draw(st.integers(-1, len(chosen) - 1))
    return {
        f"c{place}": draw(value_of(kind) if number == odd else st.sampled_from(kind.good))
        for number, (place, kind) in enumerate(chosen)
    }


def row_of(number):
    return {"id": str(number)}


@st.composite
def plain_columns(draw, database):
    """Each item another row: what is hidden by nothing must be told of each."""
    # Where the ORM is given no JSONPATH it sends the text of JSON's null, which PostgreSQL refuses.
    methods = ["insert", "insert", "upsert", "update", *(["add"] if database != POSTGRESQL else [])]
    items = []
    for number in range(1, draw(st.integers(1, MOST_ITEMS)) + 1):
        method = draw(st.sampled_from(methods))
        row = draw(rows(database))
        is_update = method == "update"
        key = row_of(number) if is_update else {}
        values = row if is_update else {**row_of(number + 10), **row}
        items.append(FuzzWrite(method=method, table="t0", key=key, values=values))
    return items


@st.composite
def same_rows(draw, database):
    """Upserts and updates of two rows, with lists of what to set."""
    items = []
    for _ in range(draw(st.integers(2, MOST_ITEMS))):
        row, key = draw(rows(database)), row_of(draw(st.integers(1, 2)))
        if draw(st.booleans()):
            items.append(FuzzWrite(method="update", table="t0", key=key, values=row))
        else:
            names = tuple(draw(st.lists(st.sampled_from(sorted(row)), unique=True)))
            options = draw(st.sampled_from([{}, {"set": "()"}, {"set": repr(names)}]))
            items.append(FuzzWrite(method="upsert", table="t0", values={**key, **row}, options=options))
    return items


@st.composite
def keys(draw, database):
    """Writes of several kinds, so that rows are locked beforehand, with a key among them that may be anything."""
    place, kind = draw(st.sampled_from(list(enumerate(key_kinds(database)))))
    name = f"keys_{place}"
    count = draw(st.integers(2, MOST_ITEMS))
    odd = draw(st.integers(0, count - 1))
    items = []
    for number in range(count):
        key = {"id": draw(value_of(kind)) if number == odd else key_of(kind, number + 1)}
        method = draw(st.sampled_from(["upsert", "update", "increment", "delete"]))
        values = {"n": "1"} if method != "delete" else {}
        if method == "upsert":
            key, values = {}, {**key, **values}
        items.append(FuzzWrite(method=method, table=name, key=key, values=values))
    return items


@st.composite
def foreign_keys(draw, database):
    """Children of any parent, and behind them the parents, for which the chunk has to ask."""
    items = []
    for number in range(1, draw(st.integers(1, MOST_ITEMS - 1)) + 1):
        parent = draw(st.sampled_from(["1", "2", "21", "22", "None"]) | value_of(BIG))
        method = draw(st.sampled_from(["insert", "upsert", "update"]))
        key = row_of(number) if method == "update" else {}
        values = {"p": parent} if method == "update" else {**row_of(number + 10), "p": parent}
        items.append(FuzzWrite(method=method, table="children", key=key, values=values))
    place = draw(st.integers(0, len(items)))
    items.insert(place, FuzzWrite(method="insert", table="parents", values={"id": "21"}))
    return items


@st.composite
def deltas(draw, database):
    """Increments of few rows, of which one or two may be anything."""
    items = []
    for _ in range(draw(st.integers(2, MOST_ITEMS + 2))):
        column = draw(st.sampled_from(["n", "n", "x", "q"]))
        delta = draw(st.sampled_from(ODD_DELTAS) | st.sampled_from(["1", "2", "100"]))
        key = row_of(draw(st.integers(1, 2)))
        items.append(FuzzWrite(method="increment", table="sums", key=key, values={column: delta}))
    return items


PARTS = {
    "plain columns": plain_columns,
    "same rows": same_rows,
    "keys": keys,
    "foreign keys": foreign_keys,
    "deltas": deltas,
}

MANNERS = st.builds(
    Manner,
    way=st.sampled_from(["stream", "run", "general", "in_session"]),
    chunk_size=st.integers(1, MOST_ITEMS + 1),
    workers=st.integers(0, 2),
    fewest_for_copy=st.sampled_from([1, 100]),
    window=st.sampled_from([1, 60]),
)


def planted_in(database):
    """Rows that writes may find: two of t0, and some of each table of keys."""
    good = {f"c{place}": kind.good[0] for place, kind in enumerate(kinds_of(database))}
    yield from (("t0", {**row_of(number), **good}) for number in range(1, MOST_ITEMS + 1))
    for place, kind in enumerate(key_kinds(database)):
        yield from ((f"keys_{place}", {"id": key_of(kind, number), "n": "1"}) for number in range(1, 4))
    yield from (("parents", {**row_of(number), "n": "1"}) for number in (1, 2))
    yield from (("children", {**row_of(number), "p": "1"}) for number in range(1, MOST_ITEMS + 1))
    yield from (("sums", {**row_of(number), "n": "0", "x": "0", "q": "0"}) for number in (1, 2))


PLANTED = {database: tuple(planted_in(database)) for database in SETTINGS}


def require_nothing_found(comparer, case):
    finding = comparer.compare(case).finding
    if finding is not None:
        pytest.fail(report(*shrunk_finding(comparer, case, finding, seconds=5)))


# The fuzzer's own way of making cases smaller knows what they are made of, and takes seconds, not minutes.
UNSHRUNK = settings(
    phases=[Phase.reuse, Phase.generate], deadline=None, max_examples=max(5, settings.default.max_examples // 3)
)


def compare(comparer, database, part, writes, manner, settings=()):
    used = {write.table for write in writes}
    used |= {"parents"} if "children" in used else set()
    case = FuzzCase(
        database=database,
        theme=part,
        tables=SCHEMAS[database],
        planted=tuple(pair for pair in PLANTED[database] if pair[0] in used),
        items=tuple((write,) for write in writes),
        settings=settings,
        manner=manner,
    )
    require_nothing_found(comparer, case)


@pytest.mark.drawn(6)
@pytest.mark.parametrize("part", PARTS)
def test_a_value_does_what_it_does_item_by_item(shared_engine, comparer, part):
    database = shared_engine.dialect.name

    @UNSHRUNK
    @given(writes=PARTS[part](database), manner=MANNERS)
    def compared(writes, manner):
        compare(comparer, database, part, writes, manner)

    compared()


@pytest.mark.drawn(1)
def test_no_setting_of_the_session_changes_what_is_stored(shared_engine, comparer):
    database = shared_engine.dialect.name
    setting = st.sampled_from(SETTINGS[database]).map(lambda statement: (statement,))

    @UNSHRUNK
    @given(writes=plain_columns(database), manner=MANNERS, settings=setting)
    def compared(writes, manner, settings):
        compare(comparer, database, "settings", writes, manner, settings)

    compared()


# ---- what somebody else does to the table meanwhile

ALTERED = FuzzTable(
    name="t0",
    columns={"id": _ID, "r": "REAL", "i": "Integer", "s": "String(5)", "n": "BigInteger, server_default='1'"},
)
ALTERATIONS = {
    "wider float": "ALTER TABLE t0 ALTER r TYPE double precision",
    "wider number": "ALTER TABLE t0 ALTER i TYPE bigint",
    "longer text": "ALTER TABLE t0 ALTER s TYPE varchar(60)",
    "a text for a number": "ALTER TABLE t0 ALTER i TYPE text",
    "one more column": "ALTER TABLE t0 ADD z integer NOT NULL DEFAULT 7",
    "another default": "ALTER TABLE t0 ALTER n SET DEFAULT 4",
    "a rule": "ALTER TABLE t0 ADD CHECK (i < 50)",
    "another table": "ALTER TABLE t0 RENAME TO t0_old; CREATE TABLE t0 (LIKE t0_old INCLUDING ALL)",
    "another order": "ALTER TABLE t0 DROP r; ALTER TABLE t0 ADD r double precision",
}
ALTERATIONS_BY_DATABASE = {
    POSTGRESQL: ALTERATIONS,
    "mariadb": {
        "wider float": "ALTER TABLE t0 MODIFY r double",
        "wider number": "ALTER TABLE t0 MODIFY i bigint",
        "longer text": "ALTER TABLE t0 MODIFY s varchar(60)",
        "one more column": ALTERATIONS["one more column"],
        "a rule": ALTERATIONS["a rule"],
        "another default": ALTERATIONS["another default"],
    },
    SQLITE: {"one more column": ALTERATIONS["one more column"]},
}
PAIRS = [(database, name) for database, found in ALTERATIONS_BY_DATABASE.items() for name in found]
ROWS = (
    {"r": "0.1", "i": "1", "s": "'a'"},
    {"r": "0.3", "i": "2**40", "s": "'longer than five'", "n": "2"},
    {"r": "1e300", "i": "60", "s": "None"},
)


@pytest.mark.drawn(4)
@pytest.mark.parametrize(("shared_engine", "name"), PAIRS, indirect=["shared_engine"])
@pytest.mark.parametrize("way", ["stream", "general"])
def test_rows_are_written_to_the_table_that_there_is(shared_engine, comparer, name, way):
    """Somebody alters it between two chunks of one writer."""
    database = shared_engine.dialect.name
    inserts = [
        FuzzWrite(method="insert", table="t0", values={**row_of(place), **row}) for place, row in enumerate(ROWS)
    ]
    updates = [
        FuzzWrite(method="update", table="t0", key=row_of(place + 10), values=row) for place, row in enumerate(ROWS)
    ]
    writes = [(write,) for pair in zip(inserts, updates, strict=True) for write in pair]
    case = FuzzCase(
        database=database,
        theme="alter",
        tables=(ALTERED,),
        planted=tuple(("t0", {**row_of(place + 10), "i": "1"}) for place in range(3)),
        items=(*writes[:2], Alteration(sql=ALTERATIONS_BY_DATABASE[database][name]), *writes),
        manner=Manner(way=way, chunk_size=2),
    )
    require_nothing_found(comparer, case)
