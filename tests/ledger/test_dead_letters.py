"""Dead letters: what failed is kept with its chunk, comes back as it was, and is written again by `retry`."""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from booked import (
    ITEMS,
    LEDGER,
    SUMS,
    Crash,
    assert_landed,
    counts,
    crashing_at,
    ids,
    insert_row,
    rows_of,
    write_one,
    writer,
)

from batchwrite import (
    ConfigurationError,
    DeadLetterFile,
    DeadLetters,
    ItemRefused,
    ReadLetter,
    SourceError,
    Stage,
    Status,
)

ITEMS_OF_ALL_KINDS = [1, -2, None, "x", 5, 6, -7]


@pytest.fixture(params=["table", "file", "file without a ledger"])
def box(request, database, tmp_path):
    """A writer with dead letters, and what gives those of a run."""
    options = {"dead_letters": DeadLetters()} if request.param == "table" else {}
    options = options or {"dead_letters": DeadLetterFile(tmp_path / "letters.jsonl")}
    if "without" in request.param:
        options["ledger"] = None
    return writer(database, **options)


@pytest.fixture(params=["table", "file"])
def kept(request, tmp_path):
    """Makes dead letters of either kind."""
    return DeadLetters if request.param == "table" else partial(DeadLetterFile, tmp_path / "letters.jsonl")


def letters_of(each, run_id):
    return list(each._books.letters(run_id))


def run_id_of(each, result):
    """Without a ledger a run has no name that its result knows of: the letters have one."""
    if result.run_id is not None:
        return result.run_id
    lines = Path(each._books.dead_letters._path).read_text()
    return json.loads(lines.partition("\n")[0])["run_id"]


def test_what_failed_is_kept(box):
    result = box.run(ITEMS_OF_ALL_KINDS, write_one)
    assert counts(result) == (3, 3, 1, 0, 0)
    letters = letters_of(box, run_id_of(box, result))
    assert [(each.item_index, each.item, each.attempt, each.stage) for each in letters] == [
        (1, "-2", 1, "write"),
        (3, '"x"', 1, "map"),
        (6, "-7", 1, "write"),
    ]
    for letter, failure in zip(letters, result.failures, strict=True):
        told = (letter.error_type, letter.message, letter.sqlstate, letter.constraint_name, letter.detail)
        assert told == (failure.error_type, failure.message, failure.sqlstate, failure.constraint, failure.detail)


def test_a_run_without_failures_leaves_no_letters(box, tmp_path):
    result = box.run([1, 2], write_one)
    assert result.status is Status.SUCCESS
    assert not (tmp_path / "letters.jsonl").exists()


def test_letters_are_written_even_if_a_result_keeps_no_failures(database):
    with_letters = writer(database, dead_letters=DeadLetters(), keep_failures=0)
    result = with_letters.run([-1, -2, -3, -4], write_one)
    assert (result.failures, len(letters_of(with_letters, result.run_id))) == ((), 4)


def test_a_batch_keeps_letters_too(box):
    with box.collect() as batch, batch.item("one"):
        raise ValueError
    (letter,) = letters_of(box, run_id_of(box, batch.result))
    assert letter.item == '"one"'


# ---- retry


def mended(number, out):
    """What was refused is right after all."""
    write_one(abs(int(number)) if number != "x" else 40, out)


def test_what_failed_lands_by_retry(box, database):
    run_id = run_id_of(box, box.run(ITEMS_OF_ALL_KINDS, write_one))
    result = box.retry(run_id, mended)
    assert counts(result) == (3, 0, 0, 0, 0)
    assert_landed(database, [1, 5, 6, 2, 40, 7])
    assert letters_of(box, run_id) == []


