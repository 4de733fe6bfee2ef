"""The container's cgroup: where it is, that it was fit, and that delete takes away only what create made."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.bundles import Bundle
from tests.host.runtimes import Runtime, new_id
from tests.host.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator


def _cgroup(pid: int) -> str:
    """The cgroup2 path of a process, as the test sees it (cgroups(7))."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def _path(bundle: Bundle, path: str) -> Bundle:
    return bundle.put(path, "linux", "cgroupsPath")


def test_init_is_born_in_the_cgroup_named_by_its_id(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    assert _cgroup(container.pid) == f"/ocirun/{container.id}"


def test_the_parent_goes_with_the_last_container(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    first, second = ocirun.create(bundle.sleeping()), ocirun.create(bundle.sleeping())
    first.delete().ok()
    assert (view.cgroup2 / "ocirun" / second.id).is_dir()
    second.delete().ok()
    assert not (view.cgroup2 / "ocirun" / second.id).exists()


def test_an_absolute_path_is_below_the_mount_of_cgroup2(runtime: Runtime, bundle: Bundle, view: View) -> None:
    name = new_id()
    container = runtime.create(_path(bundle.sleeping(), f"/{name}/deep/er"))
    assert _cgroup(container.pid) == f"/{name}/deep/er"
    container.delete("--force").ok()
    if runtime.name != "ocirun":  # the peers leave the parents they made
        observe.eventually(lambda: not (view.cgroup2 / name / "deep/er").exists(), "the cgroup is gone")
        for left in (f"{name}/deep", name):
            if (view.cgroup2 / left).exists():
                (view.cgroup2 / left).rmdir()
    assert not (view.cgroup2 / name).exists()


def test_a_cgroup_with_processes_is_refused(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    name = new_id()
    (view.cgroup2 / name).mkdir()
    with subprocess.Popen(("sleep", "1000")) as other:
        (view.cgroup2 / name / "cgroup.procs").write_text(str(other.pid))
        ocirun.attempt(_path(bundle, f"/{name}")).refused("has processes already", "/linux/cgroupsPath")
        assert other.poll() is None, "a stranger was killed"
        other.kill()
    observe.eventually(lambda: not (view.cgroup2 / name / "cgroup.procs").read_text(), "the cgroup is empty")
    (view.cgroup2 / name).rmdir()


def test_a_cgroup_that_was_there_stays(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    name = new_id()
    (view.cgroup2 / name).mkdir()
    ocirun.run(_path(bundle.args("true"), f"/{name}")).ok()
    assert (view.cgroup2 / name).is_dir()
    (view.cgroup2 / name).rmdir()


@pytest.fixture
def killed(view: View) -> Iterator[str]:
    """The name of a cgroup that was killed when nobody was in it."""
    name = new_id()
    (view.cgroup2 / name).mkdir()
    (view.cgroup2 / name / "cgroup.kill").write_text("1")
    yield name
    with contextlib.suppress(FileNotFoundError):  # the peers remove what they did not make
        (view.cgroup2 / name).rmdir()


def test_a_cgroup_that_was_killed_once_serves_again(runtime: Runtime, bundle: Bundle, killed: str) -> None:
    container = runtime.create(_path(bundle.sleeping(), f"/{killed}"))
    runtime.call("start", container.id).ok()
    assert observe.cgroup(container.pid) == f"/{killed}"
    assert runtime.call("exec", container.id, "/bin/echo", "hello").ok().stdout == "hello\n"
    container.delete("--force").ok()


@pytest.mark.parametrize("command", ["run", "delete"])
def test_what_outlives_init_is_killed_through_the_cgroup(
    command: str, ocirun: Runtime, bundle: Bundle
) -> None:
    bundle.without_namespace("pid").sh("sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; exec true")
    if command == "run":
        left = int(ocirun.run(bundle).ok().stdout)
    else:
        container = ocirun.create(bundle)
        ocirun.call("start", container.id).ok()
        container.wait()
        left = int(container.output)
        assert observe.alive(left)
        container.delete().ok()
    observe.eventually(lambda: not observe.alive(left), "what outlived init is dead")
    assert os.getpid() != left
