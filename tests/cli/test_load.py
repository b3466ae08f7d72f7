import bz2
import gzip
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from commands import Load, Run, execute, invoke, rows, url_of
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Date, Engine, Integer, MetaData, Table, create_engine

from batchwrite import BatchWriter
from batchwrite.sources import DelimitedReader, LineReader, RecordMapper, open_input


def test_good_lines_land(load: Load, things: Engine) -> None:
    ended = load(b'id,name,price\n1,"one, two",1.50\n2,,\n')
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("success: 2 of 2 lines written into things in ")
    assert rows(things, "SELECT id, name FROM things ORDER BY id") == [(1, "one, two"), (2, "")]
    assert rows(things, "SELECT id FROM things WHERE price = 1.5") == [(1,)]
    assert rows(things, "SELECT id FROM things WHERE price IS NULL") == [(2,)]


def test_a_header_alone_loads_nothing(load: Load, things: Engine) -> None:
    ended = load(b"id,name\n", "--json")
    assert (ended.status, ended.document["status"], ended.document["received"]) == (0, "success", 0)


# MariaDB has no BOOLEAN and no JSON of its own: see "Work with MariaDB and MySQL" in the how-to.
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_texts_are_read_as_the_columns_ask(load: Load, engine: Engine) -> None:
    execute(
        engine,
        "CREATE TABLE kinds "
        "(day date, moment timestamp, yes boolean, exact numeric(20, 5), document json, label varchar(5))",
    )
    ended = load(
        b"day,moment,yes,exact,document,label\n"
        b'2011-12-09,2011-12-09 08:26:00.25,t,1234567.12345,"{""a"": [1, null]}",\n'
        b",,,,,x\n"
        b"09.12.2011,,,,,\n"
        b",yesterday,,,,\n"
        b",,perhaps,,,\n"
        b",,,NaN,,\n"
        b",,,,{,\n",
        "--json",
        table="kinds",
    )
    assert (ended.status, ended.document["written"], ended.document["failed"]) == (3, 2, 5)
    assert [(failure["line"], failure["column"]) for failure in ended.document["failures"]] == [
        *((4, "day"), (5, "moment"), (6, "yes"), (7, "exact"), (8, "document")),
    ]
    nothing = "day IS NULL AND moment IS NULL AND yes IS NULL AND exact IS NULL AND document IS NULL AND label = 'x'"
    assert rows(engine, f"SELECT count(*) FROM kinds WHERE {nothing}") == [(1,)]
    everything = "day = '2011-12-09' AND yes AND exact = 1234567.12345 AND label = '' AND document IS NOT NULL"
    assert rows(engine, f"SELECT count(*) FROM kinds WHERE {everything}") == [(1,)]


