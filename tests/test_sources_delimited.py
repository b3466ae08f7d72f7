import csv
import io
import itertools
import json
import random
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwrite.errors import ConfigurationError
from batchwrite.sources import DelimitedReader, LineReader, Record
from batchwrite.sources.delimited import MAX_RECORD_BYTES, MAX_RECORD_LINES
from batchwrite.sources.lines import MAX_LINE_BYTES

UNCLOSED = "a quote is opened and not closed"


def reader(data: bytes, *, delimiter: str = ",", encoding: str = "utf-8") -> DelimitedReader:
    return DelimitedReader(LineReader(io.BufferedReader(io.BytesIO(data)), encoding), delimiter=delimiter)


def read(data: bytes, **options: Any) -> list[Record]:
    return list(reader(data, **options))


def rows(data: bytes, **options: Any) -> list[list[Any]]:
    return [list(record.fields.values()) for record in read(data, **options) if record.fields is not None]


def problems(data: bytes, **options: Any) -> list[tuple[int, str]]:
    return [(record.line, record.problem) for record in read(data, **options) if record.problem is not None]


def written(table: list[list[str]], *, line_end: str = "\r\n", delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    # Before Python 3.13 the writer leaves a carriage return unquoted where lines end in something else.
    quoting = csv.QUOTE_ALL if any("\r" in field for row in table for field in row) else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator=line_end, delimiter=delimiter, quoting=quoting).writerows(table)
    return text.getvalue().encode()


# What is read


def test_records_carry_their_line_and_their_exact_bytes() -> None:
    records = read(b'a,b\n1,x\n2,"y\r\nz"\r\n3,w')
    assert [(record.line, record.raw) for record in records] == [(2, b"1,x\n"), (3, b'2,"y\r\nz"\r\n'), (5, b"3,w")]
    assert [record.fields for record in records] == [
        {"a": "1", "b": "x"},
        {"a": "2", "b": "y\r\nz"},
        {"a": "3", "b": "w"},
    ]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_one(line_end: bytes) -> None:
    assert rows(line_end.join([b"a,b", b"1,2", b"3,4", b""])) == [["1", "2"], ["3", "4"]]


def test_line_ends_may_be_mixed() -> None:
    records = read(b"a,b\r\n1,2\r3,4\n5,6\r\r\n7,8")
    assert [record.line for record in records] == [2, 3, 4, 6]
    assert not any(record.problem for record in records)


def test_blank_lines_are_no_records_but_count_as_lines() -> None:
    records = read(b"\n\na,b\n\n1,2\n\r\n3,4\n\n")
    assert [record.line for record in records] == [5, 7]


def test_a_header_alone_is_no_record() -> None:
    assert read(b"a,b") == []


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " ", "¦"])
def test_delimiters(delimiter: str) -> None:
    data = written([["a", "b"], [f"1{delimiter}", "2"], ["x, y", ""]], delimiter=delimiter)
    assert rows(data, delimiter=delimiter) == [[f"1{delimiter}", "2"], ["x, y", ""]]


def test_a_quote_inside_an_unquoted_field_is_literal() -> None:
    assert rows(b'a,b\n37\'36"N,6" pipe\n') == [["37'36\"N", '6" pipe']]


def test_long_fields() -> None:
    assert rows(b"a,b\n1," + b"x" * 3_000_000 + b"\n") == [["1", "x" * 3_000_000]]


def test_a_byte_order_mark_belongs_to_the_preamble() -> None:
    with_mark = reader(b"\xef\xbb\xbfa,b\r\n1,2")
    assert with_mark.header == ("a", "b")
    assert with_mark.preamble == b"\xef\xbb\xbfa,b\r\n"


def test_a_header_may_have_quoted_names_of_two_lines() -> None:
    headed = reader(b'"a\nb",c\n1,2\n')
    assert (headed.header, headed.preamble) == (("a\nb", "c"), b'"a\nb",c\n')
    assert [record.line for record in headed] == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the input is empty: a header line is expected"),
        (b"\n\r\n", "the input is empty: a header line is expected"),
        (b"a,b,a\n", "the header has the name 'a' twice"),
        (b"a,,c\n", "the header has no name for field 2"),
        (b"a,b,\n", "the header has no name for field 3"),
        (b"\na,\xff\n", "the header (line 2) cannot be read: not utf-8 text"),
        (b'a,"b\n1,2\n', f"the header (line 1) cannot be read: {UNCLOSED}"),
        (b"a,b\0\n", "the header (line 1) cannot be read: contains a NUL character"),
    ],
)
def test_headers_that_cannot_be_used(data: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reader(data)
    assert str(caught.value) == message


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r", "\0"])
def test_delimiters_that_cannot_be(delimiter: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot delimit fields"):
        reader(b"a,b\n", delimiter=delimiter)


# What costs a line


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1,2,3", "3 fields where the header has 2"),
        (b"1", "1 field where the header has 2"),
        (b"1,\xff", "not utf-8 text"),
        (b"1,\xc3", "not utf-8 text"),
        (b"1,\0", "contains a NUL character"),
        (b'1,"x"y', "text after a closing quote"),
        (b'1,"x', UNCLOSED),
        (b'"1,x', UNCLOSED),
        (b'1,"', UNCLOSED),
        (b'1,"x""', UNCLOSED),
        (b'1,"x\xff', "not utf-8 text"),
    ],
)
@pytest.mark.parametrize("position", range(4))
def test_a_damaged_line_costs_itself(line: bytes, problem: str, position: int) -> None:
    good = [b"5,plain", b'6,"quoted, and ""so"" on"', b'"7",", begins so"']
    records = read(b"\n".join([b"a,b", *good[:position], line, *good[position:]]) + b"\n")
    failed = [record for record in records if record.problem]
    assert [(record.line, record.problem, record.fields) for record in failed] == [(position + 2, problem, None)]
    assert failed[0].raw == line + b"\n"
    assert len(records) == 4


