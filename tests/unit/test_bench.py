"""The page of the commands' figures: it says what the file says, and what is missed is explained."""

from __future__ import annotations

import json

import pytest

from conformance.bench import report
from conformance.bench.bundles import KINDS
from conformance.bench.cycle import COMMANDS, NAMES, OURS
from conformance.figures import Figures, summaries

#: What every candidate is measured by, and what only ours is.
SHARED = ("time", "processor", "peak", "faults", "calls", "init")
OWN = ("plan", *(f"phases of {command}" for command in report.PHASED))


def test_the_page_is_that_of_the_file() -> None:
    assert report.PAGE.read_text() == report.render(report.FILE.read_text()), "make bench writes both"


def test_the_file_has_every_figure_of_every_candidate() -> None:
    sections = json.loads(report.FILE.read_text())["sections"]
    for kind in KINDS:
        for measure in SHARED:
            section = sections[f"{kind.name} {measure}"]
            assert tuple(section) == NAMES
            assert {tuple(figures) for figures in section.values()} == {tuple(section[OURS])}
        assert tuple(sections[f"{kind.name} time"][OURS]) == COMMANDS
        assert [tuple(sections[f"{kind.name} {name}"]) for name in OWN] == [(OURS,)] * len(OWN)


def test_the_file_says_where_it_was_measured() -> None:
    facts = json.loads(report.FILE.read_text())["facts"]
    wanted = "Python Linux processors processor seccomp interpreter".split()
    assert {*NAMES, *wanted, "load average before", "load average after"} <= facts.keys()
    assert "commit" in facts[OURS]


def test_the_file_names_no_path_of_the_machine() -> None:
    assert "/" not in report.FILE.read_text()


def test_the_benched_plan_is_the_printed_one() -> None:
    sections = json.loads(report.FILE.read_text())["sections"]
    for kind in KINDS:
        plan = sections[f"{kind.name} plan"][OURS]
        assert plan["steps"]["median"] > 30
        assert plan["noted in the journal"]["median"] >= 2  # state directory, cgroup
        assert plan["differ"] == {"median": 0, "low": 0, "high": 0}


def test_every_bar_is_reached_or_explained() -> None:
    bars = report.bars(json.loads(report.FILE.read_text())["sections"])
    assert len(bars) == len(report.LIMITS) + 3 * len(KINDS)
    _, _, explained = report.PAGE.read_text().partition("## Where the time goes\n")
    assert [bar.text for bar in bars if not bar.reached and f"* {bar.account}\n" not in explained] == []


def _same(measures: dict[str, float]) -> Figures:
    """A section in which all candidates have the same figures."""
    return summaries({name: {measure: [figure] for measure, figure in measures.items()} for name in NAMES})


def _sections(time: float) -> dict[str, Figures]:
    """Every section that the page needs; ours takes ``time``, the others 10 ms."""
    sections: dict[str, Figures] = {}
    for kind in KINDS:
        for measure in SHARED:
            sections[f"{kind.name} {measure}"] = _same(dict.fromkeys(COMMANDS, 10.0))
        sections[f"{kind.name} time"][OURS] = _same(dict.fromkeys(COMMANDS, time))[OURS]
        sections[f"{kind.name} peak"][OURS] = _same(dict.fromkeys(COMMANDS, 5.0))[OURS]
        sections[f"{kind.name} init"] = _same({"resident, kB": 100.0, "proportional, kB": 90.0})
        sections[f"{kind.name} plan"] = summaries({OURS: {"steps": [40.0], "differ": [0.0]}})
        for command in report.PHASED:
            sections[f"{kind.name} phases of {command}"] = summaries({OURS: {"launcher": [1.0]}})
    for measure in ("time", "peak"):
        sections[f"start-up {measure}"] = summaries({OURS: {report.IDLE: [2.0]}})
    return sections


def test_a_bar_that_is_missed_is_told_and_explained() -> None:
    sections = _sections(7.0)
    missed = [bar for bar in report.bars(sections) if not bar.reached]
    assert [bar.text.partition(",")[0] for bar in missed] == ["`run`", "`create`", "`exec`", "`create`"]
    page = report.render(json.dumps({"facts": {"instructions": "no counters"}, "sections": sections}))
    assert "* `run`, busybox: of 7.0 ms the start is 2.0 and its own work 5.0;" in page
    assert "Not measured: no counters." in page


def test_nothing_is_explained_where_every_bar_is_reached() -> None:
    sections = _sections(1.0)
    assert all(bar.reached for bar in report.bars(sections))
    page = report.render(json.dumps({"facts": {"instructions": "no counters"}, "sections": sections}))
    assert "Every bar is reached." in page


@pytest.mark.parametrize("section", ["init", "peak", "plan"])
def test_memory_and_plan_are_bars_as_well(section: str) -> None:
    sections = _sections(1.0)
    worse = {"init": {"resident, kB": 500.0}, "peak": {"exec": 10.0}, "plan": {"differ": 1.0}}[section]
    for measure, figure in worse.items():
        sections[f"busybox {section}"][OURS][measure] = {"median": figure, "low": figure, "high": figure}
    assert [bar.reached for bar in report.bars(sections)].count(False) == 1
