"""What is written to /proc for the container: kernel parameters and the OOM score; and the domain name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.execs import process

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: A parameter of each kind of namespace, another value than a new namespace has, and its file.
PARAMETERS = {
    "net.ipv4.ip_forward": "1",
    "net/ipv4/conf/all/forwarding": "1",
    "net.ipv4.ping_group_range": "5\t6",
    "kernel.shm_rmid_forced": "1",
    "kernel.msgmax": "4096",
    "fs.mqueue.msg_max": "8",
    "kernel.domainname": "example.org",
}


def parameter(name: str) -> str:
    """The file of a parameter in a container."""
    return f"/proc/sys/{name if '/' in name else name.replace('.', '/')}"


def score(pid: int | str) -> int:
    """The score of a process as the host sees it."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_the_domain_name_is_the_configured_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put("example.org", "domainname").args("cat", "/proc/sys/kernel/domainname")
    before = Path("/proc/sys/kernel/domainname").read_text()
    assert runtime.run(bundle).ok().stdout == "example.org\n"
    assert Path("/proc/sys/kernel/domainname").read_text() == before


@pytest.mark.parametrize("member", ["hostname", "domainname"])
def test_a_name_without_a_uts_namespace_is_refused(runtime: Runtime, bundle: Bundle, member: str) -> None:
    before = os.uname()
    bundle.drop("hostname").without_namespace("uts").put("elsewhere", member)
    assert runtime.run(bundle.args("true")).code == 1
    assert os.uname() == before


@pytest.mark.parametrize("member", ["hostname", "domainname"])
def test_a_parameter_does_not_contradict_a_name(runtime: Runtime, bundle: Bundle, member: str) -> None:
    bundle.put("told", member).put({f"kernel.{member}": "other"}, "linux", "sysctl")
    assert runtime.run(bundle.args("true")).code == 1


def test_a_parameter_may_say_what_a_name_does(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put("told", "hostname").put({"kernel.hostname": "told"}, "linux", "sysctl")
    assert ocirun.run(bundle.args("hostname")).ok().stdout == "told\n"


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_the_configured_value_in_the_container_alone(
    runtime: Runtime, bundle: Bundle, name: str
) -> None:
    before = Path(parameter(name)).read_text()
    bundle.put({name: PARAMETERS[name]}, "linux", "sysctl").args("cat", parameter(name))
    assert runtime.run(bundle).ok().stdout == PARAMETERS[name] + "\n"
    assert Path(parameter(name)).read_text() == before


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "fs.file-max"])
def test_a_parameter_of_the_host_is_refused(runtime: Runtime, bundle: Bundle, name: str) -> None:
    before = Path(parameter(name)).read_text()
    assert runtime.run(bundle.put({name: "1"}, "linux", "sysctl").args("true")).code == 1
    assert Path(parameter(name)).read_text() == before


@pytest.mark.parametrize(("name", "kind"), [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc")])
def test_a_parameter_without_its_namespace_is_refused(
    runtime: Runtime, bundle: Bundle, name: str, kind: str
) -> None:
    before = Path(parameter(name)).read_text()
    bundle.without_namespace(kind).put({name: "1"}, "linux", "sysctl")
    assert runtime.run(bundle.args("true")).code == 1
    assert Path(parameter(name)).read_text() == before


def test_a_parameter_that_the_kernel_does_not_have(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put({"net.ipv4.no_such_thing": "1"}, "linux", "sysctl").args("true")
    ocirun.attempt(bundle).refused("/linux/sysctl/net.ipv4.no_such_thing", "ENOENT", "no such parameter")


def test_a_value_that_the_kernel_refuses(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put({"net.ipv4.ip_forward": "many"}, "linux", "sysctl").args("true")
    ocirun.attempt(bundle).refused("/linux/sysctl/net.ipv4.ip_forward", "EINVAL", "refused the value")


def test_a_parameter_is_written_though_the_image_brings_its_own_proc(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    """What lies at /proc in the container gets nothing (CVE-2025-52881, CVE-2019-16884)."""
    fake, trap = scratch / "fake", scratch / "trap"
    (fake / "sys/net/ipv4").mkdir(parents=True)
    trap.write_text("untouched")
    (fake / "sys/net/ipv4/ip_forward").symlink_to(trap)
    bundle.without_mount("/proc").bind(fake, "/proc", "rw").bind(scratch, str(scratch), "rw")
    bundle.mount("/tmp", "proc", "proc")  # noqa: S108 - in the container
    bundle.put([], "linux", "maskedPaths").put([], "linux", "readonlyPaths")
    bundle.put({"net.ipv4.ip_forward": "1"}, "linux", "sysctl").put(True, "root", "readonly")
    bundle.directory(str(scratch))
    result = runtime.run(bundle.args("cat", "/tmp/sys/net/ipv4/ip_forward"))  # noqa: S108
    assert trap.read_text() == "untouched"
    assert result.ok().stdout == "1\n"


def test_a_parameter_is_not_written_to_what_is_mounted_over_it(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    trap = scratch / "trap"
    trap.write_text("untouched")
    bundle.bind(trap, "/proc/sys/net/ipv4/ip_forward", "rw").mount("/tmp", "proc", "proc")  # noqa: S108
    bundle.put({"net.ipv4.ip_forward": "1"}, "linux", "sysctl")
    result = runtime.run(bundle.args("cat", "/tmp/sys/net/ipv4/ip_forward"))  # noqa: S108
    assert trap.read_text() == "untouched"
    assert result.ok().stdout == "1\n"


@pytest.mark.parametrize("value", [0, 100, 1000])
def test_the_oom_score_is_the_configured_one(runtime: Runtime, bundle: Bundle, value: int) -> None:
    container = runtime.running(bundle.put(value, "process", "oomScoreAdj").sleeping())
    assert score(container.pid) == max(value, score("self"))


def test_without_an_oom_score_it_is_that_of_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    runtime.prefix = ("sh", "-c", 'echo 77 >/proc/self/oom_score_adj; exec "$@"', "sh")
    assert score(runtime.running(bundle.sleeping()).pid) == 77


def test_a_score_below_the_callers_that_may_not_be_set(ocirun: Runtime, bundle: Bundle) -> None:
    ocirun.prefix = ("setpriv", "--bounding-set", "-sys_resource")
    bundle.put(-5, "process", "oomScoreAdj").args("true")
    ocirun.attempt(bundle).refused("/process/oomScoreAdj", "EACCES", "CAP_SYS_RESOURCE")


def test_an_executed_process_has_its_own_score(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.put(100, "process", "oomScoreAdj").sleeping())
    file = process(container, "cat", "/proc/self/oom_score_adj", oomScoreAdj=300)
    assert runtime.call("exec", "--process", str(file), container.id).ok().stdout == "300\n"
    assert score(container.pid) == 100
    assert observe.alive(container.pid)
