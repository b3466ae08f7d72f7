"""`batchwrite load`: a file into a table."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.console import Console
from rich.text import Text

from batchwrite.bookkeeping import check_run_id
from batchwrite.cli.database import database_errors, open_database, reflect_table, sqlite_file
from batchwrite.cli.errors import PARTIAL_SUCCESS, CommandError, WrongUsage, ending_with
from batchwrite.cli.ledger import opened_ledger, schema_option
from batchwrite.cli.load_ending import Ending, ending_of
from batchwrite.cli.load_input import FollowedRecords
from batchwrite.cli.rejects import described, reasons_path, rejects_at
from batchwrite.cli.render import print_summary, progress, rate, write_stdout
from batchwrite.cli.retry import dead_letters, load_job
from batchwrite.cli.signals import interruption
from batchwrite.errors import ConfigurationError, LedgerMismatch, SourceError
from batchwrite.result import OutcomeStatus, Status
from batchwrite.sources import DelimitedReader, InputUnreadable, JsonLinesReader, LineReader, RecordMapper, open_input
from batchwrite.sources.files import COMPRESSION_SUFFIXES
from batchwrite.sources.matching import listed
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine

    from batchwrite.batch import ItemStream
    from batchwrite.cli.rejects import Rejects
    from batchwrite.cli.render import Tick
    from batchwrite.result import BatchResult, ItemFailure, ItemOutcome
    from batchwrite.sinks.ledger import Ledger
    from batchwrite.sources import InputFile, Record

_JSON_SUFFIXES = {".jsonl", ".ndjson", ".jsonlines", ".json"}
_TAB_SUFFIXES = {".tsv", ".tab"}
_EXIT_STATUS = {Status.SUCCESS: 0, Status.PARTIAL_SUCCESS: PARTIAL_SUCCESS}
_ENDINGS_AS_ASKED = {"interrupted", "caller", "failure_limit"}
"""Reasons of an early end that are no errors: the summary tells of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the command line said; see the help texts of `load`."""

    file: str
    url: str
    table: str
    format: str | None
    mapping: tuple[str, ...]
    ignore: tuple[str, ...]
    delimiter: str | None
    encoding: str
    null: tuple[str, ...]
    from_line: int | None
    chunk_size: int
    max_failures: int | None
    on_failure: Literal["continue", "stop"]
    rejects: Path | None
    run_id: str | None
    ledger_schema: str | None
    as_json: bool

    @property
    def suffix(self) -> str:
        """The ending of the file's name, that of a compression left out."""
        path = PurePath(self.file.lower())
        return (PurePath(path.stem) if path.suffix in COMPRESSION_SUFFIXES else path).suffix

    @property
    def is_json(self) -> bool:
        """Whether the input is JSON lines."""
        return self.suffix in _JSON_SUFFIXES if self.format is None else self.format == "jsonl"

    @property
    def separator(self) -> str:
        """The character between fields."""
        named = {"tab": "\t", r"\t": "\t", None: "\t" if self.suffix in _TAB_SUFFIXES else ","}
        return named.get(self.delimiter, self.delimiter or "")

    def field_by_column(self) -> dict[str, str]:
        """What `--map` said.

        Raises:
            WrongUsage: It isn't `column=field`, or names a column twice.
        """
        fields: dict[str, str] = {}
        for pair in self.mapping:
            column, equals, field = pair.partition("=")
            if not (column and equals and field):
                raise WrongUsage(f"--map asks for column=field, not {pair!r}")
            if column in fields:
                raise WrongUsage(f"--map feeds the column {column!r} twice")
            fields[column] = field
        return fields