def test_what_fails_again_stays_with_its_new_reason(box, database):
    run_id = run_id_of(box, box.run(ITEMS_OF_ALL_KINDS, write_one))
    result = box.retry(run_id, lambda number, out: write_one(number if number != -2 else 2, out))
    assert counts(result) == (1, 2, 0, 0, 0)
    assert all(isinstance(failure.item, ReadLetter) for failure in result.failures)
    left = letters_of(box, run_id)
    assert [(each.item_index, each.item, each.attempt) for each in left] == [(3, '"x"', 2), (6, "-7", 2)]
    assert counts(box.retry(run_id, write_one)) == (0, 2, 0, 0, 0)
    assert [each.attempt for each in letters_of(box, run_id)] == [3, 3]
    assert counts(box.retry(run_id, mended)) == (2, 0, 0, 0, 0)
    assert_landed(database, [1, 5, 6, 2, 40, 7])


def test_a_second_retry_has_nothing_to_do(box, database):
    run_id = run_id_of(box, box.run(ITEMS_OF_ALL_KINDS, write_one))
    for received in (3, 0):
        assert box.retry(run_id, mended).received == received
    assert_landed(database, [1, 5, 6, 2, 40, 7])


def test_the_reason_of_a_letter_is_that_of_its_last_attempt(box):
    run_id = run_id_of(box, box.run([-1], write_one))

    def refuse(number, out):
        raise ItemRefused("not today", table="items", column="n")

    box.retry(run_id, refuse)
    (letter,) = letters_of(box, run_id)
    assert (letter.stage, letter.message, letter.table_name, letter.column_name) == ("map", "not today", "items", "n")


def test_an_item_that_is_skipped_by_retry_stays(box):
    run_id = run_id_of(box, box.run([-1], write_one))
    assert box.retry(run_id, lambda number, out: out.skip("not now")).skipped == 1
    assert len(letters_of(box, run_id)) == 1


def test_a_retry_of_a_run_that_nobody_knows_does_nothing(box):
    result = box.retry("never", write_one)
    assert (result.received, result.status) == (0, Status.SUCCESS)


def test_letters_of_other_runs_are_left_alone(box):
    first = run_id_of(box, box.run([-1], write_one))
    box.run([-2], write_one)
    assert box.retry(first, mended).received == 1


def test_many_letters_are_read_page_by_page(database):
    with_letters = writer(database, dead_letters=DeadLetters(), chunk_size=200)
    run_id = with_letters.run(range(-1_201, 0), write_one).run_id
    assert counts(with_letters.retry(run_id, mended)) == (1_201, 0, 0, 0, 0)
    assert with_letters.retry(run_id, mended).received == 0


def test_a_retry_whose_chunk_is_undone_marks_nothing(database):
    with_letters = writer(database, dead_letters=DeadLetters())
    run_id = with_letters.run([-1, -2], write_one).run_id

    def interrupted(number, out):
        mended(number, out)
        if number == -2:
            raise Crash

    with pytest.raises(Crash):
        with_letters.retry(run_id, interrupted)
    assert [each.item_index for each in letters_of(with_letters, run_id)] == [0, 1]
    assert_landed(database, [])


def test_the_key_of_a_letter_is_that_of_its_item(database):
    with_letters = writer(database, dead_letters=DeadLetters(), key=lambda number: (abs(number),))
    run_id = with_letters.run([1, -2, -3], write_one).run_id
    writer(database, key=lambda number: (abs(number),)).run([3], write_one)
    result = with_letters.retry(run_id, mended)
    assert (result.written, result.skipped, result.failed) == (1, 1, 0)
    assert_landed(database, [1, 2, 3])


def test_a_writer_without_letters_has_none_to_write_again(database):
    with pytest.raises(ConfigurationError, match="keeps no dead letters"):
        writer(database).retry("x", write_one)


# ---- what a letter holds


@dataclass
class Line:
    number: int
    price: Decimal
    at: datetime


LINE = Line(1, Decimal("1.10"), datetime(2026, 1, 2, 3, 4, 5))  # noqa: DTZ001 - as input files have them


