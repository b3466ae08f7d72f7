"""Hypothesis strategies: tables with constraints of every kind, and items with writes of every kind, good and bad.

What they draw is a `Case`: a value that says everything, and whose `repr` can be pasted into a test.
"""

from dataclasses import dataclass, field
from functools import cache

from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, MetaData, String, Table, UniqueConstraint

# Strategies are made once: to make one anew for each value takes several times as long as to draw from it.
between, among = cache(st.integers), cache(st.sampled_from)
NOTHING, YES_OR_NO, NO_COLUMNS = st.none(), st.booleans(), st.just(())

NAMES = ("alpha", "beta", "gamma")
KEYS = between(1, 4)  # few, so that items meet


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood:
    """How much trouble the items are: a chunk in which most items fail never gets to show its bulk path."""

    keys: int
    methods: tuple[str, ...]
    bad_one_in: int  # a row is bad once in so many times, never for 0


MOODS = st.sampled_from(
    [
        Mood(keys=4, methods=("insert", "insert", "upsert", "update", "increment", "delete"), bad_one_in=5),
        Mood(keys=6, methods=("upsert", "upsert", "increment", "update"), bad_one_in=0),
        Mood(keys=12, methods=("insert", "insert", "upsert", "increment"), bad_one_in=20),
        Mood(keys=7, methods=("insert", "insert", "upsert"), bad_one_in=0),
        Mood(keys=7, methods=("insert", "insert", "upsert"), bad_one_in=0),
        Mood(keys=4, methods=("upsert", "delete", "delete", "insert"), bad_one_in=0),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one generated table is like."""

    parent: int | None  # position of the table it refers to; its own for a self-reference
    ondelete: str | None
    is_deferred: bool
    is_unique: bool  # u is unique
    is_value_required: bool  # v is not null


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Tables, what is in them, what is to be written, and how: all that an example of the promises consists of."""

    shapes: tuple[Shape, ...]
    planted: dict[int, list[dict]] = field(default_factory=dict)  # rows that are there before, by position of the table
    items: list  # each what map does: a list of calls (see `writes`), or a word (see `map_for`)
    chunk_size: int
    workers: int
    fewest_for_copy: int  # rows for which the sink takes COPY
    window: int  # items that the sink's fallback sends at once


@cache
@st.composite
def shapes(draw, *, deferred: bool = False):
    made = []
    for position in range(draw(among((1, 2, 2, 3)))):
        # Rather another table than itself, rather itself than none: the more there is to keep in order.
        parent = draw(among((None, position, *(other for other in range(position) for _ in range(4)))))
        made.append(
            Shape(
                parent=parent,
                ondelete=draw(among((None, "CASCADE", "SET NULL"))),
                is_deferred=deferred and draw(YES_OR_NO),
                is_unique=draw(YES_OR_NO),
                is_value_required=draw(YES_OR_NO),
            )
        )
    return tuple(made)


@cache  # the same object for equal shapes: its tables may still be there, and its statements are compiled
def metadata_for(made: tuple[Shape, ...]) -> MetaData:
    """Tables of columns id; p (refers to the parent); u (maybe unique); v; n (incremented); c (checked, short)."""
    metadata = MetaData()
    for position, shape in enumerate(made):
        columns = [
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("u", Integer),
            Column("v", Integer, nullable=not shape.is_value_required),
            Column("n", Integer, nullable=False, default=0),
            Column("c", String(5)),
            CheckConstraint("c <> 'bad'", name=f"ck_{NAMES[position]}"),
        ]
        if shape.parent is not None:
            key = ForeignKey(
                f"{NAMES[shape.parent]}.id",
                ondelete=shape.ondelete,
                deferrable=shape.is_deferred or None,
                initially="DEFERRED" if shape.is_deferred else None,
            )
            columns.append(Column("p", Integer, key))
        if shape.is_unique:
            columns.append(UniqueConstraint("u", name=f"uq_{NAMES[position]}"))
        Table(NAMES[position], metadata, *columns)
    return metadata


@cache
@st.composite
def seeds(draw, made: tuple[Shape, ...]):
    """Rows that are there before, by position of the table: none, or all the small keys."""
    if draw(YES_OR_NO):
        return {}
    return {position: [{"id": key, "u": key, "v": 1, "n": 1} for key in range(1, 5)] for position, _ in enumerate(made)}


def plant(engine, metadata: MetaData, planted: dict[int, list[dict]]) -> None:
    if not planted:
        return
    with engine.begin() as connection:
        for position, rows in planted.items():
            connection.execute(metadata.tables[NAMES[position]].insert(), rows)


@cache
def or_nothing(*values):
    return st.one_of(NOTHING, *values)


@cache
def subsets(names: tuple[str, ...], least: int = 0, most: int | None = None):
    return st.lists(among(names), min_size=least, max_size=most, unique=True).map(tuple)


@cache
@st.composite
def rows(draw, shape: Shape, mood: Mood):
    keys = between(1, mood.keys)
    row = {"id": draw(keys), "v": draw(between(0, 3))}
    if draw(between(0, 2)) == 0:
        row["u"] = draw(or_nothing(keys))
    if shape.parent is not None and draw(YES_OR_NO):
        row["p"] = draw(or_nothing(keys, keys))
    if draw(YES_OR_NO):
        row["n"] = draw(between(-3, 3))
    return row


BAD_VALUES = st.sampled_from([{"c": "bad"}, {"v": None}, {"n": None}, {"id": None}, {"n": 2**70}])


@cache
@st.composite
def writes(draw, made: tuple[Shape, ...], mood: Mood):
    """One call on the collector: method, position of the table, arguments, keyword arguments."""
    position = draw(between(0, len(made) - 1))
    shape = made[position]
    method = draw(among(mood.methods))
    is_bad = bool(mood.bad_one_in) and draw(between(1, mood.bad_one_in)) == 1
    key = {"id": draw(KEYS)}
    if shape.is_unique and draw(between(0, 4)) == 0:
        key = {"u": draw(KEYS)}
    if method == "insert":
        row = draw(rows(shape, mood))
        return method, position, (row | draw(BAD_VALUES) if is_bad else row,), {}
    if method == "upsert":
        row = draw(rows(shape, mood))
        if is_bad:
            row["v"] = None
        names = tuple(name for name in row if name != "id")
        return method, position, (row,), {"set": draw(or_nothing(NO_COLUMNS, subsets(names)))}
    if method == "update":
        columns = ("v", "v", "n", "u") + (("p",) if shape.parent is not None else ())
        changed = draw(subsets(columns, 1, 2))
        return method, position, (key,), {name: draw(KEYS if not is_bad else NOTHING) for name in changed}
    if method == "increment":
        return method, position, (key,), {"n": draw(between(-3, 3))}
    return method, position, (key,), {"missing_ok": draw(YES_OR_NO)}


@cache
@st.composite
def item_lists(draw, made: tuple[Shape, ...]):
    """Items: each a list of writes, or what map does instead."""
    mood = draw(MOODS)
    one = st.lists(writes(made, mood), min_size=1, max_size=4)
    few = st.lists(writes(made, mood), min_size=1, max_size=1)
    other = among(("raise", "skip", "nothing"))
    return draw(st.lists(one | few | few | few | few | other, min_size=1, max_size=12))


@cache
@st.composite
def cases(draw, *, deferred: bool = False):
    made = draw(shapes(deferred=deferred))
    return Case(
        shapes=made,
        planted=draw(seeds(made)),
        items=draw(item_lists(made)),
        chunk_size=draw(between(1, 13)),
        workers=draw(between(0, 3)),
        fewest_for_copy=draw(among((1, 3, 100))),
        window=draw(among((1, 2, 60))),
    )


def map_for(metadata: MetaData):
    """The map function for generated items."""

    def map_item(item, out):
        if item == "raise":
            raise ValueError("the item is not liked")
        if item == "skip":
            out.skip("not wanted")
            return
        for method, position, arguments, options in [] if item == "nothing" else item:
            getattr(out, method)(metadata.tables[NAMES[position]], *arguments, **options)

    return map_item


def contents(engine, metadata: MetaData):
    """Every row of every table."""
    with engine.connect() as connection:
        return {
            name: sorted(connection.execute(table.select()).all(), key=repr) for name, table in metadata.tables.items()
        }
