"""Commands from other places than the one the container was created in, and containers that were moved."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.host import observe
from tests.host.bundles import Bundle
from tests.host.runtimes import Runtime, new_id
from tests.host.view import View

OTHER_PIDS = ("unshare", "--pid", "--fork", "--mount-proc", "--mount")


def _from_other_pids(ocirun: Runtime, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*OTHER_PIDS, *ocirun.command(*args)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        start_new_session=True,
    )


def test_another_pid_namespace_cannot_mistake_a_running_container_for_a_stopped_one(
    ocirun: Runtime, bundle: Bundle
) -> None:
    container = ocirun.running(bundle.sleeping())
    for args in (("state", container.id), ("delete", container.id), ("kill", container.id, "TERM")):
        done = _from_other_pids(ocirun, *args)
        assert done.returncode == 1
        assert "another pid namespace" in done.stderr
    assert observe.alive(container.pid)


def test_kill_all_from_another_pid_namespace_hits_nobody_else(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    done = _from_other_pids(ocirun, "kill", "--all", container.id, "TERM")
    assert done.returncode == 1
    assert "another pid namespace" in done.stderr
    assert _from_other_pids(ocirun, "kill", "--all", container.id, "KILL").returncode == 0
    container.wait()


def test_an_init_that_was_moved_to_another_cgroup_dies_with_its_container(
    ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    container = ocirun.running(bundle.sleeping())
    elsewhere = view.cgroup2 / new_id()
    elsewhere.mkdir()
    (elsewhere / "cgroup.procs").write_text(str(container.pid))
    container.delete("--force").ok()
    assert not observe.alive(container.pid)
    observe.eventually(lambda: "populated 0" in (elsewhere / "cgroup.events").read_text(), "it is empty")
    elsewhere.rmdir()


def test_strangers_in_a_child_of_the_configured_cgroup_are_spared(
    ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    parent = view.cgroup2 / new_id()
    (parent / "child").mkdir(parents=True)
    with subprocess.Popen(("sleep", "1000")) as stranger:
        (parent / "child" / "cgroup.procs").write_text(str(stranger.pid))
        ocirun.attempt(bundle.put(f"/{parent.name}", "linux", "cgroupsPath")).refused("is not empty")
        assert stranger.poll() is None
        stranger.kill()
    observe.eventually(lambda: "populated 0" in (parent / "cgroup.events").read_text(), "it is empty")
    (parent / "child").rmdir()
    parent.rmdir()


def test_an_image_with_dev_as_a_link_cannot_have_devices_made_elsewhere(
    ocirun: Runtime, bundle: Bundle
) -> None:
    (bundle.path / "host").mkdir()
    (bundle.path / "host" / "ptmx").write_text("precious")
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to("/hostdev")
    bundle.bind("host", "/hostdev")
    ocirun.attempt(bundle).refused("ELOOP")
    for mount in ("/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"):  # noqa: S108
        bundle.without_mount(mount)
    ocirun.attempt(bundle).refused("ELOOP")
    assert (bundle.path / "host" / "ptmx").read_text() == "precious"
    assert sorted(os.listdir(bundle.path / "host")) == ["ptmx"]


def test_a_pid_file_is_not_written_through_a_link(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    victim = scratch / "victim"
    victim.write_text("precious")
    (scratch / ".pid").symlink_to(victim)
    ocirun.run(bundle.args("true"), "--pid-file", str(scratch / "pid")).ok()
    assert victim.read_text() == "precious"
    assert (scratch / "pid").read_text().isdigit()
    assert not (scratch / "pid").is_symlink()
