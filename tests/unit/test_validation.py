"""The official validation suite: what its programs mean, and the page that says how they end."""

from __future__ import annotations

import json
import re

import pytest

from conformance.suite import report
from conformance.suite.places import ONLY_FULL, RUNTIMES
from conformance.suite.reasons import reasons
from conformance.suite.verdict import PASSED, Ended, verdict

#: What crun passes of the suite as it is, and process_capabilities.
ENOUGH = 34


def found() -> report.Found:
    read: report.Found = json.loads(report.FILE.read_text())
    return read


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        (Ended(0, "TAP version 13\nok 1 - fine\n1..1\n", ""), PASSED),
        (Ended(0, "ok 1 - fine\nnot ok 2 # TODO later\n1..2\n", ""), PASSED),
        (Ended(0, '1..0\n  ---\n  {\n    "reference": "x"\n  }\n  ...\n', ""), PASSED),
        (Ended(0, "ok 1 - fine\nnot ok 2 - bad\n1..2\n", ""), "not ok: bad"),
        (
            Ended(0, 'not ok 1 - bad\n  ---\n  {\n    "error": "no\\nway"\n  }\n  ...\n1..1\n', ""),
            "not ok: bad: no way",
        ),
        (
            Ended(0, 'not ok 1 - bad\nok 2 - fine\n  ---\n  {\n    "error": "not its own"\n  }\n  ...\n', ""),
            "not ok: bad",
        ),
        (
            Ended(0, 'not ok 1 - bad\n  {\n "error": "1",\n "reference": "r",\n "stderr": "why"\n }\n', ""),
            "not ok: bad: why",
        ),
        (Ended(0, '  ---\n  {\n    "error": "late"\n  }\n  ...\n1..0\n', ""), "no test planned: late"),
        (Ended(1, "1..0\n", "it broke\n"), "exit status 1: it broke"),
        (Ended(2, "", "goroutine\npanic: nil\n"), "exit status 2: panic: nil"),
        (Ended(3, "", ""), "exit status 3: it says nothing"),
        (Ended(None, "ok 1 - fine\n1..1\n", ""), "does not end"),
        (
            Ended(1, "", "open /run/tmp/x/ocitest123/a: 0b7a9fd3-1d4f-4f0d-8f4b-0a3f5b3c2d1e\n"),
            "exit status 1: open BUNDLE/a: ID",
        ),
    ],
)
def test_a_program_passes_or_says_why_not(ended: Ended, why: str) -> None:
    assert verdict(ended) == why


def test_the_page_is_that_of_the_file() -> None:
    assert report.PAGE.read_text() == report.render(report.FILE.read_text()), "make suite writes both"


def test_every_program_ran_with_every_runtime_in_the_same_run() -> None:
    places = found()["places"]
    assert list(places) == sorted([report.HOST, report.GUEST, report.FULL])
    whole = set(report.everywhere(found()))
    assert len(whole) == 58
    for place, told in places.items():
        wanted = set(ONLY_FULL) if place == report.FULL else whole
        assert {runtime: set(told["verdicts"][runtime]) for runtime in RUNTIMES} == dict.fromkeys(
            RUNTIMES, wanted
        )
        assert all(re.match(r"\d+\.\d+", told["facts"][runtime]) for runtime in RUNTIMES)


def test_enough_of_it_passes() -> None:
    assert report.total(found(), report.OURS) >= ENOUGH
    assert report.passed(found(), report.OURS, "process_capabilities")


def test_every_miss_has_a_reason_and_every_reason_a_miss() -> None:
    misses = {name for name in report.everywhere(found()) if report.missed(found(), report.OURS, name)}
    assert set(reasons()) == misses
    assert all(reason.right and reason.why for reason in reasons().values())


def test_the_file_names_no_path_of_the_machine() -> None:
    assert not re.search(r"/(work|home|root|var/cache)/", report.FILE.read_text())