def test_json_lines(load: Load, things: Engine) -> None:
    ended = load(
        b'{"id": 1, "name": "one", "price": 1.10}\n'
        b'{"id": 2, "name": 5}\n'
        b"\n"
        b'{"id": 3, "name": "three", "colour": "red"}\n'
        b'{"id": "4", "name": "four"}\n'
        b"[5]\n",
        "--json",
        name="in.jsonl",
    )
    assert [(failure["line"], failure["column"], failure["message"]) for failure in ended.document["failures"]] == [
        (2, "name", "a number where the column takes text"),
        (4, None, "no column for the field 'colour'"),
        (6, None, "not a JSON object"),
    ]
    assert rows(things, "SELECT id, name FROM things WHERE price = 1.1 OR id = 4 ORDER BY id") == [
        (1, "one"),
        (4, "four"),
    ]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".xz", lzma.compress),
        (".bz2", bz2.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_compressed_files(load: Load, things: Engine, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    assert load(compress(b'{"id": 1, "name": "x"}\n'), name=f"in.jsonl{suffix}").status == 0
    assert load(compress(b"id\tname\n2\ty\n"), name=f"in.TSV{suffix}").status == 0
    assert rows(things, "SELECT id, name FROM things ORDER BY id") == [(1, "x"), (2, "y")]


def test_standard_input(run: Run, things: Engine) -> None:
    options = ("--to", url_of(things), "--table", "things")
    assert run("load", "-", *options, stdin=b"id,name\n1,x\n").status == 0
    assert run("load", "-", *options, "--format", "jsonl", stdin=gzip.compress(b'{"id":2,"name":"y"}')).status == 0
    assert rows(things, "SELECT id, name FROM things ORDER BY id") == [(1, "x"), (2, "y")]


def test_options_of_the_format(load: Load, things: Engine) -> None:
    ended = load(
        "Nummer|Bezeichnung|Preis|Notiz\r\n1|Müsli|-|x\r\n2|-|1|x\r\n".encode("cp1252"),
        *("--map", "id=Nummer", "--map", "name=Bezeichnung", "--map", "price=Preis", "--ignore", "Notiz"),
        *("--delimiter", "|", "--encoding", "cp1252", "--null", "-", "--json"),
    )
    assert rows(things, "SELECT id, name, price FROM things") == [(1, "Müsli", None)]
    [failure] = ended.document["failures"]
    assert (ended.status, failure["line"], failure["column"]) == (3, 3, "name")


@pytest.mark.parametrize("delimiter", ["tab", r"\t", "\t"])
def test_tabs(load: Load, things: Engine, delimiter: str) -> None:
    assert load(b"id\tname\n1\tx\n", "--delimiter", delimiter).status == 0


def test_names_are_looked_up_and_never_pasted(run: Run, postgres_engine: Engine) -> None:
    execute(
        postgres_engine,
        'CREATE SCHEMA "odd one"',
        'CREATE TABLE "odd one"."ta.ble" (id integer, "a column; --" text)',
        'CREATE TABLE "with.dot" (id integer)',
    )
    to = ("--to", url_of(postgres_engine))
    assert run("load", "-", *to, "--table", "odd one.ta.ble", stdin=b"id,a column; --\n1,x\n").status == 0
    assert run("load", "-", *to, "--table", "with.dot", stdin=b"id\n1\n").status == 0
    assert rows(postgres_engine, 'SELECT * FROM "odd one"."ta.ble"') == [(1, "x")]


def test_foreign_keys_are_enforced(load: Load, things: Engine) -> None:
    execute(
        things,
        "CREATE TABLE parts (thing_id integer NOT NULL REFERENCES things (id))",
        "INSERT INTO things VALUES (1, 'x', 1)",
    )
    [failure] = load(b"thing_id\n1\n2\n", "--json", table="parts").document["failures"]
    assert (failure["line"], failure["message"]) == (3, "a foreign key has no matching row")


def test_types_of_postgresql(run: Run, postgres_engine: Engine) -> None:
    execute(
        postgres_engine,
        "CREATE TYPE mood AS ENUM ('glad', 'sad')",
        "CREATE DOMAIN amount AS numeric CHECK (VALUE > 0)",
        "CREATE TABLE kinds (id uuid, feeling mood, span interval, bits bytea, list integer[], amount amount, "
        "address inet, document jsonb, moment timestamptz, total integer GENERATED ALWAYS AS (1) STORED)",
    )
    data = (
        b"id,feeling,span,bits,list,amount,address,document,moment\n"
        b'12345678-1234-5678-1234-567812345678,sad,1 day 12:30,\\x00ff,"[1,2]",1.5,10.0.0.1,null,2011-12-09T08:26:00Z\n'
        b",,,,,,,,\n"
        b",angry,,,,,,,\n"
        b",,,,,-1,,,\n"
        b",,,,,,999,,\n"
    )
    to = ("--to", url_of(postgres_engine), "--table", "kinds")
    ended = run("load", "-", *to, "--json", stdin=data)
    assert [failure["line"] for failure in ended.document["failures"]] == [4, 5, 6]
    good = (
        "span = '36:30' AND bits = '\\x00ff' AND list = '{1,2}' AND amount = 1.5 AND address = '10.0.0.1' "
        "AND document = 'null' AND moment = '2011-12-09 08:26+00' AND feeling = 'sad'"
    )
    assert rows(postgres_engine, f"SELECT id IS NOT NULL FROM kinds WHERE {good}") == [(True,)]
    assert rows(postgres_engine, "SELECT count(*) FROM kinds WHERE document IS NULL AND feeling IS NULL") == [(1,)]
    refused = run("load", "-", *to, stdin=b"total\n1\n")
    assert (refused.status, refused.error[:56]) == (2, "Error: no column for the field 'total' in table kinds, w")


def test_sqlite_types_that_are_just_words(run: Run, sqlite_engine: Engine) -> None:
    """Anything may stand for a type there; those that SQLAlchemy knows are still held to."""
    execute(sqlite_engine, 'CREATE TABLE kinds (id UUID, name STRING(20), "any", amount DECIMAL(5, 2), n BIG INT)')
    data = b"id,name,any,amount,n\nabc,x,y,1.5,7\n,5,,,\n,,,x,\n,,,,x\n"
    ended = run("load", "-", "--to", url_of(sqlite_engine), "--table", "kinds", "--json", stdin=data)
    assert [(failure["line"], failure["column"]) for failure in ended.document["failures"]] == [(4, "amount"), (5, "n")]
    assert rows(sqlite_engine, "SELECT * FROM kinds") == [("abc", "x", "y", 1.5, 7), ("", 5, "", None, None)]


def test_csv_spectrum_lands_with_the_values_of_its_twins(
    run: Run, engine: Engine, shared_data: Path, tmp_path: Path
) -> None:
    with tarfile.open(shared_data / "csv_torture" / "csv-spectrum.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    files = sorted((tmp_path / "csv-spectrum" / "csvs").glob("*.csv"))
    assert len(files) == 12
    for file in files:
        twin = json.loads((tmp_path / "csv-spectrum" / "json" / f"{file.stem}.json").read_text("utf-8"))
        if file.stem == "location_coordinates":  # one object, and another telephone number than in the file
            twin = [twin | {"Contact Phone Number": "2095257564"}]
        quoted = engine.dialect.identifier_preparer.quote_identifier
        columns = ", ".join(f"{quoted(name)} text" for name in twin[0])
        execute(engine, f"CREATE TABLE {quoted(file.stem)} ({columns})")
        ended = run("load", file, "--to", url_of(engine), "--table", file.stem)
        assert (ended.status, ended.err) == (0, ""), file
        landed = rows(engine, f"SELECT * FROM {quoted(file.stem)}")
        assert sorted(landed) == sorted(tuple(row.values()) for row in twin), file


# What fails, and how it is told

DAMAGED = (
    b"id,name,price\n"
    b"1,one,1.00\n"
    b"2,two\n"  # line 3: ragged
    b"3,three,x\n"  # line 4: no decimal
    b"4,four\xff,1\n"  # line 5: not UTF-8
    b"5,fi\0ve,1\n"  # line 6: NUL
    b'6,"six,1\n'  # line 7: unclosed
    b"7,seven,-1\n"  # line 8: check
    b"8,eight,8.00\n"
    b"1,again,1.00\n"  # line 10: unique
    b'9,"ni\r\nne",9.00\n'
)
REASONS = {
    3: ("map", "2 fields where the header has 3", None),
    4: ("map", "not a decimal number", "price"),
    5: ("map", "not utf-8 text", None),
    6: ("map", "contains a NUL character", None),
    7: ("map", "a quote is opened and not closed", None),
    8: ("write", "a check constraint refused the row", None),
    10: ("write", "a row with the same unique key exists", "id"),
}


def test_damaged_lines_fail_and_the_rest_lands(load: Load, things: Engine) -> None:
    ended = load(DAMAGED, "--json")
    assert ended.status == 3
    document = ended.document
    assert {f["line"]: (f["stage"], f["message"], f["column"]) for f in document["failures"]} == REASONS
    assert (document["status"], document["received"], document["written"], document["failed"]) == (
        *("partial_success", 10, 3, 7),
    )
    assert (document["table"], document["rejects"], document["next_line"]) == ("things", None, None)
    assert document["rate"] > 0
    assert rows(things, "SELECT id, name FROM things ORDER BY id") == [(1, "one"), (8, "eight"), (9, "ni\r\nne")]


def test_the_summary_names_reasons_and_a_line_of_each(load: Load, things: Engine, tmp_path: Path) -> None:
    ended = load(DAMAGED, "--rejects", tmp_path / "rejects.csv")
    lines = ended.out.splitlines()
    assert lines[0].startswith("partial success: 3 of 10 lines written into things in ")
    assert lines[1:3] == ["  written                  3", "  failed                   7"]
    assert "  1 x not a decimal number [things.price], first in line 4" in lines
    assert lines[-1] == f"rejects: {tmp_path}/rejects.csv, the reasons: {tmp_path}/rejects.csv.reasons.jsonl"
    assert ended.err == ""


def test_no_value_of_a_row_is_shown(load: Load, things: Engine) -> None:
    data = b'id,name,price\nsecret,x,1\n1,"secret"x,1\n2,x,secret\n3,secret\0,1\n4,secret,-1\n4,secret,1\n4,secret,1\n'
    for format_option in ([], ["--json"]):
        ended = load(data, *format_option)
        assert "secret" not in ended.out + ended.err


def test_nothing_landed(load: Load, things: Engine) -> None:
    ended = load(b"id,name\nx,y\n")
    assert (ended.status, ended.out.split(":")[0]) == (1, "failed")


def test_a_limit_of_failures_ends_the_load(load: Load, things: Engine) -> None:
    data = b"id,name\n" + b"".join(b"%d,x\n" % n if n % 3 else b"bad,x\n" for n in range(1, 31))
    ended = load(data, "--max-failures", "2", "--json", "--chunk-size", "4")
    document = ended.document
    assert (ended.status, ended.err) == (1, "")
    assert (document["status"], document["abort"]["reason"], document["failed"]) == ("aborted", "failure_limit", 3)
    assert document["next_line"] == 11
    assert rows(things, "SELECT count(*) FROM things") == [(document["written"],)] == [(6,)]


def test_on_failure_stop(load: Load, things: Engine) -> None:
    ended = load(b"id,name\n1,x\nbad,y\n2,z\n", "--on-failure", "stop")
    assert ended.status == 1
    assert "not attempted: line 4 and all that follow" in ended.out
    assert rows(things, "SELECT id FROM things") == [(1,)]


def test_a_load_that_was_ended_goes_on_from_the_line_it_names(load: Load, things: Engine) -> None:
    lines = [b"%d,x\n" % n if n % 7 else b"bad,x\n" for n in range(1, 41)]
    ended = load(b"id,name\n" + b"".join(lines), "--max-failures", "2", "--chunk-size", "5", "--json")
    rest = lines[ended.document["next_line"] - 2 :]
    assert load(b"id,name\n" + b"".join(rest)).status == 3
    assert rows(things, "SELECT count(*) FROM things") == [(sum(line != b"bad,x\n" for line in lines),)]


def test_a_source_that_breaks_off(load: Load, things: Engine) -> None:
    data = gzip.compress(b"id,name\n" + b"".join(b"%d,%d\n" % (n, n**9) for n in range(5_000)))
    ended = load(data[:-2_000], "--json", "--chunk-size", 500, name="in.csv.gz")
    assert ended.status == 1
    assert ended.error.endswith("in.csv.gz: the gzip data is cut short")
    document = ended.document
    assert document["abort"]["reason"] == "source"
    assert rows(things, "SELECT count(*) FROM things") == [(document["written"],)]
    assert document["received"] == document["written"] + document["unattempted"]
    assert 0 < document["written"] < 5_000


def test_a_table_that_goes_away_stops_the_load(load: Load, things: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BatchWriter.stream

    def drop_and_stream(*arguments: Any, **options: Any) -> Any:
        execute(things, "DROP TABLE things")
        return stream(*arguments, **options)

    monkeypatch.setattr(BatchWriter, "stream", drop_and_stream)
    ended = load(b"id,name\n1,x\n", "--json")
    assert (ended.status, ended.document["status"], ended.document["unattempted"]) == (1, "aborted", 1)
    assert "things" in ended.error


# Rejects


def test_rejects_are_the_lines_as_they_came(load: Load, things: Engine, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    ended = load(DAMAGED, "--rejects", rejects, "--json")
    header, *lines = DAMAGED.split(b"\n")
    failed = [line + b"\n" for number, line in enumerate(lines, start=2) if number in REASONS]
    assert rejects.read_bytes() == b"".join([header + b"\n", *failed])
    reasons = [json.loads(line) for line in Path(f"{rejects}.reasons.jsonl").read_text().splitlines()]
    assert {reason["line"]: (reason["stage"], reason["message"], reason["column"]) for reason in reasons} == REASONS
    keys = ["line", "stage", "error_type", "message", "sqlstate", "table", "column", "constraint"]
    assert all(list(reason) == keys for reason in reasons)
    assert ended.document["rejects"] == str(rejects)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_mended_rejects_can_be_loaded(
    run: Run, sqlite_engine: Engine, tmp_path: Path, encoding: str, line_end: str
) -> None:
    """After both loads every line has landed exactly once."""
    execute(sqlite_engine, "CREATE TABLE things (id integer PRIMARY KEY, name text)")
    lines = ["id,name", *(f"{n},Äpfel {n}" if n % 5 else f'{n},"Äpfel {n}' for n in range(1, 51))]
    (tmp_path / "in.csv").write_bytes(line_end.join(lines).encode(encoding))
    options = ("--to", url_of(sqlite_engine), "--table", "things", "--encoding", encoding)
    rejects = tmp_path / "rejects.csv"
    assert run("load", tmp_path / "in.csv", *options, "--rejects", rejects).status == 3
    mended = rejects.read_bytes().decode(encoding).replace('"', "")
    rejects.write_bytes(mended.encode(encoding))
    assert run("load", rejects, *options, "--rejects", tmp_path / "again.csv").status == 0
    assert rows(sqlite_engine, "SELECT id, name FROM things ORDER BY id") == [(n, f"Äpfel {n}") for n in range(1, 51)]
    assert not (tmp_path / "again.csv").exists()


def test_rejects_of_json_lines(load: Load, things: Engine, tmp_path: Path) -> None:
    data = b'{"id": 1, "name": "x"}\r\n{"id": 2}\r\n\r\n  {"id": 3, "name": "\xff"}'
    load(data, "--rejects", tmp_path / "rejects.jsonl", name="in.jsonl")
    assert (tmp_path / "rejects.jsonl").read_bytes() == b'{"id": 2}\r\n  {"id": 3, "name": "\xff"}'


def test_rejects_are_there_only_if_there_are_any(load: Load, things: Engine, tmp_path: Path) -> None:
    rejects, reasons = tmp_path / "rejects.csv", tmp_path / "rejects.csv.reasons.jsonl"
    load(b"id,name\nx,y\n", "--rejects", rejects)
    assert rejects.exists()
    assert reasons.exists()
    ended = load(b"id,name\n1,y\n", "--rejects", rejects, "--json")
    assert ended.document["rejects"] is None
    assert not rejects.exists()
    assert not reasons.exists()


def test_rejects_overwrite_neither_input_nor_database(run: Run, sqlite_engine: Engine, tmp_path: Path) -> None:
    execute(sqlite_engine, "CREATE TABLE things (id integer)")
    source = tmp_path / "in.csv"
    source.write_bytes(b"id\n1\n")
    (tmp_path / "link.csv").symlink_to(source)
    (tmp_path / "x.reasons.jsonl").symlink_to(source)
    options = ("load", source, "--to", url_of(sqlite_engine), "--table", "things", "--rejects")
    for rejects in (source, tmp_path / "link.csv", tmp_path / "x", sqlite_engine.url.database):
        ended = run(*options, rejects)
        assert ended.status == 2
        assert "--rejects would overwrite" in ended.error
    assert source.read_bytes() == b"id\n1\n"
    assert rows(sqlite_engine, "SELECT * FROM things") == []


def test_rejects_that_cannot_be_written_are_found_out_first(load: Load, things: Engine, tmp_path: Path) -> None:
    ended = load(b"id,name\n1,x\n", "--rejects", tmp_path / "nowhere" / "rejects.csv")
    assert (ended.status, ended.error.endswith("rejects.csv: No such file or directory")) == (2, True)
    assert rows(things, "SELECT * FROM things") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_the_rejects_stops_the_load(load: Load, things: Engine, tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    data = b"id,name\n1,x\n" + b"bad,y\n" * 5_000
    ended = load(data, "--rejects", tmp_path / "full", "--chunk-size", "10", "--json")
    assert ended.status == 1
    assert "No space left on device" in ended.error
    assert ended.document["abort"]["reason"] == "caller"
    assert rows(things, "SELECT id FROM things") == [(1,)]


@given(
    st.lists(st.booleans(), max_size=40),
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(0, 3)),
)
def test_every_line_lands_or_is_rejected_once(good: list[bool], chunk_size: int, limit: int | None) -> None:
    """A load that ends early is carried on from the line it names, until all lines are through."""
    lines = [b"%d,x\n" % number if is_good else b"%d\n" % number for number, is_good in enumerate(good)]
    with tempfile.TemporaryDirectory() as directory:
        source, rejects = Path(directory, "in.csv"), Path(directory, "rejects.csv")
        engine = create_engine(f"sqlite:///{directory}/test.db")
        execute(engine, "CREATE TABLE things (id integer, name text)")
        options = [
            "--to",
            url_of(engine),
            "--table",
            "things",
            "--rejects",
            rejects,
            "--chunk-size",
            chunk_size,
            "--json",
        ]
        options += [] if limit is None else ["--max-failures", limit]
        rejected: list[bytes] = []
        rest: list[bytes] | None = lines
        while rest is not None:
            source.write_bytes(b"id,name\n" + b"".join(rest))
            document = invoke("load", source, *options).document
            if document["failed"]:
                rejected += rejects.read_bytes().splitlines(keepends=True)[1:]
            next_line = document["next_line"]
            rest = None if next_line is None else rest[next_line - 2 :]
        assert rejected == [line for line, is_good in zip(lines, good, strict=True) if not is_good]
        landed = rows(engine, "SELECT id FROM things ORDER BY rowid")
        engine.dispose()
    assert landed == [(number,) for number, is_good in enumerate(good) if is_good]


def test_what_load_is_made_of_serves_a_program(sqlite_engine: Engine, tmp_path: Path) -> None:
    table = Table("things", MetaData(), Column("id", Integer), Column("day", Date))
    table.create(sqlite_engine)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"number,day\n1,2011-12-09\n2,x\n"))
    with open_input(tmp_path / "in.csv.gz") as file:
        reader = DelimitedReader(LineReader(file))
        result = BatchWriter(sqlite_engine).run(reader, RecordMapper(table, mapping={"id": "number"}))
    assert [(failure.item.line, failure.column) for failure in result.failures] == [(3, "day")]
    assert rows(sqlite_engine, "SELECT * FROM things") == [(1, "2011-12-09")]
