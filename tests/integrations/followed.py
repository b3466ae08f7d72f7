"""The table, the map function and the details that the tests of the integrations share."""

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table

from batchwrite import ChunkDetails, FailureDetails, FallbackDetails, FaultKind, ItemFailure, RetryDetails, Stage

METADATA = MetaData()
PARCELS = Table(
    "parcels",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("grams", Integer, nullable=False),
    Column("addressee", String(20)),
    CheckConstraint("grams >= 0", name="ck_grams"),
)
LABELS = Table("labels", METADATA, Column("id", Integer, primary_key=True, autoincrement=False))


def write_parcel(number, out):
    """Parcels below 0 are refused by the database, texts by map, None is skipped."""
    if number is None:
        out.skip("nothing there")
    elif isinstance(number, str):
        raise ValueError(number)
    else:
        out.insert(PARCELS, {"id": abs(number), "grams": number})


class WeatherOnce:
    """A `classify` that takes the first refusal for bad weather."""

    def __init__(self):
        self._calls = 0

    def __call__(self, _error):
        self._calls += 1
        return FaultKind.TRANSIENT if self._calls == 1 else None


def chunk_details(**fields):
    counts = dict.fromkeys(("written", "failed", "skipped", "parked", "unattempted", "unknown"), 0)
    told = {"run_id": "r", "number": 0, "first_index": 0, "fell_back": False, "seconds": 0.5, "tables": ("parcels",)}
    found = counts | told | fields
    return ChunkDetails(**{"items": sum(found[name] for name in counts)} | found)


def retry_details(**fields):
    told = {"run_id": "r", "chunk": 0, "items": 2, "attempt": 1, "wait": 0.25, "kind": "transient"}
    return RetryDetails(**told | {"message": "a deadlock", "sqlstate": "40P01"} | fields)


def fallback_details(**fields):
    told = {"run_id": "r", "chunk": 0, "items": 2, "message": "a check", "sqlstate": "23514", "table": "parcels"}
    return FallbackDetails(**told | fields)


def failure_details(**fields):
    told = {"index": 0, "item": "a secret", "stage": Stage.WRITE, "error_type": "E", "message": "m", "detail": "secret"}
    return FailureDetails(run_id="r", chunk=0, failure=ItemFailure(**told | fields))
