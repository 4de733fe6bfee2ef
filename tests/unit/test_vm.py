"""The machine without a machine: the disk of a job, the names of images, no failure that gets lost."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from conformance.vm import pc, recipe, uml
from conformance.vm.image import Image
from conformance.vm.job import Job, bring_back, read_status, write_disk
from conformance.vm.machine import DIED, Machine, Outcome
from tests.conftest import PANIC
from tests.vm import guests

DISK = "job.ext4"
REPOSITORY = Path(__file__).parents[2]


def _debugfs(disk: Path, request: str) -> str:
    done = subprocess.run(("debugfs", "-w", "-R", request, disk), capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small checkout with what does not belong into a guest."""
    tree = tmp_path / "a tree"
    for name in (".git/HEAD", ".venv/bin/python", "src/one.py", "src/__pycache__/one.pyc"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "link").symlink_to("src/one.py")
    return tree


def test_the_disk_has_the_tree_without_what_was_made_for_this_host(tree: Path, tmp_path: Path) -> None:
    write_disk(Job(("true",), tree), tmp_path / DISK)
    assert _debugfs(tmp_path / DISK, "cat /tree/src/one.py") == "src/one.py"
    assert "link" in _debugfs(tmp_path / DISK, "ls -p /tree")
    for name in (".git", ".venv", "src/__pycache__"):
        assert not _debugfs(tmp_path / DISK, f"stat /tree/{name}")


def test_the_script_quotes_what_it_is_given(tree: Path, tmp_path: Path) -> None:
    job = Job(("echo", "two words", "$HOME"), tree, environment={"NAME": "it's"})
    write_disk(job, tmp_path / DISK)
    script = _debugfs(tmp_path / DISK, "cat /script").splitlines()
    assert f"mount --bind /job/tree '{tree}' || exit" in script
    assert script[-2:] == ["export NAME='it'\"'\"'s'", "exec echo 'two words' '$HOME'"]


def test_what_lies_in_out_comes_back(tree: Path, tmp_path: Path) -> None:
    job = Job(("true",), tree, tmp_path / "back")
    write_disk(job, tmp_path / DISK)
    assert read_status(tmp_path / DISK) is None
    (tmp_path / "status").write_text("7\n")
    _debugfs(tmp_path / DISK, f"write {tmp_path}/status /status")
    _debugfs(tmp_path / DISK, f"write {tmp_path}/status /out/report")
    assert read_status(tmp_path / DISK) == 7
    bring_back(job, tmp_path / DISK)
    assert (tmp_path / "back/report").read_text() == "7\n"


def test_another_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = Path("/peers")
    names = {recipe.digest([peers]), recipe.digest([Path("/other")])}
    monkeypatch.setitem(recipe.FILES, "etc/hostname", (0o644, "another\n"))
    names.add(recipe.digest([peers]))
    assert len(names) == 3


def test_neither_machine_writes_to_the_image() -> None:
    image = Image(Path("/image/disk"), Path("/uml"), Path("/image/kernel"))
    scratch, job = Path("/scratch"), Path("/scratch/job")
    assert f"ubd0=/scratch/root.cow,{image.disk}" in uml.command(image, scratch, job, "quiet", 512)
    words = pc.command(image, scratch, job, "quiet", 512, 2)
    assert [word for word in words if str(image.disk) in word and "snapshot=on" not in word] == []
    assert words[-1].endswith(" quiet")


def _report(tmp_path: Path, *cases: str) -> Path:
    path = tmp_path / "report.xml"
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return path


PASSED = '<testcase classname="a" name="b"/>'


def _other(child: str) -> str:
    return f'<testcase classname="a" name="c">{child}</testcase>'


@pytest.mark.parametrize(
    ("cases", "status", "fault"),
    [
        ((PASSED,), 0, None),
        ((PASSED, _other('<skipped type="pytest.xfail" message="x"/>')), 0, None),
        ((PASSED, _other('<skipped message="no cpuset here"/>')), 0, None),
        ((PASSED, _other('<skipped message="odd"/>')), 0, "a::c is skipped: odd"),
        ((PASSED, _other("<failure>why</failure>")), 1, "a::c\nwhy"),
        ((PASSED, _other('<error message="left"/>')), 1, "a::c\nleft"),
        ((PASSED,), 125, "the exit status is 125"),
        ((), 0, "no test has passed"),
    ],
)
def test_what_fails_inside_fails_outside(
    tmp_path: Path, cases: tuple[str, ...], status: int, fault: str | None
) -> None:
    faults = guests.read_report(status, _report(tmp_path, *cases), "printed").faults(("no cpuset",))
    assert (fault is None) == (not faults)
    assert fault is None or fault in "\n".join(faults)


def test_without_a_report_all_has_failed(tmp_path: Path) -> None:
    assert len(guests.read_report(125, tmp_path / "none.xml", "panic").faults(())) == 2


@dataclass(frozen=True, slots=True)
class Shaky(Machine):
    """A machine that ends as it is told, and has a good report when the command has succeeded."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def run(self, job: Job, seconds: float | None = None, output: IO[bytes] | None = None) -> Outcome:
        del seconds, output
        outcome = self.outcomes.pop(0)
        if outcome.status == 0 and job.out is not None:
            job.out.mkdir(exist_ok=True)
            _report(job.out, PASSED)
        return outcome


GOOD, PANICKED = Outcome(0, ""), Outcome(DIED, "so far\nKernel panic - not syncing: why\nmore\n")


@pytest.mark.parametrize(
    ("full", "outcomes", "good", "told"),
    [
        (True, [GOOD, GOOD], True, 0),
        (True, [PANICKED, GOOD], True, 1),
        (True, [PANICKED, PANICKED, GOOD], False, 1),
        (True, [Outcome(DIED, "nothing"), GOOD], False, 0),
        (False, [PANICKED, GOOD], False, 0),
    ],
)
def test_an_emulated_kernel_may_panic_once_and_it_is_told(
    tmp_path: Path, full: bool, outcomes: list[Outcome], good: bool, told: int
) -> None:
    heard: list[str] = []
    tried = guests.Guests(tmp_path, tmp_path, heard.append)
    report = tried.run(Shaky(full=full, outcomes=list(outcomes)), "tests/a.py", seconds=1)
    assert (report.faults(()) == []) is good
    assert heard == ["Kernel panic - not syncing: why"] * told


def test_a_test_that_was_tried_twice_is_in_the_summary(tmp_path: Path) -> None:
    text = f'def test_a(record_property):\n    record_property("{PANIC}", "why it did")\n'
    (tmp_path / "test_one.py").write_text(text)
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", tmp_path),
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "a guest was booted twice: " in done.stdout
    assert "test_one.py::test_a: why it did" in done.stdout


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_machine_tests_are_skipped_with_the_reason_and_fail_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("OCIRUN_REQUIRE_PEERS", required)
    with pytest.raises(outcome, match="mmdebstrap is missing"):
        guests.cannot("mmdebstrap is missing")
