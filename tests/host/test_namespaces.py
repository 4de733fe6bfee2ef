"""Namespaces: new when listed, joined when there is a path, inherited when not listed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: Type in config.json and name below /proc/PID/ns.
FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup"}


@pytest.mark.parametrize("kind", FILES)
def test_a_listed_namespace_is_new(
    runtime: Runtime, bundle: Bundle, own_namespaces: dict[str, str], kind: str
) -> None:
    container = runtime.running(bundle.sleeping())
    assert observe.namespace(container.pid, FILES[kind]) != own_namespaces[FILES[kind]]


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_a_namespace_that_is_not_listed_is_inherited(
    runtime: Runtime, bundle: Bundle, own_namespaces: dict[str, str], kind: str
) -> None:
    bundle.drop("hostname").without_namespace(kind).sleeping()
    if kind == "network":  # a new sysfs shows a network namespace; mounting it needs one that is ours
        bundle.without_mount("/sys").without_mount("/sys/fs/cgroup").bind("/sys", "/sys", "rbind", "ro")
    if kind == "ipc":
        bundle.without_mount("/dev/mqueue")
    container = runtime.running(bundle)
    assert observe.namespace(container.pid, FILES[kind]) == own_namespaces[FILES[kind]]


def test_a_container_needs_a_mount_namespace_of_its_own(ocirun: Runtime, bundle: Bundle) -> None:
    done = ocirun.run(bundle.without_namespace("mount").args("true"))
    done.refused("/linux/namespaces", "must list a mount namespace")
    assert str(bundle.path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_a_namespace_with_a_path_is_joined(
    runtime: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle], kind: str
) -> None:
    first = runtime.running(bundle.sleeping())
    second = bundles("second").drop("hostname").sleeping()
    container = runtime.running(second.join(kind, f"/proc/{first.pid}/ns/{FILES[kind]}"))
    assert observe.namespace(container.pid, FILES[kind]) == observe.namespace(first.pid, FILES[kind])
    # A pid namespace ends when all in it are reaped, which is up to the parent of each, here us.
    container.kill()
    container.exit_status()


def test_the_user_namespace_is_inherited_by_default(
    runtime: Runtime, bundle: Bundle, own_namespaces: dict[str, str]
) -> None:
    container = runtime.running(bundle.sleeping())
    assert observe.namespace(container.pid, "user") == own_namespaces["user"]


def test_a_path_to_a_namespace_of_another_type_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop("hostname").join("uts", f"/proc/{os.getpid()}/ns/ipc")
    assert runtime.run(bundle.args("true")).code == 1


def test_a_path_that_does_not_exist_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.join("network", "/run/no/such/namespace").args("true")).code == 1


def test_the_program_is_process_one_of_its_namespace(runtime: Runtime, bundle: Bundle) -> None:
    assert observe.status(runtime.running(bundle.sleeping()).pid)["NSpid"].split()[-1] == "1"


def test_the_hostname_is_the_configured_one(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.put("here", "hostname").args("hostname")).ok().stdout == "here\n"


def test_the_hostname_of_the_host_stays(runtime: Runtime, bundle: Bundle) -> None:
    before = os.uname().nodename
    runtime.running(bundle.put("here", "hostname").sleeping())
    assert os.uname().nodename == before


def test_loopback_is_up_in_a_new_network_namespace(runtime: Runtime, bundle: Bundle) -> None:
    output = runtime.run(bundle.sh("ip link show lo; ip addr show lo")).ok().stdout
    assert ",UP" in output
    assert "inet 127.0.0.1/8" in output


def test_a_new_network_namespace_has_no_interface_but_loopback(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.sh("ls /sys/class/net")).ok().stdout.split() == ["lo"]


def test_the_container_is_in_a_cgroup_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    assert container.id in observe.cgroup(container.pid)


def test_the_configured_cgroups_path_is_used(runtime: Runtime, bundle: Bundle) -> None:
    path = f"/oh-parent-{os.getpid()}"
    container = runtime.running(bundle.put(f"{path}/child", "linux", "cgroupsPath").sleeping())
    try:
        assert observe.cgroup(container.pid) == f"{path}/child"
    finally:
        container.delete("--force").ok()
        if runtime.name != "ocirun":  # the peers leave the parents that they made
            os.rmdir(f"/sys/fs/cgroup{path}")


def test_the_cgroup_namespace_begins_at_the_cgroup_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    assert "0::/\n" in runtime.run(bundle.args("cat", "/proc/self/cgroup")).ok().stdout


def test_processes_of_the_container_die_with_its_first(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.sh("sleep 1000 & sleep 1000 & exit 4")).code == 4


@pytest.mark.parametrize("kind", ["pid", "cgroup"])
def test_processes_left_without_a_pid_namespace_die_at_the_end(
    runtime: Runtime, bundle: Bundle, kind: str
) -> None:
    bundle.without_namespace(kind).sh("sleep 1000 & exit 4").write()
    seconds = 5 if runtime.name == "crun" else 30  # which is known to wait for ever
    assert runtime.call("run", "--bundle", str(bundle.path), new_id(), timeout=seconds).code == 4
