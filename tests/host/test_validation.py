"""The official validation suite, where docs/validation.json says that its programs pass."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from conformance.peers import PeerError
from conformance.suite import report
from conformance.suite.build import suite
from conformance.suite.places import Wish, on_host
from conformance.suite.session import CGROUPS, Session
from conformance.suite.verdict import PASSED
from tests.host.runtimes import new_id
from tests.vm.guests import cannot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.view import View

#: The first one builds the suite.
pytestmark = pytest.mark.timeout(1500)


def test_what_passed_on_a_host_passes_here() -> None:
    if os.geteuid() != 0:
        pytest.skip("the suite needs root")
    found: report.Found = json.loads(report.FILE.read_text())
    wanted = [
        name for name in report.everywhere(found) if report.HOST in report.passed(found, report.OURS, name)
    ]
    try:
        built = suite()
    except PeerError as error:
        cannot(str(error))
    told = on_host(Wish(built, (report.OURS,), wanted))
    assert told["verdicts"][report.OURS] == dict.fromkeys(wanted, PASSED)


@pytest.fixture
def session(view: View, scratch: Path) -> Iterator[Session]:
    """Where programs of ours run instead of those of the suite."""
    assert view.cgroup2 == CGROUPS
    (scratch / "programs").mkdir()
    cgroup = CGROUPS / new_id()
    cgroup.mkdir()
    yield Session(scratch, scratch, cgroup)
    cgroup.rmdir()


def _program(session: Session, name: str, script: str) -> str:
    file = session.suite / "programs" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return name


def test_what_a_program_leaves_behind_is_ended(session: Session) -> None:
    name = _program(session, "leaves", "sleep 1000 & echo $! > pid; echo ok 1 - fine; echo 1..1")
    assert session.play("ocirun", name) == PASSED
    pid = int((session.suite / "pid").read_text())
    _, status = os.waitpid(pid, 0)  # an orphan of the program's, which came to us
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert list(session.cgroup.glob("*/")) == []


def test_a_program_without_an_end_is_ended(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.suite.session._SECONDS", 1)
    assert session.play("ocirun", _program(session, "hangs", "exec sleep 1000")) == "does not end"
    assert list(session.cgroup.glob("*/")) == []


def test_each_program_has_cgroups_of_its_own(session: Session) -> None:
    name = _program(session, "looks", "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/fixed && exit 7")
    for _ in range(2):
        assert session.play("ocirun", name).startswith("exit status 7")
