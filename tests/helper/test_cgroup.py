"""The end of a cgroup: every process killed, all below removed, shared directories above left alone."""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root


def test_kill_and_remove(place: Place, launch: Callable[..., Run]) -> None:
    top = place.cgroup / "a/b"
    for name in ("c/d/e", "c/f", "g"):
        (top / name).mkdir(parents=True)
    sleepers = [subprocess.Popen(["sleep", "100"]) for _ in range(3)]
    for sleeper, name in zip(sleepers, ("", "c/d/e", "g"), strict=True):
        (top / name / "cgroup.procs").write_text(str(sleeper.pid))
    (place.cgroup / "neighbour").mkdir()
    steps = [
        verb.kill_cgroup(path=str(top), pointer=""),
        verb.remove_cgroup(
            path=str(top),
            parents=[str(place.cgroup / "a"), str(place.cgroup), str(place.cgroup.parent)],
            pointer="",
        ),
    ]
    run = launch(steps)
    run.until(wire.DONE)
    assert run.wait_stage() == 0
    assert [sleeper.wait(30) for sleeper in sleepers] == [-9, -9, -9]
    assert not (place.cgroup / "a").exists()
    assert (place.cgroup / "neighbour").exists(), "what others use stays"


def test_a_cgroup_that_is_gone_is_fine(place: Place, launch: Callable[..., Run]) -> None:
    gone = str(place.cgroup / "gone")
    run = launch(
        [verb.kill_cgroup(path=gone, pointer=""), verb.remove_cgroup(path=gone, parents=(), pointer="")]
    )
    run.until(wire.DONE)


def test_a_cgroup_in_use_is_not_removed(place: Place, launch: Callable[..., Run]) -> None:
    top = place.cgroup / "busy"
    top.mkdir()
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        (top / "cgroup.procs").write_text(str(sleeper.pid))
        report = launch([verb.remove_cgroup(path=str(top), parents=(), pointer="")]).until(wire.FAILED)
        sleeper.kill()
    assert (report.errno, report.operation, report.path) == (errno.EBUSY, "rmdir", str(top))


def test_the_root_cgroup_is_not_killed(place: Place, launch: Callable[..., Run]) -> None:
    report = launch([verb.kill_cgroup(path=str(place.cgroup.parent), pointer="")]).until(wire.FAILED)
    assert (report.errno, report.path) == (errno.ENOENT, "cgroup.kill")
