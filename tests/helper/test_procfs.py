"""What is written to /proc: through a procfs of the helper's own, else only through one that is real."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb
from tests.helper import plans

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.plan.model import Step
    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root

#: In a user namespace that does not own the pid namespace nobody can make a procfs of it.
DEPRIVED = ("--user", "--map-root-user", "--mount")
TOO_MUCH = "2000"  # the kernel says EINVAL to that, and says it only if the file is the right one


def _steps(score: str = TOO_MUCH) -> list[Step]:
    return [
        verb.hide_process(pointer=""),
        verb.open_proc(proc="proc", pointer=""),
        verb.set_oom_score(proc="proc", score=score, pointer=""),
    ]


def _wrapped(directory: Path, helper: Path, unshare: tuple[str, ...], script: str) -> Path:
    """A program that becomes the helper in other namespaces, after ``script``."""
    path = directory / "wrapped"
    inner = f"{script}\nexec {helper}"
    path.write_text(f"#!/bin/sh\nexec unshare {' '.join(unshare)} sh -c '{inner}'\n")
    path.chmod(0o755)
    return path


def _told(run: Run) -> tuple[str, int, str]:
    report = run.until(wire.FAILED)
    return report.operation, report.errno, report.path


def test_a_score_is_written_and_the_kernel_judges_it(launch: Callable[..., Run]) -> None:
    assert _told(launch(_steps())) == ("write", errno.EINVAL, "oom_score_adj")
    launch(_steps("0")).until(wire.DONE)


def test_where_no_procfs_can_be_made_the_mounted_one_is_used(
    tmp_path: Path, helper: Path, launch: Callable[..., Run]
) -> None:
    program = _wrapped(tmp_path, helper, DEPRIVED, "")
    assert _told(launch(_steps(), program=program)) == ("write", errno.EINVAL, "oom_score_adj")


@pytest.mark.parametrize("script", ["mount -t tmpfs none /proc", "mount --bind /proc/sys /proc"])
def test_what_is_no_proc_is_refused(
    tmp_path: Path, helper: Path, launch: Callable[..., Run], script: str
) -> None:
    program = _wrapped(tmp_path, helper, DEPRIVED, script)
    assert _told(launch(_steps(), program=program)) == ("check of procfs", errno.EXDEV, "/proc")


@pytest.mark.parametrize("file", ["", "/oom_score_adj"])
def test_what_is_mounted_over_a_part_of_it_is_not_written(
    tmp_path: Path, helper: Path, launch: Callable[..., Run], file: str
) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/oom_score_adj").write_text("untouched")
    trap.write_text("untouched")
    over = f"mount --bind {trap if file else tmp_path / 'directory'} /proc/$$" + file
    program = _wrapped(tmp_path, helper, DEPRIVED, over)
    assert _told(launch(_steps(), program=program)) == ("openat2", errno.EXDEV, "oom_score_adj")
    assert trap.read_text() == (tmp_path / "directory/oom_score_adj").read_text() == "untouched"


def test_it_does_not_matter_what_is_mounted_where_one_can_be_made(
    tmp_path: Path, helper: Path, launch: Callable[..., Run]
) -> None:
    program = _wrapped(tmp_path, helper, ("--mount",), "mount -t tmpfs none /proc")
    assert _told(launch(_steps(), program=program)) == ("write", errno.EINVAL, "oom_score_adj")


@pytest.mark.parametrize(
    ("path", "number"), [("../etc/hostname", errno.EXDEV), ("self/oom_score_adj", errno.ELOOP)]
)
def test_a_parameter_does_not_lead_out_of_it(
    place: Place, launch: Callable[..., Run], path: str, number: int
) -> None:
    bad = verb.set_sysctl(proc="proc", path=path, value="0", pointer="")
    opened = [verb.open_proc(proc="proc", pointer="")]
    assert _told(launch(plans.small(place, "true", [bad], opened))) == ("openat2", number, path)


@pytest.mark.parametrize(
    ("path", "kind", "number"),
    [
        ("/proc/self/ns/net", 0x40000000, 0),
        ("/proc/self/ns/net", 0x08000000, errno.EINVAL),
        ("/dev/null", 0x40000000, errno.EINVAL),
        ("/proc/self/status", 0x40000000, errno.EINVAL),
        ("/no/such", 0x40000000, errno.ENOENT),
    ],
)
def test_a_namespace_is_of_the_kind_it_should_be(
    launch: Callable[..., Run], path: str, kind: int, number: int
) -> None:
    run = launch([verb.open_namespace(path=path, kind=kind, namespace="other", pointer="")])
    if not number:
        run.until(wire.DONE)
        return
    report = run.until(wire.FAILED)
    assert (report.errno, report.path) == (number, path)


def test_a_root_without_rights_has_no_way_into_whoever_begins_a_namespace(launch: Callable[..., Run]) -> None:
    """It is in the mounts of the host, and root of the host owns its user namespace, with all rights in
    there: a container that sees its pid could trace it, were it not for the memory of the helper."""
    run = launch(
        [
            verb.hide_process(pointer=""),
            verb.open_proc(proc="proc", pointer=""),
            verb.make_mapping(proc="proc", uids="0 0 0\n", gids="0 0 1\n", mapping="mapping", pointer=""),
        ]
    )
    report = wire.Report(run.control.recv(16384))  # it waits, and so does its child
    assert (report.kind, report.errno, report.path) == (wire.FAILED, errno.EINVAL, "uid_map")
    (child,) = Path(f"/proc/{run.stage}/task/{run.stage}/children").read_text().split()
    looking = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "readlink", "-v", f"/proc/{child}/root"]
    looked = subprocess.run(looking, check=False, capture_output=True, text=True)
    run.hang_up()
    assert (looked.stdout, "Permission denied" in looked.stderr) == ("", True)