def test_items_come_back_as_what_they_were_if_their_class_is_named(database, tmp_path):
    def refuse(line, out):
        raise ValueError

    for box in (DeadLetters(types=(Line,)), DeadLetterFile(tmp_path / "letters.jsonl", types=(Line,))):
        seen = []
        with_letters = writer(database, dead_letters=box)
        run_id = with_letters.run([LINE], refuse).run_id
        with_letters.retry(run_id, lambda line, out, seen=seen: seen.append(line))
        assert seen == [LINE]


def test_letters_may_be_written_and_read_in_another_way(database):
    box = DeadLetters(encode=lambda item: f"<{item}>", decode=lambda text: int(text[1:-1]))
    with_letters = writer(database, dead_letters=box)
    run_id = with_letters.run([-5], write_one).run_id
    assert [row["item"] for row in rows_of(database, LEDGER.dead_letters)] == ["<-5>"]
    assert with_letters.retry(run_id, mended).written == 1


def test_an_item_that_cannot_be_written_down_is_said_to_be(database):
    def too_deep(item, out):
        raise ValueError

    made = []
    for _ in range(60):
        made = [made]
    writer(database, dead_letters=DeadLetters()).run([made], too_deep)
    (row,) = rows_of(database, LEDGER.dead_letters)
    assert json.loads(row["item"]) == {
        "not kept": "list",
        "because": "ValueError was raised when it was written as JSON",
    }


def test_an_item_that_is_too_long_is_said_to_be_and_cannot_be_written_again(kept, database):
    with_letters = writer(database, dead_letters=kept(most_characters=1_000), key=lambda row: row["id"])
    rows = [{"id": 1, "n": -1, "text": "x" * 1_000}, {"id": 2, "n": 2}, {"id": 3, "n": -1, "text": "x" * 900}]
    result = with_letters.run(rows, insert_row)
    assert counts(result) == (1, 2, 0, 0, 0)
    again = with_letters.retry(run_id_of(with_letters, result), lambda row, out: out.insert(ITEMS, row | {"n": 0}))
    assert counts(again) == (1, 1, 0, 0, 0)
    assert again.failures[0].message == "the dict was not kept: its JSON is too long"
    assert ids(database) == [2, 3]


@pytest.mark.parametrize("text", ["a\0b", "half \ud800", "é\U0001f600", "x" * 100_000], ids=lambda text: text[:6])
def test_a_reason_may_hold_any_text(box, database, text):
    def refuse(item, out):
        if item == text:
            raise ItemRefused(f"no {text}")
        if item == text + text:
            raise ValueError(text)
        write_one(item, out)

    result = box.run([1, text, text + text, 2], refuse)
    assert counts(result) == (2, 2, 0, 0, 0)
    assert_landed(database, [1, 2])
    assert len(letters_of(box, run_id_of(box, result))) == 2


def test_a_letter_that_has_been_tampered_with_ends_the_retry_and_makes_nothing(database):
    with_letters = writer(database, dead_letters=DeadLetters(types=(Line,)))
    run_id = with_letters.run([-1, -2], write_one).run_id
    with database.begin() as connection:
        tampered = json.dumps({"$type": "object", "class": "Line", "value": {"number": 1, "planted": 2}})
        letters = LEDGER.dead_letters
        connection.execute(letters.update().where(letters.c.item_index == 1).values(item=tampered))
    with pytest.raises(SourceError) as caught:
        with_letters.retry(run_id, mended)
    assert "item 1 of run" in str(caught.value.__cause__)
    assert "planted" not in f"{caught.value} {caught.value.__cause__}"


# ---- letters in a file


@pytest.fixture
def file(tmp_path):
    return tmp_path / "letters.jsonl"


def test_a_file_of_letters_is_for_its_owner_only(database, file):
    writer(database, dead_letters=DeadLetterFile(file)).run([-1], write_one)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_ends_the_run_and_says_so(database, tmp_path):
    box = DeadLetterFile(tmp_path / "nowhere" / "letters.jsonl")
    result = writer(database, dead_letters=box).run([1, -2, 3, 4, 5, 6, 7], write_one, run_id="x")
    assert (result.written, result.failed, result.abort.reason) == (2, 1, "dead_letters")
    (tmp_path / "nowhere").mkdir()
    again = writer(database, dead_letters=box).run([1, -2, 3, 4, 5, 6, 7], write_one, run_id="x")
    assert again.resumed == 3
    assert [letter.item_index for letter in box.letters("x")] == [1]
    assert_landed(database, [1, 3, 4, 5, 6, 7])


