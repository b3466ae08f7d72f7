"""The command line. Importing this package needs nothing that is not installed; running it needs the extra `cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; where click or rich are missing, say in one line what to install and exit with 2."""
    try:
        from batchwrite.cli.app import cli  # noqa: PLC0415 - click and rich are an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        sys.stderr.write('The command line needs click and rich: pip install "batchwrite[cli]"\n')
        sys.exit(2)
    cli()
