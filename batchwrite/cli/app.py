"""The group of commands."""

from __future__ import annotations

import click

from batchwrite import __version__
from batchwrite.cli.bench import bench
from batchwrite.cli.demo import demo
from batchwrite.cli.ledger import ledger
from batchwrite.cli.load import load
from batchwrite.cli.retry import retry


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchwrite")
def cli() -> None:
    """Write many items to a database: fast where they are good, exact about each that is not."""


cli.add_command(bench)
cli.add_command(demo)
cli.add_command(load)
cli.add_command(ledger)
cli.add_command(retry)
