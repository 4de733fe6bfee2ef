"""The page of the shim's figures: it says what the file says, and the file is whole."""

from __future__ import annotations

import json

import pytest

from conformance.bench_shim import report
from conformance.bench_shim.candidates import BAR, OURS


def test_the_page_is_that_of_the_file() -> None:
    assert report.PAGE.read_text() == report.render(report.FILE.read_text()), "make bench-shim writes both"


def test_every_bar_is_reached() -> None:
    sections = json.loads(report.FILE.read_text())["sections"]
    assert [bar for bar, reached in report.bars(sections) if not reached] == []


@pytest.mark.parametrize(
    ("samples", "median", "low", "high"),
    [([3.0], 3, 3, 3), ([1.0, 2.0, 3.0], 2, 1.5, 2.5), ([5.0, 1.0, 4.0, 2.0, 3.0], 3, 2, 4)],
)
def test_a_summary_is_median_and_quartiles(
    samples: list[float], median: float, low: float, high: float
) -> None:
    assert report.summary(samples) == {"median": median, "low": low, "high": high}


def test_a_bar_that_is_missed_is_told() -> None:
    figures = report.summaries({OURS: {"whole": [6.0]}, BAR: {"whole": [10.0]}})
    memory = report.summaries({OURS: {"PSS, kB": [1.0]}, BAR: {"PSS, kB": [10.0]}})
    events = report.summaries({OURS: {"lost": [1.0]}, BAR: {"lost": [4.0]}})
    told = report.bars({"steps": figures, "memory": memory, "events": events})
    assert [reached for _, reached in told] == [False, True, False]
