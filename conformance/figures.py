"""Measured figures: collected by section, candidate and measure, summed up, and laid out as tables.

What every bench shares: its results are the summaries in a JSON file, its page is made of that file alone.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: One section: summaries by candidate and measure, ours first.
Figures: TypeAlias = "dict[str, dict[str, dict[str, float]]]"


class Samples:
    """Every figure that was taken, by section, candidate and measure."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[str, dict[str, list[float]]]] = {}

    def note(self, section: str, candidate: str, figures: Mapping[str, float]) -> None:
        """Takes in one sample of each measure."""
        measures = self._taken.setdefault(section, {}).setdefault(candidate, defaultdict(list))
        for measure, figure in figures.items():
            measures[measure].append(figure)

    def summaries(self, parts: int = 4) -> dict[str, Figures]:
        """The summaries of all sections; ``parts`` as in ``summary``."""
        return {name: summaries(taken, parts) for name, taken in self._taken.items()}


def summary(samples: Sequence[float], parts: int = 4) -> dict[str, float]:
    """The median, and the first and last of the cuts into ``parts``: quartiles for 4, deciles for 10."""
    if len(samples) < 2:
        return {"median": samples[0], "low": samples[0], "high": samples[0]}
    cuts = statistics.quantiles(samples, n=parts, method="inclusive")
    return {"median": statistics.median(samples), "low": cuts[0], "high": cuts[-1]}


def summaries(section: Mapping[str, Mapping[str, Sequence[float]]], parts: int = 4) -> Figures:
    """The summary of every measure, by candidate."""
    return {
        candidate: {measure: summary(samples, parts) for measure, samples in measures.items()}
        for candidate, measures in section.items()
    }


def ratio(section: Figures, ours: str, other: str, measure: str) -> float:
    """The ratio of two medians."""
    return section[ours][measure]["median"] / section[other][measure]["median"]


def table(section: Figures) -> list[str]:
    """The lines of a table: a row for each measure, ours first, and its ratios to the others."""
    ours, *others = section
    head = ["", *section, *(f"to {name}" for name in others)]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for measure in section[ours]:
        cells = [_cell(section[name][measure]) for name in section]
        ratios = [_relative(section[ours][measure], section[name][measure]) for name in others]
        rows.append([measure, *cells, *ratios])
    return [f"| {' | '.join(row)} |" for row in rows]


def facts_and_bars(facts: Mapping[str, str], bars: Iterable[tuple[str, bool]]) -> list[str]:
    """The lines that stand before the tables: where it was measured, and what was to be reached."""
    lines = [*(f"* {name}: {fact}" for name, fact in facts.items()), "", "| bar | reached |", "|---|---|"]
    return [*lines, *(f"| {bar} | {'yes' if reached else 'no'} |" for bar, reached in bars)]


def _cell(figure: Mapping[str, float]) -> str:
    median, low, high = figure["median"], figure["low"], figure["high"]
    if low == high:
        return f"{median:.0f}" if median >= 1000 else f"{median:.4g}"
    digits = 0 if median >= 100 else 1
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _relative(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    return f"{ours['median'] / theirs['median']:.2f}" if theirs["median"] else "-"
