"""The programs of the official validation suite that no host of ours can pass: they pass in the guest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from conformance.peers import PeerError
from conformance.suite import report
from conformance.suite.build import suite
from conformance.suite.places import Wish, in_guest
from conformance.suite.verdict import PASSED
from tests.vm.guests import cannot

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)


def _passes(programs: Path, place: str) -> None:
    found: report.Found = json.loads(report.FILE.read_text())
    passed = {name: report.passed(found, report.OURS, name) for name in report.everywhere(found)}
    wanted = [name for name, places in passed.items() if place in places and report.HOST not in places]
    assert wanted
    try:
        built = suite()
    except PeerError as error:
        cannot(str(error))
    told = in_guest(Wish(built, (report.OURS,), wanted), programs, full=place == report.FULL)
    assert told["verdicts"][report.OURS] == dict.fromkeys(wanted, PASSED)


def test_what_passed_in_user_mode_linux_passes_there(programs: Path) -> None:
    _passes(programs, report.GUEST)


@pytest.mark.proof
def test_what_passed_below_a_stock_kernel_passes_there(programs: Path) -> None:
    _passes(programs, report.FULL)