class Crashing(DeadLetterFile):
    """The program crashes between the commit of the second chunk and its letters."""

    def keep(self, run_id, report):
        if report.chunk.first_index == 3:
            raise Crash
        super().keep(run_id, report)


ROWS = [{"id": n, "n": -n if n in {2, 5, 6, 8} else n} for n in range(1, 10)]


class Seekable(list):
    def from_item(self, index):
        return iter(self[index:])


@pytest.mark.parametrize("source", [list, Seekable])
def test_letters_that_a_crash_has_cost_are_added_when_the_run_goes_on(database, file, source):
    with pytest.raises(Crash):
        writer(database, dead_letters=Crashing(file)).run(source(ROWS), insert_row, run_id="x")
    box = DeadLetterFile(file)
    assert [letter.item_index for letter in box.letters("x")] == [1]
    assert ids(database) == [1, 3, 4]
    for _ in range(2):
        writer(database, dead_letters=box).run(source(ROWS), insert_row, run_id="x")
        letters = box.letters("x")
        assert [letter.item_index for letter in letters] == [1, 4, 5, 7]
        assert len(file.read_text().splitlines()) == 4
    assert {letter.sqlstate for letter in letters} <= {"23514", "SQLITE_CONSTRAINT_CHECK", "4025"}
    assert [json.loads(letter.item) for letter in letters] == [ROWS[place] for place in (1, 4, 5, 7)]


def test_letters_that_have_landed_are_not_added_again(database, file):
    box = DeadLetterFile(file)
    with_letters = writer(database, dead_letters=box)
    with pytest.raises(Crash):
        with_letters.run(crashing_at(ROWS, 7), insert_row, run_id="x")
    assert with_letters.retry("x", lambda row, out: out.insert(ITEMS, row | {"n": 0})).written == 3
    with_letters.run(ROWS, insert_row, run_id="x")
    assert [letter.item_index for letter in box.letters("x")] == [7]


def test_a_line_that_a_crash_has_cut_is_passed_by(database, file):
    box = DeadLetterFile(file)
    writer(database, dead_letters=box).run([-1], write_one, run_id="x")
    whole = file.read_text()
    file.write_text(whole + whole[: len(whole) // 2])
    writer(database, dead_letters=box).run([-2], write_one, run_id="y")
    assert [len(box.letters(run_id)) for run_id in ("x", "y")] == [1, 1]
    assert len(file.read_text().splitlines()) == 3


def test_a_file_holds_the_letters_of_many_runs(database, file):
    box = DeadLetterFile(file)
    for number in range(1, 4):
        writer(database, dead_letters=box).run([-number], write_one, run_id=str(number))
    assert [[letter.item for letter in box.letters(str(number))] for number in (1, 2, 3)] == [["-1"], ["-2"], ["-3"]]
    assert [each.stage for each in box.letters("1")] == [str(Stage.WRITE)]


def test_letters_in_a_table_are_committed_with_their_chunk_or_not_at_all(database):
    """The second chunk cannot be committed: nothing is left of it, nor of its letters."""
    drop = "DROP TABLE sums" if database.dialect.name == "sqlite" else "ALTER TABLE sums RENAME TO other"

    def map_item(number, out):
        if number == 4:
            with database.begin() as connection:
                connection.exec_driver_sql(drop)
        write_one(number, out)

    result = writer(database, dead_letters=DeadLetters(), workers=0).run([1, -2, 3, 4, -5, 6], map_item)
    assert counts(result) == (2, 1, 0, 3, 0)
    assert [row["item_index"] for row in rows_of(database, LEDGER.dead_letters)] == [1]
    assert SUMS.name == "sums"
