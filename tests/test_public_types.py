"""Programs that use the public names are checked by their authors' type checkers: mypy --strict and pyright."""

import subprocess
import sys
from pathlib import Path

import pytest

import batchwrite
import batchwrite.aio

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CALLS = ROOT / "tests" / "typing" / "public_calls.py"
CHECKERS = {
    "mypy": ["mypy", "--strict"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}
# Named by nobody who uses them: what decorates, and what is only called back.
NOT_NAMED = {"AsyncMapFunction"}


def test_every_public_name_is_used():
    text = CALLS.read_text()
    names = {*batchwrite.__all__, *batchwrite.aio.__all__} - NOT_NAMED
    assert sorted(name for name in names if name not in text) == []


@pytest.mark.parametrize("checker", list(CHECKERS))
def test_every_public_call_passes(checker):
    command = [sys.executable, "-m", *CHECKERS[checker], str(CALLS)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("checker", list(CHECKERS))
def test_a_wrong_call_does_not(checker, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text('import batchwrite\n\nbatchwrite.BatchWriter("sqlite://").run([1]).written = "many"\n')
    command = [sys.executable, "-m", *CHECKERS[checker], str(wrong)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert "written" in checked.stdout
