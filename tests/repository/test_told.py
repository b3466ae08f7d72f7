"""What bulk methods say of their entities, in the forms of the clients that people use."""

import pytest

from batchwrite import PartialFailure
from batchwrite.sinks.told import Refusal, Unreadable, told_by

ENTITIES = [{"_id": number, "n": number} for number in range(4)]


class WithDetails(Exception):
    def __init__(self, details):
        super().__init__()
        self.details = details


class ClientError(Exception):
    """By its form botocore's."""

    def __init__(self, response):
        super().__init__()
        self.response = response


def places(told):
    return sorted(told.refused), sorted(told.unattempted)


def test_mongo_in_order_stops_at_the_first():
    error = WithDetails({"writeErrors": [{"index": 1, "code": 11000, "errmsg": "dup key: 4711"}], "nInserted": 1})
    told = told_by(ENTITIES, error)
    assert places(told) == ([1], [2, 3])
    assert told.refused[1] == Refusal(error_type="WriteError", code="11000", detail="dup key: 4711")
    assert "4711" not in repr(told.refused[1])


def test_mongo_out_of_order_has_tried_all():
    errors = [{"index": 1, "code": 11000, "errmsg": "x"}, {"index": 3, "code": 121, "errmsg": "y"}]
    assert places(told_by(ENTITIES, WithDetails({"writeErrors": errors, "nInserted": 2}))) == ([1, 3], [])


def test_mongo_whose_write_concern_has_failed_says_nothing_sure():
    details = {"writeErrors": [{"index": 1}], "nInserted": 3, "writeConcernErrors": [{"code": 64}]}
    assert told_by(ENTITIES, WithDetails(details)) is None


def test_elastic_answers_one_result_an_operation():
    conflict = {"type": "version_conflict_engine_exception", "reason": "[4711]: version conflict"}
    answer = {
        "took": 3,
        "errors": True,
        "items": [
            {"create": {"_id": "0", "status": 201}},
            {"create": {"_id": "1", "status": 409, "error": conflict}},
            {"create": {"_id": "2", "status": 201}},
            {"create": {"_id": "3", "status": 201}},
        ],
    }
    told = told_by(ENTITIES, answer)
    assert places(told) == ([1], [])
    assert (told.refused[1].error_type, told.refused[1].code) == ("version_conflict_engine_exception", "409")


def test_elastic_helpers_answer_a_number_and_errors():
    error = {"index": {"_id": 2, "status": 400, "error": {"type": "parsing"}}}
    assert places(told_by(ENTITIES, (3, [error]))) == ([2], [])
    by_data = [{"n": 1}, {"n": 2}]
    error = {"index": {"status": 400, "error": "bad", "data": {"n": 2}}}
    assert places(told_by(by_data, (1, [error]))) == ([1], [])
    assert told_by(ENTITIES, (2, [error])) is None  # that is not all of them
    assert places(told_by(ENTITIES, (4, []))) == ([], [])


def test_dynamo_gives_back_what_it_has_not_processed():
    left = {"UnprocessedItems": {"t": [{"PutRequest": {"Item": ENTITIES[2]}}]}}
    told = told_by(ENTITIES, left)
    assert places(told) == ([], [2])
    assert told.is_throttled
    assert places(told_by(ENTITIES, {"UnprocessedItems": {}})) == ([], [])
    typed = {"UnprocessedItems": {"t": [{"PutRequest": {"Item": {"_id": {"N": "2"}}}}]}}
    assert places(told_by(ENTITIES, typed)) == ([], [0, 1, 2, 3])  # which it was cannot be told: a put may be repeated


def test_dynamo_transactions_name_a_reason_for_each():
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Message": "m"}, {"Code": "None"}, {"Code": "None"}]
    told = told_by(ENTITIES, ClientError({"CancellationReasons": reasons}))
    assert places(told) == ([1], [0, 2, 3])
    assert told.refused[1].error_type == "ConditionalCheckFailed"


def test_exceptions_in_place_of_results():
    error = ValueError("x")
    assert told_by(ENTITIES, [1, error, None, 4]).refused == {1: error}
    with pytest.raises(Unreadable, match="1 results for 4"):
        told_by(ENTITIES, [error])


@pytest.mark.parametrize(
    "answer",
    [
        None,
        4,
        "done",
        [],
        [1, 2, 3, 4],
        ENTITIES,
        [{"index": 1, "code": 3}],  # a row with such columns, perhaps
        {"errors": False},
        {"items": [1]},
        ValueError("x"),
        (4, "done"),
        object(),
    ],
)
def test_what_says_nothing_of_single_entities(answer):
    assert told_by(ENTITIES, answer) is None


@pytest.mark.parametrize(
    "answer",
    [[(9, ValueError("x"))], PartialFailure({7: "x"}), PartialFailure({-1: "x"}), [{"index": 4, "error": "x"}]],
)
def test_what_is_said_of_entities_that_were_not_given_cannot_be_read(answer):
    with pytest.raises(Unreadable, match="position"):
        told_by(ENTITIES, answer)


def test_our_own_exception():
    assert places(told_by(ENTITIES, PartialFailure({1: "x"}, unattempted=[2, 3]))) == ([1], [2, 3])
