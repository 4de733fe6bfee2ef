"""Runs tests of ours inside a guest and reads what came of each."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import pytest

from conformance.vm import project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conformance.vm.machine import Machine

#: The observed tests that depend on controllers, in groups that take about as long as one another.
GROUPS = {
    "limits": ("test_limits", "test_resources", "test_pause", "test_cgroups"),
    "update": ("test_update", "test_events", "test_no_cgroup"),
    "lifecycle": ("test_lifecycle", "test_devices", "test_rootless", "test_smallest"),
}
#: And those that need the stock kernel; in the guest of "systemd" that is process 1.
FULL_GROUPS = {
    **GROUPS,
    "apparmor": ("test_apparmor",),
    "controllers": ("test_controllers",),
    "systemd": ("test_systemd_controllers",),
    "checkpoints": ("test_checkpoint", "test_checkpoint_refused", "test_shim_checkpoint"),
}
#: Why a test may be skipped in any guest, and why besides in an emulated one and in User-mode Linux: how the
#: reason begins.
NOT_HERE = ("this host has the memory controller on cgroup2", "the host has AppArmor")
NOT_THERE = (*NOT_HERE, "there are several processors")
LACKING = (*NOT_HERE, "the hugetlb controller is not on cgroup2", "not on cgroup2: the controllers cpuset")


@dataclass(frozen=True, slots=True)
class Case:
    """A test that ran inside; ``outcome`` is passed, expected (to fail), skipped or failed."""

    name: str
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of the tests inside: their status, each of them, all that was printed, and what the kernel
    said of its panic, if it came to that."""

    status: int
    cases: tuple[Case, ...]
    printed: str
    panic: str = ""

    def faults(self, lacking: Sequence[str]) -> list[str]:
        """What is not as it should be, in words; a skip is a fault as well, but for what is ``lacking``."""
        found = [f"{case.name}\n{case.text}" for case in self.cases if case.outcome == "failed"]
        found += [
            f"{case.name} is skipped: {case.text}"
            for case in self.cases
            if case.outcome == "skipped" and not case.text.startswith(tuple(lacking))
        ]
        if not any(case.outcome == "passed" for case in self.cases):
            found.append("no test has passed")
        if self.status != 0:
            found.append(f"the exit status is {self.status}:\n{self.printed[-3000:]}")
        return found


class Guests:
    """Runs tests with the programs that were compiled for the guest; ``scratch`` is a new directory, ``tell``
    hears of a kernel that has panicked."""

    def __init__(self, programs: Path, scratch: Path, tell: Callable[[str], None]) -> None:
        self.programs = programs
        self.scratch = scratch
        self.tell = tell

    def check(self, machine: Machine, *files: str, seconds: float, lacking: Sequence[str]) -> None:
        """Runs test files of this checkout in a guest; fails the test for whatever is not as it should be."""
        faults = self.run(machine, *files, seconds=seconds).faults(lacking)
        if faults:
            pytest.fail("\n\n".join(faults), pytrace=False)

    def run(self, machine: Machine, *tests: str, seconds: float) -> Report:
        """Boots a guest, runs pytest in it on these files, gives the report; raises MachineError.

        The emulated kernel panics once in many runs: then, and only once, another is booted.
        """
        report = self._once(machine, *tests, seconds=seconds)
        if machine.full and report.panic:
            self.tell(report.panic)
            report = self._once(machine, *tests, seconds=seconds)
        return report

    def _once(self, machine: Machine, *tests: str, seconds: float) -> Report:
        out = self.scratch / "out"
        command = (
            "python3",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--color=no",
            "--tb=short",
            "--junitxml=/job/out/report.xml",
        )
        environment = {"OCIRUN_REQUIRE_PEERS": "1"}
        wanted = project.job(*command, *tests, programs=self.programs, out=out, environment=environment)
        log = self.scratch / "printed"
        with log.open("wb") as output:
            outcome = machine.run(wanted, seconds, output)
        panics = [line for line in outcome.console.splitlines() if "Kernel panic" in line]
        printed = log.read_text(errors="replace") + outcome.console[-1000:]
        return read_report(outcome.status, out / "report.xml", printed, panics[0] if panics else "")


def cannot(reason: str) -> NoReturn:
    """Skips the test for want of a guest, or fails it where that must not be."""
    if os.environ.get("OCIRUN_REQUIRE_PEERS") == "1":
        pytest.fail(f"a guest is required: {reason}")
    pytest.skip(reason)


def read_report(status: int, file: Path, printed: str, panic: str = "") -> Report:
    """The report that pytest wrote as JUnit's XML, without any case when it came to no end."""
    if not file.exists():
        return Report(status, (), printed, panic)
    root = ET.fromstring(file.read_text())  # noqa: S314 - our own pytest wrote it
    return Report(status, tuple(_case(one) for one in root.iter("testcase")), printed, panic)


def _case(element: ET.Element) -> Case:
    """A case of JUnit's format: with a child that says what was wrong, or without."""
    name = f"{element.get('classname')}::{element.get('name')}"
    for child in element:
        message = child.get("message") or ""
        if child.tag in ("failure", "error"):
            return Case(name, "failed", child.text or message)
        if child.tag == "skipped":
            return Case(name, "expected" if child.get("type") == "pytest.xfail" else "skipped", message)
    return Case(name, "passed", "")
