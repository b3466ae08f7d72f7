"""A runner of commands that keeps stdout and stderr apart, with every release of click that the extra `cli` allows."""

import inspect

from click.testing import CliRunner


def separating_runner() -> CliRunner:
    # click 8.2 always keeps them apart, and no longer knows the argument.
    mixes = "mix_stderr" in inspect.signature(CliRunner).parameters
    return CliRunner(**{"mix_stderr": False} if mixes else {})
