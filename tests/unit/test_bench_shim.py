"""The page of the shim's figures: it says what the file says, and the file is whole."""

from __future__ import annotations

import json
import os
import time

from conformance import figures
from conformance.bench_shim import memory, report
from conformance.bench_shim.candidates import BAR, NAMES, OURS
from conformance.bench_shim.driver import whole


def test_the_page_is_that_of_the_file() -> None:
    assert report.PAGE.read_text() == report.render(report.FILE.read_text()), "make bench-shim writes both"


def test_the_file_has_every_figure_of_every_candidate() -> None:
    sections = json.loads(report.FILE.read_text())["sections"]
    for name, _, _ in report.SECTIONS:
        assert tuple(sections[name]) == NAMES
        assert {tuple(figures) for figures in sections[name].values()} == {tuple(sections[name][OURS])}


def test_the_file_names_no_path_of_the_machine() -> None:
    assert "/" not in report.FILE.read_text()


def test_every_bar_is_reached() -> None:
    sections = json.loads(report.FILE.read_text())["sections"]
    assert [bar for bar, reached in report.bars(sections) if not reached] == []


def test_a_bar_that_is_missed_is_told() -> None:
    steps = figures.summaries({OURS: {"whole": [6.0]}, BAR: {"whole": [10.0]}})
    idle = figures.summaries({OURS: {"PSS, kB": [1.0]}, BAR: {"PSS, kB": [10.0]}})
    events = figures.summaries({OURS: {"lost": [1.0]}, BAR: {"lost": [4.0]}})
    told = report.bars({"steps": steps, "memory": idle, "events": events})
    assert [reached for _, reached in told] == [False, True, False]


def test_the_whole_is_without_exec() -> None:
    assert whole({"start": 1.0, "exec": 10.0, "delete": 2.0}) == 3.0


def test_processor_time_is_that_of_the_living() -> None:
    before = memory.Cost(nanoseconds={1: 100, 2: 500})
    assert memory.Cost(nanoseconds={1: 130, 3: 5}).since(before) == 35


def test_a_process_that_works_costs_time_and_one_that_is_gone_nothing() -> None:
    before = memory.cost({os.getpid()})
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert memory.cost({os.getpid()}).since(before) > 10_000_000
    assert (before.processes, before.pss > 0, before.threads > 0) == (1, True, True)
    assert memory.cost({2**22 + 1}) == memory.Cost()  # beyond the highest pid_max
