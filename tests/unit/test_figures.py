"""Figures: their summary, and the tables that are made of them."""

from __future__ import annotations

import pytest

from conformance import figures


@pytest.mark.parametrize(
    ("samples", "median", "low", "high"),
    [([3.0], 3, 3, 3), ([1.0, 2.0, 3.0], 2, 1.5, 2.5), ([5.0, 1.0, 4.0, 2.0, 3.0], 3, 2, 4)],
)
def test_a_summary_is_median_and_quartiles(
    samples: list[float], median: float, low: float, high: float
) -> None:
    assert figures.summary(samples) == {"median": median, "low": low, "high": high}


def test_a_table_has_the_ratios_to_the_others() -> None:
    section = figures.summaries({"ours": {"a": [1.0], "b": [2.0]}, "theirs": {"a": [4.0], "b": [0.0]}})
    assert figures.table(section)[2:] == ["| a | 1 | 4 | 0.25 |", "| b | 2 | 0 | - |"]


def test_a_cell_has_the_quartiles_where_they_differ() -> None:
    section = figures.summaries({"ours": {"a": [1.0, 2.0, 3.0], "b": [12345.6]}})
    assert figures.table(section)[2:] == ["| a | 2.0 (1.5-2.5) |", "| b | 12346 |"]


def test_deciles_where_they_are_asked_for() -> None:
    taken = figures.Samples()
    for figure in range(11):
        taken.note("steps", "ours", {"run": float(figure)})
    assert taken.summaries(10) == {"steps": {"ours": {"run": {"median": 5.0, "low": 1.0, "high": 9.0}}}}


def test_a_bar_is_told_to_be_reached_or_not() -> None:
    lines = figures.facts_and_bars({"Linux": "6.1"}, [("low", True), ("high", False)])
    assert lines == ["* Linux: 6.1", "", "| bar | reached |", "|---|---|", "| low | yes |", "| high | no |"]
