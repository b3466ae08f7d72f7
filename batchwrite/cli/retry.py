"""`batchwrite retry`: the failed lines of a load once more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from batchwrite.cli.database import database_errors, open_database, reflect_table
from batchwrite.cli.errors import PARTIAL_SUCCESS, CommandError, WrongUsage, ending_with
from batchwrite.cli.ledger import opened_ledger, schema_option
from batchwrite.cli.render import print_summary, write_stdout
from batchwrite.errors import ConfigurationError, SourceError
from batchwrite.letters import DeadLetters
from batchwrite.result import Status
from batchwrite.sources import RecordMapper
from batchwrite.sources.record import Record
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from batchwrite.result import BatchResult, ItemFailure

_EXIT_STATUS = {Status.SUCCESS: 0, Status.PARTIAL_SUCCESS: PARTIAL_SUCCESS}


def load_job(table: str, mapper_options: dict[str, Any]) -> str:
    """What the ledger remembers of a load: all that its lines' retry needs to know."""
    return json.dumps({"command": "load", "table": table, **mapper_options}, sort_keys=True)


def dead_letters() -> DeadLetters:
    """What keeps the failed lines of loads."""
    return DeadLetters(types=(Record,))


@click.command(short_help="Load the failed lines of a run again.")
@click.argument("run_id", metavar="RUN_ID")
@click.option("--to", "url", metavar="URL", required=True, help="The database, as dialect://user@host:port/database.")
@schema_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.  [default: as text]")
@click.pass_context
def retry(context: click.Context, run_id: str, url: str, ledger_schema: str | None, *, as_json: bool) -> None:
    """Load the lines again that failed in the load with `--run-id` RUN_ID, into the same columns.

    Lines that land leave the dead letters; lines that fail again stay there, with the new reason.

    Exit status: 0 all landed, 1 failed or ended early, 2 wrong usage, 3 some lines failed again.
    """
    with open_database(url) as engine:
        book = opened_ledger(engine, ledger_schema)
        with database_errors(engine):
            told = book.job(engine, run_id)
        if told is None:
            raise WrongUsage(f"the ledger knows of no load with the run id {run_id!r}")
        job = json.loads(told)
        table = reflect_table(engine, job["table"])
        with ending_with(WrongUsage, ConfigurationError):
            mapper = RecordMapper(
                table, mapping=job["mapping"], ignore=job["ignore"], null=job["null"], json=job["json"]
            )
        writer = BatchWriter(engine, ledger=book, dead_letters=dead_letters())
        with ending_with(CommandError, ConfigurationError, SourceError):
            result = writer.retry(run_id, mapper)
    _print(result, table.fullname, as_json=as_json)
    if result.abort is not None:
        raise CommandError(result.abort.message)
    context.exit(_EXIT_STATUS.get(result.status, CommandError.exit_code))


def _print(result: BatchResult, table: str, *, as_json: bool) -> None:
    if as_json:
        failures = [{**failure.to_dict(), "line": _line(failure)} for failure in result.failures]
        write_stdout(json.dumps(result.to_dict() | {"table": table, "failures": failures}) + "\n")
        return
    console = Console()
    with console.capture() as captured:
        print_summary(result, console, target=table, place=lambda failure: f"line {_line(failure):,}")
    write_stdout(captured.get())


def _line(failure: ItemFailure) -> int:
    letter = failure.item
    line: int = letter.letter.item_index + 1 if letter.problem else letter.item.line
    return line