@click.command(short_help="Load a file into a table.")
@click.argument("file", metavar="FILE")
@click.option("--to", "url", metavar="URL", required=True, help="The database, as dialect://user@host:port/database.")
@click.option("--table", metavar="NAME", required=True, help="The table, which must exist: NAME or SCHEMA.NAME.")
@click.option(
    "--format",
    type=click.Choice(["csv", "jsonl"]),
    help="What FILE holds: delimited text whose first line is a header, or one JSON object a line.  "
    "[default: by the name of FILE, csv for standard input]",
)
@click.option(
    "--map",
    "mapping",
    metavar="COLUMN=FIELD",
    multiple=True,
    help="Feed COLUMN from FIELD; may be repeated.  [default: a field feeds the column of its own name]",
)
@click.option(
    "--ignore",
    metavar="FIELD",
    multiple=True,
    help="Leave FIELD out; may be repeated.  [default: no field is left out]",
)
@click.option(
    "--delimiter", metavar="CHARACTER", help="What stands between fields; 'tab' is a tab.  [default: ',', tab for .tsv]"
)
@click.option(
    "--encoding", metavar="NAME", default="utf-8", show_default=True, help="The encoding; a byte order mark is skipped."
)
@click.option(
    "--null",
    metavar="TEXT",
    multiple=True,
    help="The text that means NULL, in every column; may be repeated.  "
    "[default: the empty text, except in columns of text]",
)
@click.option(
    "--from-line",
    metavar="N",
    type=click.IntRange(min=1),
    help="Go on at line N of FILE, counted from 1, as a load that has ended early says it; the header is read from the "
    "beginning, and the rejects are added to.  [default: the beginning]",
)
@click.option(
    "--chunk-size", type=click.IntRange(min=1), default=5_000, show_default=True, help="Most lines in one transaction."
)
@click.option(
    "--max-failures",
    type=click.IntRange(min=0),
    help="End the load when more lines than this have failed.  [default: no limit]",
)
@click.option(
    "--on-failure",
    type=click.Choice(["continue", "stop"]),
    default="continue",
    show_default=True,
    help="Whether to go on after a line that fails.",
)
@click.option(
    "--rejects",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Write the failed lines to PATH, as they came, and the reasons to PATH.reasons.jsonl; neither is there "
    "after a load without failures.  [default: not written]",
)
@click.option(
    "--run-id",
    metavar="NAME",
    help="Record the load under NAME in the ledger (see `batchwrite ledger`): started again with the same NAME and "
    "FILE, it goes on behind what is committed; failed lines are kept for `batchwrite retry`.  [default: not recorded]",
)
@schema_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.  [default: as text]")
@click.pass_context
def load(context: click.Context, /, **options: Any) -> None:
    """Load FILE (- for standard input) into an existing table.

    FILE is delimited text with a header, or JSON lines; plain or compressed with gzip, xz, bzip2 or zstd. Every line is
    a row, read as the columns' types ask. Lines that cannot be loaded are told, the others are committed.

    Exit status: 0 success, 1 failed or ended early, 2 wrong usage, 3 some lines failed.
    """
    context.exit(run_load(LoadOptions(**options)))


def run_load(options: LoadOptions) -> int:
    """Carry out the command and print its result.

    Returns:
        The exit status.

    Raises:
        CommandError: The load could not begin, or not be carried on; what was committed stays.
    """
    mapping = options.field_by_column()
    if options.is_json and options.delimiter is not None:
        raise WrongUsage("--delimiter goes with --format csv")
    if options.run_id is not None and options.from_line is not None:
        raise WrongUsage("a recorded load knows where to go on: leave out --from-line, or --run-id")
    with interruption() as interrupted, _opened(options.file) as source, open_database(options.url) as engine:
        table = reflect_table(engine, options.table)
        how: dict[str, Any] = {
            "mapping": mapping,
            "ignore": list(options.ignore),
            "null": options.null[0] if len(options.null) == 1 else list(options.null) or None,
            "json": options.is_json,
        }
        book, was_known = _ledger(engine, options, load_job(options.table, how))
        with ending_with(WrongUsage, ConfigurationError), ending_with(CommandError, InputUnreadable):
            writer = BatchWriter(
                engine,
                chunk_size=options.chunk_size,
                max_failures=options.max_failures,
                on_failure=options.on_failure,
                ledger=book,
                dead_letters=dead_letters() if book else None,
            )
            mapper = RecordMapper(table, **how)
            lines = LineReader(source, options.encoding)
            reader = _open_reader(lines, options, mapper)
            records = _followed(reader, source, options, mapper)
        goes_on = was_known or options.from_line is not None
        with _rejects(options, reader.preamble, engine, goes_on=goes_on) as rejects:
            follower = _Follower(rejects)
            with (
                ending_with(CommandError, LedgerMismatch, SourceError),
                ending_with(WrongUsage, ConfigurationError),
            ):
                stream = writer.stream(interrupted.watch(records), mapper, run_id=options.run_id)
            with suppress(KeyboardInterrupt), _progress(table.fullname, source) as tick:
                follower.follow(stream, tick)  # a second Ctrl-C ends it wherever it is
            interrupted.ignore()
            result = _result_of(stream)
        if records.has_ended and lines.number < (options.from_line or 1) - 1:
            raise WrongUsage(f"there is no line {options.from_line:,}: the input has {lines.number:,} lines")
        return _give(follower.explained(result), follower, records, options, table.fullname)