def test_an_unclosed_quote_in_the_last_line() -> None:
    assert problems(b'a,b\n1,2\n3,"x') == [(3, UNCLOSED)]


def test_an_unclosed_quote_does_not_swallow_the_rest_of_a_long_file() -> None:
    data = b'a,b\n1,"open\n' + b"2,plain\n" * (3 * MAX_RECORD_LINES) + b'3,"also open\n' + b"4,plain\n" * 5
    records = read(data)
    assert [record.line for record in records if record.problem] == [2, 3 * MAX_RECORD_LINES + 3]
    assert len(records) == 3 * MAX_RECORD_LINES + 7


def test_a_quoted_field_may_be_as_long_as_the_bound() -> None:
    lines = b"x\n" * (MAX_RECORD_LINES - 2)
    [record] = read(b'a,b\n1,"' + lines + b'"\n')
    assert record.problem is None
    long = b"y" * 1000 + b"\n"
    [record] = read(b'a,b\n1,"' + long * (MAX_RECORD_BYTES // len(long) - 1) + b'"\n')
    assert record.problem is None


@pytest.mark.parametrize(
    "field",
    [b"x\n" * MAX_RECORD_LINES, (b"y" * 1000 + b"\n") * (MAX_RECORD_BYTES // 1000)],
    ids=["lines", "bytes"],
)
def test_a_quoted_field_beyond_the_bound_was_left_open(field: bytes) -> None:
    records = read(b'a,b\n1,"' + field + b'"\n2,x\n')
    assert records[0].problem == UNCLOSED
    assert len(records) == field.count(b"\n") + 2
    assert records[-1].fields == {"a": "2", "b": "x"}


def test_a_ragged_record_of_several_lines_is_one_failure() -> None:
    assert problems(b'a,b\n1,"Dear all,\nthank you, and bye\nregards",extra\n2,x\n') == [
        (2, "3 fields where the header has 2")
    ]


def test_a_damaged_byte_inside_a_record_of_several_lines_costs_that_record() -> None:
    records = read(b'a,b\n1,"x\n\xff\ny"\n2,z\n')
    assert [(record.line, record.problem) for record in records] == [(2, "not utf-8 text"), (5, None)]


def test_an_unclosed_quote_that_the_next_quoted_field_closes() -> None:
    """Line 2 opens a quote; line 4 closes it by accident, and the record that comes of it is ragged."""
    data = b'a,b,c\n1,"open,3\n4,5,6\n7,", and so",9\n10,11,12\n'
    assert problems(data) == [(2, UNCLOSED)]
    assert rows(data) == [["4", "5", "6"], ["7", ", and so", "9"], ["10", "11", "12"]]


def test_lines_that_each_open_a_quote_are_read_in_linear_time() -> None:
    """Every line leaves a quote open that no later line closes: a naive search would start again at each."""

    def seconds(lines: int) -> float:
        data = b"a,b,c\n" + b',a","\n' * lines
        started = time.process_time()
        assert len(problems(data)) == lines
        return time.process_time() - started

    seconds(1_000)
    assert seconds(100_000) < 40 * max(seconds(10_000), 0.05)


# Against the standard library, and damage anywhere

FIELD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
TABLE = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(FIELD, min_size=width, max_size=width), min_size=1, max_size=8)
)


def headed(table: list[list[str]]) -> list[list[str]]:
    return [[f"field {number}" for number, _ in enumerate(table[0])], *table]


@given(TABLE, st.sampled_from(["\n", "\r\n"]), st.sampled_from([",", ";", "\t"]))
def test_what_the_csv_module_writes_is_read(table: list[list[str]], line_end: str, delimiter: str) -> None:
    data = written(headed(table), line_end=line_end, delimiter=delimiter)
    records = read(data, delimiter=delimiter)
    assert [list((record.fields or {}).values()) for record in records] == table
    assert reader(data, delimiter=delimiter).preamble + b"".join(record.raw for record in records) == data


@given(st.binary(max_size=300), st.sampled_from(["utf-8", "latin-1", "utf-16"]))
def test_every_byte_is_accounted_for_whatever_they_are(data: bytes, encoding: str) -> None:
    """Blank lines aside, header and records are the input."""
    try:
        source = reader(b"a,b\n".decode().encode(encoding) + data, encoding=encoding)
    except ConfigurationError:
        return  # the bytes went on with the header's line
    records = list(source)
    read_back = source.preamble + b"".join(record.raw for record in records)
    blank = dict.fromkeys("\r\n".encode(encoding))
    assert [byte for byte in read_back if byte not in blank] == [
        byte for byte in b"a,b\n".decode().encode(encoding) + data if byte not in blank
    ]


PLAIN = st.text("abcxyz ÄÖ", min_size=1, max_size=6)
QUOTED = st.builds(lambda left, right: f"{left}, {right}", PLAIN, PLAIN)


def extra_field(line: bytes) -> bytes:
    return line + b",more"


def missing_field(line: bytes) -> bytes:
    return line.rpartition(b",")[0]


def nul(line: bytes) -> bytes:
    return line[:1] + b"\0" + line[1:]


def bad_byte(line: bytes) -> bytes:
    return line[:1] + b"\xff" + line[1:]


def unclosed_quote(line: bytes) -> bytes:
    return line.rpartition(b",")[0] + b',"left open'


@given(
    st.lists(st.tuples(PLAIN, st.one_of(PLAIN, QUOTED), PLAIN), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([extra_field, missing_field, nul, bad_byte, unclosed_quote]),
)
def test_damage_to_one_line_fails_exactly_this_line(
    table: list[tuple[str, str, str]], chance: random.Random, damage: Callable[[bytes], bytes]
) -> None:
    lines = written([["a", "b", "c"], *map(list, table)]).split(b"\r\n")[:-1]
    hit = chance.randrange(1, len(lines))
    lines[hit] = damage(lines[hit])
    records = read(b"\r\n".join(lines))
    assert [record.line for record in records if record.problem] == [hit + 1]
    assert [tuple((record.fields or {}).values()) for record in records if not record.problem] == [
        row for number, row in enumerate(table, start=1) if number != hit
    ]


# Real files


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and pattern in member.name:
                file = tar.extractfile(member)
                assert file is not None
                yield Path(member.name).stem, file.read()


def test_csv_spectrum_gives_the_values_of_its_twins(shared_data: Path) -> None:
    archive = shared_data / "csv_torture" / "csv-spectrum.tar.xz"
    files = dict(members(archive, "/csvs/"))
    twins = {name: json.loads(data) for name, data in members(archive, "/json/")}
    assert len(files) == len(twins) == 12
    for name, data in files.items():
        records = [record.fields for record in read(data)]
        if name == "location_coordinates":  # its twin is one object, with another telephone number
            twins[name] = [twins[name] | {"Contact Phone Number": "2095257564"}]
        assert records == twins[name], name


def test_pollock_files_are_read_to_their_end(shared_data: Path) -> None:
    """Files polluted in every way there is: no crash, no hang, no byte lost."""
    seen = 0
    for number, (name, data) in enumerate(members(shared_data / "csv_torture" / "pollock_polluted.tar.xz", "/csv/")):
        if number % 20:
            continue
        try:
            source = reader(data, encoding="latin-1")
        except ConfigurationError:
            continue
        records = list(source)
        read_back = source.preamble + b"".join(record.raw for record in records)
        assert read_back.replace(b"\r", b"").replace(b"\n", b"") == data.replace(b"\r", b"").replace(b"\n", b""), name
        assert len(records) <= data.count(b"\n") + data.count(b"\r") + 1
        seen += len(records)
    assert seen > 5_000


class Generated(io.RawIOBase):
    """A stream of blocks that are made when they are asked for."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        block = next(self._blocks, b"")
        buffer[: len(block)] = block
        return len(block)


@pytest.mark.slow
@pytest.mark.parametrize("line", [b"2," + b"x" * 900 + b"\n", b'1,"open\n', b"x"], ids=["good", "open", "endless"])
def test_memory_does_not_grow_with_the_input(line: bytes) -> None:
    block = line * (60_000 // len(line))
    size = 2 if line.startswith(b"1") else 60  # megabytes; lines that fail are short and many
    blocks = itertools.chain([b"a,b\n"], itertools.repeat(block, size * 1_000_000 // len(block)))
    source = DelimitedReader(LineReader(io.BufferedReader(Generated(blocks), 128 * 1024)))
    tracemalloc.start()
    count = sum(1 for _ in source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 500
    assert peak < (3 * MAX_LINE_BYTES if line == b"x" else 6_000_000)
