"""What is made of measurements: the figures that must be shown, JSON, a page, a picture."""

import importlib.util
import json

import pytest

from batchwrite.bench import growth, ours, retail
from batchwrite.bench.machine import Machine, this_machine
from batchwrite.bench.must_show import Figure, figures
from batchwrite.bench.peers_postgresql import COPY
from batchwrite.bench.plot import draw
from batchwrite.bench.report import Report, columns, figure_lines, lines
from batchwrite.bench.task import Settings
from batchwrite.bench.timing import Absent, Compared, Measurement
from batchwrite.bench.workloads import CHUNK_FAR_AWAY, CLEAN, COLLECT

pytestmark = pytest.mark.slow


def compared(name, *measurements, workload="clean", baseline=COPY.name, absent=()):
    return Compared(workload=workload, name=name, baseline=baseline, measurements=measurements, absent=tuple(absent))


def measurement(contender, seconds, ratio=None, rows=1_000, **extras):
    return Measurement(
        contender=contender,
        rows=rows,
        seconds=(seconds,),
        ratios=() if ratio is None else (ratio,),
        extras={name.replace("_", " "): value for name, value in extras.items()},
    )


MEASURED = [
    compared(
        CLEAN,
        measurement(COPY.name, 0.01, 1.0),
        measurement(ours.NAME, 0.0125, 0.8),
        absent=[
            Absent(contender="asyncpg executemany", reason="not installed: asyncpg"),
            Absent(contender="Django bulk_create", reason="NotWrittenError: 1 where 2 should be", is_failure=True),
        ],
    ),
    compared(CHUNK_FAR_AWAY, measurement(ours.NAME, 0.15, round_trips=7), workload="latency", baseline=None),
    compared(retail.NAME, measurement(ours.NAME, 1, 0.2, rows=998), workload="retail"),
    compared(COLLECT, measurement(ours.NAME, 0.002), workload="collect", baseline=None),
    *(
        compared(growth.name(size), measurement(ours.NAME, 1.0, 1.0, rows=size, peak_MB=peak), workload="growth")
        for size, peak in ((100_000, 60.0), (10_000_000, 75.0))
    ),
]


@pytest.fixture
def report():
    machine = Machine(
        processor="A Processor | B",
        cores=2,
        memory_mb=8_000,
        system="Some Linux",
        python="CPython 3.11",
        packages={"psycopg": "3.2"},
        date="2026-01-01",
    )
    return Report(
        machine=machine,
        databases=["PostgreSQL 15.1"],
        settings=Settings(rows=1_000, runs=1, quick=True),
        compared=MEASURED,
        figures=figures(MEASURED),
        seconds=90.0,
    )


def found(name):
    [figure] = [each for each in figures(MEASURED) if each.name.startswith(name)]
    return figure


@pytest.mark.parametrize(
    ("name", "measured", "is_reached"),
    [
        ("clean rows, of psycopg COPY", 0.8, False),
        ("clean rows with workers=4", None, None),
        ("a chunk of 500 rows", 0.15, True),
        ("10 million rows", 15.0, True),
        ("map, collect", 2.0, False),
        ("the Online Retail file", 0.2, True),
    ],
)
def test_figures_are_compared_with_what_is_wanted(name, measured, is_reached):
    figure = found(name)
    assert figure.measured == pytest.approx(measured) if measured is not None else figure.measured is None
    assert figure.is_reached is is_reached


def test_a_figure_of_a_part_says_so():
    assert found("the Online Retail file").note == "998 lines"


def test_every_figure_is_there_although_nothing_was_measured():
    wanted = figures([])
    assert len(wanted) == len(figures(MEASURED)) >= 15
    assert {figure.is_reached for figure in wanted} == {None}


def test_the_table_of_figures_says_what_is_wanted_measured_and_reached():
    figure = Figure(name="speed", aim=0.85, unit="x", measured=0.9)
    below = Figure(name="time", aim=0.2, unit="s", is_upper=True, measured=0.3, note="a part")
    unknown = Figure(name="memory", aim=20, unit="MB", is_upper=True)
    assert list(figure_lines([figure, below, unknown])) == [
        ["speed", "at least 0.85 x", "0.9 x", "yes"],
        ["time", "at most 0.2 s", "0.3 s", "no (a part)"],
        ["memory", "at most 20 MB", "", "not measured"],
    ]


def test_a_table_has_the_fastest_first_and_the_absent_last():
    assert columns(MEASURED[0]) == [CLEAN, "rows", "seconds", "rows/s", "of psycopg COPY"]
    first, second, *absent = lines(MEASURED[0])
    assert first == [COPY.name, "1,000", "0.01", "100,000", "1"]
    assert second == [ours.NAME, "1,000", "0.0125", "80,000", "0.8"]
    assert absent[0] == ["asyncpg executemany: not installed: asyncpg"]
    assert columns(MEASURED[1])[-1] == "round trips"
    assert next(lines(MEASURED[1]))[-1] == "7"


def test_failures_are_those_that_were_tried(report):
    assert report.failures == [f"{CLEAN}: Django bulk_create: NotWrittenError: 1 where 2 should be"]


def test_the_document_can_be_written_as_json(report):
    document = json.loads(json.dumps(report.to_dict()))
    assert document["machine"]["processor"] == "A Processor | B"
    assert document["settings"] == {"rows": 1_000, "runs": 1, "quick": True}
    first = document["comparisons"][0]
    assert first["measurements"][1] == {
        "contender": ours.NAME,
        "rows": 1_000,
        "seconds": [0.0125],
        "ratios": [0.8],
        "extras": {},
        "median": 0.0125,
        "rate": 80_000,
        "ratio": 0.8,
    }
    assert [each["is_failure"] for each in first["absent"]] == [False, True]
    assert document["figures"][0]["wanted"] == "at least 0.85 x"


def test_the_page_names_the_machine_and_has_all_tables(report):
    page = report.to_markdown()
    assert page.startswith("# Benchmarks\n")
    assert "| processor | A Processor \\| B, 2 cores, 8 GB of memory |" in page
    assert f"| {ours.NAME} | 1,000 | 0.0125 | 80,000 | 0.8 |" in page
    assert page.count("\n## ") == len(MEASURED) + 1
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_the_picture_is_drawn_or_matplotlib_is_not_there(report, tmp_path):
    path = tmp_path / "bench.png"
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(ImportError):
            draw(report, path)
    else:
        draw(report, path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_this_machine_has_a_name():
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.processor
    assert {"batchwrite", "SQLAlchemy", "psycopg"} <= set(machine.packages)
