"""For each planted bug, by its name, the first example that the search found wrong, shrunk until it could be read."""

from generated import Case, Shape

PLAIN = Shape(parent=None, ondelete=None, is_deferred=False, is_unique=False, is_value_required=False)
UNIQUE = Shape(parent=None, ondelete=None, is_deferred=False, is_unique=True, is_value_required=False)
REFERS_TO_ITSELF = Shape(parent=0, ondelete=None, is_deferred=False, is_unique=False, is_value_required=False)
ONE_ROW = {0: [{"id": 1, "u": 1, "v": 1, "n": 1}]}

PINNED = {
    "LosesIncrements": Case(
        shapes=(PLAIN,),
        planted=ONE_ROW,
        items=[[("increment", 0, ({"id": 1},), {"n": 1}), ("increment", 0, ({"id": 1},), {"n": 2})]],
        chunk_size=1,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
    "TearsItems": Case(
        shapes=(PLAIN,),
        items=[[("insert", 0, ({"id": 1},), {}), ("insert", 0, ({"id": 1},), {})]],
        chunk_size=1,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
    "KeepsSharesOfFailedItems": Case(
        shapes=(PLAIN,),
        planted=ONE_ROW,
        items=[[("insert", 0, ({"id": 2, "c": "bad"},), {}), ("increment", 0, ({"id": 1},), {"n": 1})]],
        chunk_size=1,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
    "WritesLaterItemsFirst": Case(
        shapes=(UNIQUE,),
        planted=ONE_ROW,
        items=[[("upsert", 0, ({"id": 1, "u": None},), {"set": None})], [("increment", 0, ({"u": 1},), {"n": 1})]],
        chunk_size=2,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
    "IgnoresMissingRows": Case(
        shapes=(PLAIN,),
        items=[[("update", 0, ({"id": 1},), {"v": None})]],
        chunk_size=1,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
    "SortsWithoutSegments": Case(
        shapes=(PLAIN,),
        items=[[("upsert", 0, ({"id": 1, "v": 0},), {"set": None})], [("insert", 0, ({"id": 1, "v": 0},), {})]],
        chunk_size=2,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
    "AsksNoProbes": Case(
        shapes=(REFERS_TO_ITSELF,),
        items=[[("upsert", 0, ({"id": 2, "p": 1},), {"set": None}), ("insert", 0, ({"id": 1},), {})]],
        chunk_size=1,
        workers=0,
        fewest_for_copy=1,
        window=1,
    ),
}
