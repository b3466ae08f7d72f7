"""What is wrong with a run, beside the same items one by one, and what may differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuzz_case import Alteration, FuzzCase, FuzzWrite
from fuzz_types import MARIADB
from odd_values import MARKER


class HangError(BaseException):
    """A run has not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with a run.

    Attributes:
        kind: In a word: `raised`, `abort`, `accounts`, `outcomes`, `rows`, `words`, `connections`, `hang`.
        signature: What findings of one cause have in common, as far as can be told.
        text: What was found.
        statuses: What became of each item by itself.
    """

    kind: str
    signature: str
    text: str
    statuses: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Ran:
    """What a run has said, and left behind."""

    statuses: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # the same, with the codes of failures
    failures: dict[int, Any] = field(default_factory=dict)
    result: Any = None
    raised: BaseException | None = None
    rows: dict[str, list[str]] = field(default_factory=dict)
    held: int = 0


def breach(case: FuzzCase, ran: Ran, expected: Ran) -> Finding | None:
    """What is wrong with a run whatever its items are."""
    statuses, result = expected.told, ran.result
    if isinstance(ran.raised, HangError):
        return Finding(kind="hang", signature=f"hang {case.theme}", text=str(ran.raised), statuses=statuses)
    if result is not None and result.abort is not None:
        told = f"{result.abort.sqlstate} {result.abort.error_type} {result.abort.message[:24]}"
        return Finding(kind="abort", signature=f"abort {told}", text=f"{result.abort}; {result}", statuses=statuses)
    if ran.raised is not None:
        text = f"{type(ran.raised).__name__}: {_safe(ran.raised)}"
        return Finding(kind="raised", signature=f"raised {_place_of(ran.raised)}", text=text, statuses=statuses)
    counted = result.written + result.failed + result.skipped + result.unattempted + result.unknown
    is_complete = result.received == counted == len(statuses) == len(ran.statuses)
    if not is_complete or result.unattempted or result.unknown:
        return Finding(kind="accounts", signature="accounts", text=str(result), statuses=statuses)
    if ran.held:
        return Finding(kind="connections", signature="connections", text=f"{ran.held} kept", statuses=statuses)
    quoted = [str(failure) for failure in ran.failures.values() if MARKER in f"{failure.message} {failure!r}"]
    if quoted:
        return Finding(kind="words", signature=f"words {quoted[0][-60:]}", text=quoted[0], statuses=statuses)
    return None


def _safe(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "which cannot be shown"


def _place_of(error: BaseException) -> str:
    """The exception, and where in the library it was raised, by the innermost frame that is the library's."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/batchwrite/" in code.co_filename:
            place = f"{code.co_filename.rpartition('/')[2]}:{code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__} {place}"


def refused_in_words(case: FuzzCase, ran: Ran, expected: Ran) -> list[int]:
    """Items that the library does not take, by its own words, and SQLAlchemy would write: it may be stricter."""
    own = {"ItemRefused"} | ({"TypeError", "ValueError"} if case.database == MARIADB else set())
    return [
        place
        for place, failure in ran.failures.items()
        if expected.statuses[place] == "written" and failure.error_type in own
    ]


def may_differ(case: FuzzCase, place: int, ran: Ran, expected: Ran) -> bool:
    """Whether an item may have landed that by itself would not: see "What may differ", in docs/promises.md."""
    if (ran.statuses[place], expected.statuses[place]) != ("written", "failed"):
        return False
    items = [item for item in case.items if not isinstance(item, Alteration)]
    return (
        _may_be_hidden(case, place, items)
        or _is_converted(items[place])
        or (case.database == MARIADB and expected.told[place] == "failed 1062" and _is_upserted(items[place]))
    )


def _is_converted(item: Sequence[FuzzWrite]) -> bool:
    """Whether the library may know how to send a value that the driver asks for its own text."""
    return any("base=" in source for write in item for source in (*write.key.values(), *write.values.values()))


def _is_upserted(item: Sequence[FuzzWrite]) -> bool:
    """Whether a row may be found by a key that the database has rounded, which the reference does not know."""
    return any(write.method == "upsert" for write in item)


def _may_be_hidden(case: FuzzCase, place: int, items: Sequence[Sequence[FuzzWrite]]) -> bool:
    """Whether another item of the chunk may have replaced, or made up for, what an item does."""
    size = case.manner.chunk_size
    start = place - place % size
    own = {named for write in items[place] for named in _named(write)}
    others = {
        named
        for other in range(start, min(start + size, len(items)))
        if other != place
        for write in items[other]
        for named in _named(write)
    }
    repeated = [named for write in items[place] for named in _named(write)]
    return not own.isdisjoint(others) or len(repeated) > len(set(repeated))


def _named(write: FuzzWrite) -> Iterator[tuple[str, str]]:
    """The row that a write names, as far as its source tells."""
    if write.method == "upsert" or write.key:
        yield write.table, str({**write.key, **write.values}.get("id"))
    elif "id" in write.values:
        yield write.table, str(write.values["id"])


def outcomes(case: FuzzCase, ran: Ran, expected: Ran, differing: list[int]) -> Finding:
    place = differing[0]
    failure = ran.failures.get(place)
    words = f"{failure.error_type} {failure.sqlstate}" if failure else "written"
    text = f"item {place} should be {expected.statuses[place]}, and is {ran.statuses[place]}"
    if failure:
        text += f": {failure.error_type} {failure.sqlstate} {failure.message}; {failure.detail}"
    signature = f"outcomes {expected.statuses[place]} -> {words} {case.theme}"
    return Finding(kind="outcomes", signature=signature, text=text, statuses=expected.told)


def rows(case: FuzzCase, ran: Ran, expected: Ran) -> Finding:
    lines = []
    for name, rows in expected.rows.items():
        missing = [row for row in rows if row not in ran.rows[name]]
        surplus = [row for row in ran.rows[name] if row not in rows]
        if missing or surplus or len(rows) != len(ran.rows[name]):
            lines += [f"{name}: should be there: {missing[:3]}", f"{name}: is there instead: {surplus[:3]}"]
    signature = f"rows {case.theme} {' '.join(case.settings)}"
    return Finding(kind="rows", signature=signature, text="\n    ".join(lines), statuses=expected.told)
