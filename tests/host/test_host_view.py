"""ocirun in the host's own view, whatever layout of cgroups it has: hybrid hosts are hosts too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


def test_a_container_runs(ocirun_outside: Runtime, bundle: Bundle) -> None:
    assert ocirun_outside.run(bundle.sh("echo hello; exit 3")).stdout == "hello\n"


def test_the_container_is_in_the_cgroup2_hierarchy(ocirun_outside: Runtime, bundle: Bundle) -> None:
    container = ocirun_outside.running(bundle.sleeping())
    assert container.id in observe.cgroup(container.pid)


def test_the_container_sees_its_cgroup(ocirun_outside: Runtime, bundle: Bundle) -> None:
    container = ocirun_outside.running(bundle.sleeping())
    assert observe.mount_at(container.pid, "/sys/fs/cgroup").kind == "cgroup2"
    assert observe.inside(container.pid, "/sys/fs/cgroup/cgroup.procs").read_text().split()


def test_device_rules_hold(ocirun_outside: Runtime, bundle: Bundle) -> None:
    makes = ["CAP_MKNOD"]
    bundle.capabilities(bounding=makes, effective=makes, permitted=makes)
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "mode=777")
    result = ocirun_outside.run(bundle.sh("mknod /mnt/other c 10 229; exec 3</mnt/other && echo opened"))
    assert result.stdout == ""
    assert "Operation not permitted" in result.stderr


def test_the_mounts_of_the_host_stay_as_they_are(ocirun_outside: Runtime, bundle: Bundle) -> None:
    def lines() -> list[str]:
        return [line for line in Path("/proc/1/mountinfo").read_text().splitlines() if "cgroup" in line]

    before = lines()
    container = ocirun_outside.running(bundle.sleeping())
    assert lines() == before
    container.delete("--force").ok()
    assert lines() == before