def _result_of(stream: ItemStream) -> BatchResult:
    """The result of a stream that is not followed any more."""
    try:
        return stream.result
    except KeyboardInterrupt:
        return stream.result  # of what was on its way nothing is any more


def _progress(table: str, source: InputFile) -> AbstractContextManager[Tick]:
    return progress(f"loading {table}", total=source.size, position=lambda: source.position)


def _ledger(engine: Engine, options: LoadOptions, job: str) -> tuple[Ledger | None, bool]:
    """The ledger, if the load is to be recorded, and whether it knows of the load already.

    Raises:
        CommandError: Its tables are not there.
        WrongUsage: The run has another job.
    """
    if options.run_id is None:
        return None, False
    with ending_with(WrongUsage, ConfigurationError):
        check_run_id(options.run_id)
    book = opened_ledger(engine, options.ledger_schema)
    with database_errors(engine):
        was_known = book.job(engine, options.run_id) is not None
        known = book.remember(engine, options.run_id, job)
    if known != job:
        raise WrongUsage(f"the run {options.run_id!r} has loaded with other options: take another --run-id")
    return book, was_known


@contextmanager
def _opened(file: str) -> Iterator[InputFile]:
    with ExitStack() as stack:
        with ending_with(WrongUsage, InputUnreadable):
            source = stack.enter_context(open_input(file))
        yield source


def _open_reader(lines: LineReader, options: LoadOptions, mapper: RecordMapper) -> DelimitedReader | JsonLinesReader:
    from_line = options.from_line or 1
    if options.is_json:
        return JsonLinesReader(lines, from_line=from_line)
    reader = DelimitedReader(lines, delimiter=options.separator, from_line=from_line)
    mapper.check_fields(reader.header)
    if absent := [field for field in options.ignore if field not in reader.header]:
        raise WrongUsage(f"no field {listed(absent)} to be ignored in the header, which has {listed(reader.header)}")
    return reader


def _followed(
    reader: DelimitedReader | JsonLinesReader, source: InputFile, options: LoadOptions, mapper: RecordMapper
) -> FollowedRecords:
    """The records, with a look ahead for fields that JSON lines should have: no header tells of them.

    Where all of a file can be seen before anything is written, a field that no object has is wrong usage. Else it may
    still come, and the end of the input tells. A pipe is not kept waiting, and what is left of an input that was loaded
    in part before need not have all fields.

    Raises:
        WrongUsage: No object has a field that is mapped or ignored.
    """
    awaited = mapper.named_fields if options.is_json else ()
    records = FollowedRecords(reader, most=5 * options.chunk_size, awaited=awaited)
    if source.size is None or options.from_line is not None:
        return records
    records.look_ahead()
    if records.missing and records.objects:
        told = _told_missing(records)
        if records.has_ended:
            raise WrongUsage(f"no object of the input has the field {told}")
        text = f"the first {records.objects:,} objects do not have the field {told}; it may come later"
        click.echo(f"Warning: {text}", err=True)
    return records


def _told_missing(records: FollowedRecords) -> str:
    return f"{listed(records.missing)}, which --map or --ignore names; the first object has {listed(records.fields)}"


def _rejects(
    options: LoadOptions, preamble: bytes, engine: Engine, *, goes_on: bool
) -> AbstractContextManager[Rejects | None]:
    if options.rejects is None:
        return nullcontext()
    database = sqlite_file(engine)
    protected = [Path(options.file), *([database] if database else [])]
    return rejects_at(options.rejects, preamble, unlike=protected, goes_on=goes_on)


