"""`batchwrite ledger`: the tables in which runs are recorded; and what commands share that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchwrite.cli.database import database_errors, open_database
from batchwrite.cli.errors import CommandError, ending_with
from batchwrite.cli.render import write_stdout
from batchwrite.errors import ConfigurationError
from batchwrite.sinks.ledger import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Engine

schema_option = click.option(
    "--ledger-schema", metavar="NAME", help="The schema of the ledger's tables.  [default: the database's own]"
)


@click.group(short_help="Make the tables in which runs are recorded.")
def ledger() -> None:
    """The tables that tell what a run has committed, and keep the lines that failed."""


@ledger.command(short_help="Make the tables.")
@click.option("--to", "url", metavar="URL", required=True, help="The database, as dialect://user@host:port/database.")
@schema_option
def create(url: str, ledger_schema: str | None) -> None:
    """Make the ledger's tables, those of them that are not there yet. The schema must exist.

    Exit status: 0 they are there, 1 the database refuses, 2 wrong usage.
    """
    book = Ledger(schema=ledger_schema)
    with open_database(url) as engine, database_errors(engine):
        book.create(engine)
    tables = ", ".join(table.fullname for table in book.metadata.sorted_tables)
    write_stdout(f"the ledger's tables are there: {tables}\n")


def opened_ledger(engine: Engine, schema: str | None) -> Ledger:
    """A ledger whose tables are there.

    Raises:
        CommandError: They are not, or the database cannot be used.
    """
    book = Ledger(schema=schema)
    with database_errors(engine), ending_with(CommandError, ConfigurationError):
        book.require(engine)
    return book
