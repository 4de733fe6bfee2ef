"""ocirun in the host's own view, whatever layout of cgroups it has: hybrid hosts are hosts too."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.view import View


def test_a_container_runs(ocirun_outside: Runtime, bundle: Bundle) -> None:
    assert ocirun_outside.run(bundle.sh("echo hello; exit 3")).stdout == "hello\n"


def test_the_container_is_in_the_cgroup2_hierarchy(ocirun_outside: Runtime, bundle: Bundle) -> None:
    container = ocirun_outside.running(bundle.sleeping())
    assert container.id in observe.cgroup(container.pid)


def test_the_container_sees_its_cgroup(ocirun_outside: Runtime, bundle: Bundle) -> None:
    container = ocirun_outside.running(bundle.sleeping())
    assert observe.mount_at(container.pid, "/sys/fs/cgroup").kind == "cgroup2"
    assert observe.inside(container.pid, "/sys/fs/cgroup/cgroup.procs").read_text().split()


def test_features_are_the_same_on_a_host_that_has_nothing(ocirun_outside: Runtime) -> None:
    here = ocirun_outside.call("features").ok().stdout
    bare = (
        "mount -t tmpfs none /sys && mount -t tmpfs none /proc/sys && exec setpriv --reuid=65534 $0 features"
    )
    done = subprocess.run(
        ("unshare", "--mount", "sh", "-c", bare, ocirun_outside.program),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == here
    assert '"mountOptions"' in here


#: A limit of each controller: the member of /linux/resources, its value, and where the error has to point.
LIMITS: dict[str, tuple[str, Json, str]] = {
    "memory": ("memory", {"limit": 1 << 26}, "memory/limit"),
    "cpu": ("cpu", {"shares": 512}, "cpu/shares"),
    "cpuset": ("cpu", {"cpus": "0"}, "cpu/cpus"),
    "pids": ("pids", {"limit": 20}, "pids/limit"),
    "io": ("blockIO", {"weight": 100}, "blockIO/weight"),
    "hugetlb": ("hugepageLimits", [{"pageSize": "2MB", "limit": 1 << 21}], "hugepageLimits/0"),
    "rdma": ("rdma", {"mlx5_1": {"hcaHandles": 3}}, "rdma/mlx5_1"),
    "misc": ("unified", {"misc.max": "res_a 1"}, "unified/misc.max"),
}


@pytest.mark.parametrize("controller", LIMITS)
def test_a_limit_says_where_its_controller_is(
    ocirun_outside: Runtime, bundle: Bundle, view: View, controller: str
) -> None:
    """What the kernel says of each hierarchy is the measure, whatever this host has where."""
    member, value, place = LIMITS[controller]
    legacy = {
        name
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        for name in line.split(":")[1].split(",")
    }
    bundle.sleeping().put(value, "linux", "resources", member)
    if controller in (view.cgroup2 / "cgroup.controllers").read_text().split():
        if controller in {"hugetlb", "rdma", "misc"}:
            pytest.skip("what the kernel says of the value depends on the devices of this host")
        ocirun_outside.create(bundle)
        return
    result = ocirun_outside.attempt(bundle)
    result.refused(f"the {controller} controller is not on cgroup2", f"/linux/resources/{place}]")
    on_v1 = {"io": "blkio"}.get(controller, controller) in legacy
    assert ("on this hybrid host it is on cgroup v1" in result.stderr) is on_v1


def test_all_limits_without_a_controller_are_told_at_once(
    ocirun_outside: Runtime, bundle: Bundle, view: View
) -> None:
    there = (view.cgroup2 / "cgroup.controllers").read_text().split()
    for controller in ("memory", "pids"):
        if controller in there:
            pytest.skip(f"this host has the {controller} controller on cgroup2")
        member, value, _ = LIMITS[controller]
        bundle.put(value, "linux", "resources", member)
    told = ocirun_outside.attempt(bundle.sleeping())
    told.refused("the memory controller is not on cgroup2", "the pids controller is not on cgroup2")


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
