"""The examples end with the figures that they promise, as programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"

# Runs a program and adds its peak memory in KiB to what it prints. Not by `getrusage`, whose figure begins with that of
# the process that started it.
MEASURED = """
import re, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    with open("/proc/self/status") as status:
        print(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1], file=sys.stderr)
"""


def run_example(name, *arguments):
    command = [sys.executable, "-W", "error", "-c", MEASURED, str(EXAMPLES / name), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, int(ended.stderr.splitlines()[-1])


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


def reasons(result):
    return {(reason["table"], reason["constraint"]): reason["count"] for reason in result["failure_counts"]}


# MariaDB would take several times as long, and `batchwrite demo` writes a part of the file to it.
@pytest.mark.thorough
@pytest.mark.xdist_group("long")  # which begin first, so that no worker is left with one at the end
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_online_retail(engine, online_retail):
    printed, peak = run_example("online_retail.py", online_retail, "--database", url_of(engine), "--json")
    result = json.loads(printed)
    assert result["status"] == "partial_success"
    assert (result["received"], result["written"], result["failed"]) == (541_909, 536_639, 5_270)
    assert reasons(result) == {
        ("invoice_lines", "line_only_once"): 5_268,
        ("invoice_lines", "price_not_negative"): 2,
    }
    assert result["database"] == {
        "invoices": 25_898,
        "invoice_lines": 536_639,
        "products_with_stock": 3_958,
        "on_hand": -5_162_500,
    }
    assert peak < 150 * 1024


def test_northwind_orders_land_whole_or_not_at_all(engine):
    arguments = (EXAMPLES / "data" / "northwind", "--database", url_of(engine), "--json")
    result = json.loads(run_example("northwind_orders.py", *arguments)[0])
    # Counted by a loop of ten lines over the files: an order lands if each of its products is still in stock.
    assert (result["received"], result["written"], result["failed"]) == (830, 95, 735)
    assert reasons(result) == {("products", "stock_not_negative"): 735}
    assert result["database"] == {
        "products": 77,
        "orders": 95,
        "order_lines": 160,
        "stock_before": 3_119,
        "stock_left": 1_060,
    }


@pytest.mark.parametrize("name", ["northwind_orders.py", "online_retail.py"])
def test_an_example_says_what_one_should_see(name):
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert "You should see" in text or "you should see" in text


def test_the_northwind_example_prints_what_it_says(sqlite_engine):
    arguments = (EXAMPLES / "data" / "northwind", "--database", url_of(sqlite_engine))
    printed, _ = run_example("northwind_orders.py", *arguments)
    promised = (EXAMPLES / "northwind_orders.py").read_text(encoding="utf-8")
    for line in printed.splitlines():
        assert line.strip() in promised