class _Follower:
    """Follows a stream to its end: writes the rejects, and notes what the result does not know of lines.

    Attributes:
        error: What went wrong outside of the database, if anything did.
        unknown_lines: The first and the last line of which it is not known whether they landed.
    """

    def __init__(self, rejects: Rejects | None) -> None:
        self._rejects = rejects
        self._count = 0
        self._failed = 0
        self.error: str | None = None
        self.unknown_lines: tuple[int, int] | None = None

    def follow(self, stream: ItemStream, tick: Tick) -> None:
        """Take all outcomes; how the stream ended is in its result, and in `error`."""
        try:
            for outcome in stream:
                self._note(outcome)
                if self.error:
                    stream.stop()
                tick(self._count, self._failed)
        except SourceError as error:
            self.error = str(error.__cause__ if isinstance(error.__cause__, InputUnreadable) else error)
        except KeyboardInterrupt:
            stream.stop()  # for the second Ctrl-C; after a `RunInterrupted` the stream has ended

    def explained(self, result: BatchResult) -> BatchResult:
        """The result, with the error that this knows better than the engine."""
        if self.error is None or result.abort is None:
            return result
        return replace(result, abort=replace(result.abort, message=self.error))

    def _note(self, outcome: ItemOutcome) -> None:
        record: Record = outcome.item
        self._count += 1
        if outcome.failure is not None:
            self._failed += 1
            self._reject(outcome.failure)
        elif outcome.status is OutcomeStatus.UNKNOWN:
            first = self.unknown_lines[0] if self.unknown_lines else record.line
            self.unknown_lines = (first, record.line + record.lines - 1)

    def _reject(self, failure: ItemFailure) -> None:
        if self._rejects is None or self.error:
            return
        try:
            self._rejects.write(failure)
        except OSError as error:
            self.error = f"cannot write the rejects, from line {failure.item.line} on: {error.strerror}"


def _give(result: BatchResult, follower: _Follower, records: FollowedRecords, options: LoadOptions, table: str) -> int:
    """Print the result; the exit status.

    Raises:
        CommandError: After that, if something ended the run that a person may be able to mend.
    """
    rejects = options.rejects if options.rejects and (result.failed or options.rejects.is_file()) else None
    ending = ending_of(result, records, options, follower.unknown_lines)
    missing = list(records.missing) if records.has_ended and records.objects else []
    if options.as_json:
        document = result.to_dict() | {
            "file": options.file,
            "table": table,
            "rate": round(rate(result), 1),
            "failures": [described(failure) for failure in result.failures],
            "earlier": result.earlier.to_dict() | {"failures": list(map(described, result.earlier.failures))},
            "next_line": ending.next_line,
            "advice": ending.advice,
            "missing_fields": missing,
            "unknown_lines": follower.unknown_lines,
            "rejects": str(rejects) if rejects else None,
            "reasons": str(reasons_path(rejects)) if rejects else None,
        }
        write_stdout(json.dumps(document) + "\n")
    else:
        _print(result, follower, ending, table, rejects)
        if missing:
            write_stdout(f"no object had the field {listed(missing)}, which --map or --ignore names\n")
    if follower.error is not None:
        raise CommandError(follower.error)
    if result.abort is not None and result.abort.reason not in _ENDINGS_AS_ASKED:
        raise CommandError(f"{result.abort.message}; {ending.advice}")
    mapped = [field for field in missing if field in options.field_by_column().values()]
    if mapped and options.from_line is None:
        raise CommandError(
            f"no object of the input has the field {listed(mapped)}, which --map names: "
            "what is counted as written is committed without it"
        )
    return _EXIT_STATUS.get(result.status, CommandError.exit_code)


def _became(result: BatchResult) -> str:
    """What has become of the lines of earlier starts, where not all were written."""
    earlier = result.earlier
    counts = {"written": earlier.written, "failed": earlier.failed, "skipped": earlier.skipped}
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return "" if earlier.written == result.resumed else f", of which {told}"


def _print(result: BatchResult, follower: _Follower, ending: Ending, table: str, rejects: Path | None) -> None:
    console = Console()
    with console.capture() as captured:
        print_summary(result, console, target=table, place=lambda failure: f"line {failure.item.line:,}")
        notes = []
        if result.resumed:
            notes.append(f"went on behind the {result.resumed:,} lines of earlier starts of the run{_became(result)}")
        if ending.next_line:
            notes.append(f"not attempted: line {ending.next_line:,} and all that follow")
        if follower.unknown_lines:
            notes.append("may have landed or not: lines {:,} to {:,}".format(*follower.unknown_lines))
        if ending.advice:
            notes.append(ending.advice)
        if rejects:
            notes.append(f"rejects: {rejects}, the reasons: {reasons_path(rejects)}")
        for note in notes:
            console.print(Text(note), soft_wrap=True)
    write_stdout(captured.get())
