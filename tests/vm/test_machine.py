"""The machine itself: what its command line gives back of commands that end, and of those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.vm import project
from conformance.vm.machine import DIED, TIMED_OUT
from tests.host import observe

#: The first of them builds the image.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.usefixtures("programs")]


def _machine(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "conformance.vm", *words),
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(project.CHECKOUT), "HERE": str(here)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("flags", "first"), [((), "init"), (("--systemd",), "systemd")])
def test_status_output_and_files_come_back(tmp_path: Path, flags: tuple[str, ...], first: str) -> None:
    (here := tmp_path / "here").mkdir()
    (here / "given").write_text("this was given\n")
    script = "cat /proc/1/comm given; pwd; cp given /job/out/taken; echo beside >&2; exit 7"
    done = _machine(here, *flags, "--out", str(tmp_path / "out"), "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [first, "this was given", str(here), "beside"]
    assert (tmp_path / "out/taken").read_text() == "this was given\n"
    assert [path.name for path in here.iterdir()] == ["given"]


def test_there_is_nothing_but_cgroup2(tmp_path: Path) -> None:
    script = "cd /sys/fs/cgroup; cat cgroup.subtree_control; grep -c cgroup /proc/mounts; stat -fc %T ."
    done = _machine(tmp_path, "--", "sh", "-c", script)
    assert done.stdout.splitlines() == ["cpu io memory pids", "1", "cgroup2fs"]


def test_a_machine_that_dies_says_why(tmp_path: Path) -> None:
    done = _machine(tmp_path, "--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000")
    assert done.returncode == DIED
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.stderr


def test_a_machine_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    done = _machine(tmp_path, "--timeout", "5", "--", "sleep", "1000")
    assert done.returncode == TIMED_OUT

    def left() -> list[int]:
        return [pid for pid in observe.descendants(1) if str(tmp_path) in _environment(pid)]

    # They were killed; the kernel ends each of them when its turn comes.
    observe.eventually(lambda: not left(), "nothing of the machine is there")


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""
