"""What a bulk method says of its own accord about the entities that it was given: which it has refused. Pure.

Sources: the forms are those that the clients document: PyMongo's `BulkWriteError.details` (`writeErrors`, `nInserted`),
the response of Elasticsearch's bulk API (`items`, one an operation) and what `elasticsearch.helpers.bulk` returns,
DynamoDB's `BatchWriteItem` (`UnprocessedItems`) and `TransactWriteItems` (`CancellationReasons`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchwrite.errors import BatchWriteError


class PartialFailure(BatchWriteError):
    """To be raised by a bulk method that has written some of what it was given: says which it has refused.

    Args:
        failures: For each entity that was refused, by its position in the list, why: an exception, or a text that
            quotes no values.
        unattempted: Positions of those that were not tried; they are sent again.
    """

    def __init__(self, failures: Mapping[int, object], unattempted: Sequence[int] = ()) -> None:
        super().__init__(f"{len(failures)} were refused")
        self.failures = dict(failures)
        self.unattempted = tuple(unattempted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an entity was refused, as far as the other side has said it in a mapping.

    Attributes:
        error_type: What kind of error.
        code: Its code, if it has one.
        detail: Its text, which may quote values.
    """

    error_type: str
    code: str | None = None
    detail: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was said.

    Attributes:
        refused: By position, why: an exception, a text, or a `Refusal`.
        unattempted: Positions of those that were not tried, for reasons that are not their own.
        is_throttled: Whether the other side has asked for patience with these.
    """

    refused: Mapping[int, object] = field(default_factory=dict)
    unattempted: frozenset[int] = frozenset()
    is_throttled: bool = False


def told_by(entities: Sequence[Any], answer: object) -> Told | None:
    """What an exception, or what a bulk method returns, says of each entity.

    Args:
        entities: What it was given.
        answer: What it has raised or returned.

    Returns:
        What was said; nothing where it says nothing of that kind.

    Raises:
        Unreadable: It names entities that were not among them.
    """
    for read in _FORMS:
        told = read(entities, answer)
        if told is not None:
            return checked(told, entities)
    return None


class Unreadable(BatchWriteError):
    """What was said of entities is not about those that were given."""


def checked(told: Told, entities: Sequence[Any]) -> Told:
    """What was said, if it is about the entities given.

    Raises:
        Unreadable: It is not.
    """
    for place in {*told.refused, *told.unattempted}:
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(entities):
            raise Unreadable(f"insert_many has refused an entity at position {place!r}, of {len(entities)} given to it")
    return told


def _own(_entities: Sequence[Any], answer: object) -> Told | None:
    if not isinstance(answer, PartialFailure):
        return None
    return Told(refused=answer.failures, unattempted=frozenset(answer.unattempted))


def _mongo(entities: Sequence[Any], answer: object) -> Told | None:
    details = getattr(answer, "details", None)
    if not (isinstance(answer, Exception) and isinstance(details, Mapping) and details.get("writeErrors")):
        return None
    if details.get("writeConcernErrors"):
        return None  # what was written may be undone yet
    refused: dict[int, object] = {}
    for error in details["writeErrors"]:
        code = error.get("code")
        refused[error["index"]] = Refusal(
            error_type="WriteError", code=None if code is None else str(code), detail=error.get("errmsg")
        )
    left: frozenset[int] = frozenset()
    if details.get("nInserted", 0) + len(refused) < len(entities):  # in order, and so up to the first
        left = frozenset(range(max(refused) + 1, len(entities)))
    return Told(refused=refused, unattempted=left)


def _elastic_response(entities: Sequence[Any], answer: object) -> Told | None:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("items"), Sequence) or "errors" not in answer:
        return None
    items = answer["items"]
    if len(items) != len(entities):
        return None
    results = [next(iter(item.values())) for item in items]
    return Told(refused={place: _elastic(result) for place, result in enumerate(results) if "error" in result})


def _elastic_helper(entities: Sequence[Any], answer: object) -> Told | None:
    """The pair of a number and of errors that `elasticsearch.helpers.bulk` gives with `raise_on_error=False`."""
    match answer:
        case (int() as count, list() as errors) if count + len(errors) == len(entities):
            results = [next(iter(error.values())) for error in errors if isinstance(error, Mapping) and error]
        case _:
            return None
    refused: dict[int, object] = {}
    for result in results:
        place = next((place for place, entity in enumerate(entities) if _is_meant(entity, result)), None)
        if place is None or place in refused:
            return None
        refused[place] = _elastic(result)
    return Told(refused=refused) if len(refused) == len(errors) else None


def _is_meant(entity: Any, result: Mapping[str, Any]) -> bool:
    if not isinstance(entity, Mapping):
        return False
    if "_id" in entity:
        return bool(entity["_id"] == result.get("_id"))
    return "data" in result and result["data"] in (entity, entity.get("_source"))


def _elastic(result: Mapping[str, Any]) -> Refusal:
    error, status = result.get("error"), result.get("status")
    kind = error.get("type") if isinstance(error, Mapping) else None
    text = error.get("reason") if isinstance(error, Mapping) else error
    code = None if status is None else str(status)
    return Refusal(error_type=str(kind or "BulkIndexError"), code=code, detail=str(text))


def _dynamo_batch(entities: Sequence[Any], answer: object) -> Told | None:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("UnprocessedItems"), Mapping):
        return None
    left = set()
    for requests in answer["UnprocessedItems"].values():
        for request in requests:
            item = request.get("PutRequest", {}).get("Item")
            place = next((n for n, entity in enumerate(entities) if entity == item and n not in left), None)
            if place is None:
                return Told(unattempted=frozenset(range(len(entities))), is_throttled=True)  # a put may be repeated
            left.add(place)
    return Told(unattempted=frozenset(left), is_throttled=bool(left))


def _dynamo_transaction(entities: Sequence[Any], answer: object) -> Told | None:
    response = getattr(answer, "response", None)
    if not isinstance(answer, Exception) or not isinstance(response, Mapping):
        return None
    reasons = response.get("CancellationReasons")
    if not isinstance(reasons, Sequence) or len(reasons) != len(entities):
        return None
    refused: dict[int, object] = {
        place: Refusal(error_type=str(reason["Code"]), detail=reason.get("Message"))
        for place, reason in enumerate(reasons)
        if reason.get("Code", "None") != "None"
    }
    return Told(refused=refused, unattempted=frozenset(range(len(entities))) - refused.keys())


def _one_each(entities: Sequence[Any], answer: object) -> Told | None:
    """A list as long as the entities, in which exceptions stand for those that were refused."""
    if not isinstance(answer, (list, tuple)):
        return None
    refused = {place: each for place, each in enumerate(answer) if isinstance(each, BaseException)}
    if refused and len(answer) != len(entities):
        raise Unreadable(f"insert_many has answered by {len(answer)} results for {len(entities)} entities")
    return Told(refused=refused) if refused else None


def _indexed(_entities: Sequence[Any], answer: object) -> Told | None:
    """A list of pairs of position and exception, or of mappings with `index` and `error` (or `errmsg`)."""
    if not isinstance(answer, (list, tuple)) or not answer:
        return None
    refused: dict[int, object] = {}
    for each in answer:
        match each:
            case (int() as place, BaseException() as error):
                refused[place] = error
            case {"index": int() as place, "error": error}:
                refused[place] = error if isinstance(error, BaseException) else _refusal_of(each, error)
            case {"index": int() as place, "errmsg": text}:
                refused[place] = _refusal_of(each, text)
            case _:
                return None
    return Told(refused=refused)


def _refusal_of(entry: Mapping[str, Any], text: object) -> Refusal:
    code = entry.get("code")
    return Refusal(error_type="Refused", code=None if code is None else str(code), detail=str(text))


_FORMS = (
    _own,
    _mongo,
    _dynamo_transaction,
    _elastic_response,
    _elastic_helper,
    _dynamo_batch,
    _one_each,
    _indexed,
)
