"""User and time namespaces: whose ids and whose clocks a container has, and what enters them later."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe, terminals
from tests.host.bundles import DEFAULT_NAMESPACES
from tests.host.execs import detached, execute
from tests.host.terminals import ConsoleSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime

FIRST, SIZE = 100000, 65536
FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user"}
LINKS = "for name in /proc/self/ns/*; do readlink $name; done"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def mapping(inside: int, outside: int, size: int) -> dict[str, Json]:
    """One entry of the mappings."""
    return {"containerID": inside, "hostID": outside, "size": size}


def mapped(bundle: Bundle) -> Bundle:
    """The default bundle with a user namespace, whose root owns the root file system."""
    return bundle.mapped(FIRST, SIZE)


def with_time(bundle: Bundle, **offsets: Json) -> Bundle:
    """The default bundle with a time namespace."""
    bundle.namespaces(*DEFAULT_NAMESPACES, "time")
    return bundle.put(offsets, "linux", "timeOffsets") if offsets else bundle


def owner(pid: int) -> tuple[int, int]:
    """Whom the host takes the process for."""
    status = observe.status(pid)
    return int(status["Uid"].split()[0]), int(status["Gid"].split()[0])


def uptime(text: str) -> float:
    """The first number of /proc/uptime."""
    return float(text.split(maxsplit=1)[0])


def test_the_ids_are_those_of_the_mappings(runtime: Runtime, bundle: Bundle) -> None:
    mapped(bundle).put([mapping(0, FIRST, 500), mapping(500, 300000, 10)], "linux", "gidMappings")
    container = runtime.running(bundle.user(7, 503, 504).sleeping())
    assert owner(container.pid) == (FIRST + 7, 300003)
    assert observe.status(container.pid)["Groups"].split() == ["300004"]
    assert Path(f"/proc/{container.pid}/uid_map").read_text().split() == ["0", str(FIRST), str(SIZE)]
    told = Path(f"/proc/{container.pid}/gid_map").read_text().split()
    assert told == ["0", str(FIRST), "500", "500", "300000", "10"]


def test_root_in_the_container_is_nobody_special_outside(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(mapped(bundle).sleeping())
    assert owner(container.pid) == (FIRST, FIRST)
    assert observe.status(container.pid)["Groups"].split() == []


@pytest.mark.parametrize("kind", FILES)
def test_the_other_namespaces_belong_to_it(
    runtime: Runtime, bundle: Bundle, own_namespaces: dict[str, str], kind: str
) -> None:
    container = runtime.running(mapped(bundle).sleeping())
    assert observe.namespace(container.pid, FILES[kind]) != own_namespaces[FILES[kind]]


def test_what_is_mounted_belongs_to_the_root_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(mapped(bundle).writable().sleeping())
    for path in ("/dev", "/dev/shm", "/dev/pts", "/dev/mqueue"):  # noqa: S108 - in the container
        assert observe.inside(container.pid, path).stat().st_uid == FIRST, path


@pytest.mark.parametrize("name", DEVICES)
def test_the_default_devices_are_the_hosts(runtime: Runtime, bundle: Bundle, name: str) -> None:
    container = runtime.running(mapped(bundle).sleeping())
    found, own = observe.inside(container.pid, f"/dev/{name}").stat(), Path(f"/dev/{name}").stat()
    assert (found.st_rdev, found.st_mode, found.st_uid) == (own.st_rdev, own.st_mode, own.st_uid)


def test_a_device_can_be_used(runtime: Runtime, bundle: Bundle) -> None:
    assert (
        runtime.run(mapped(bundle).sh("echo x >/dev/null && head -c 2 /dev/zero | wc -c")).ok().stdout
        == "2\n"
    )


def test_a_source_that_only_the_hosts_root_reaches_is_bound(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    (scratch / "locked/deep").mkdir(parents=True)
    (scratch / "locked").chmod(0o700)
    (scratch / "locked/deep/file").write_text("here")
    mapped(bundle).writable().bind(scratch / "locked/deep", "/mnt", "ro")
    assert runtime.run(bundle.args("cat", "/mnt/file")).ok().stdout == "here"


def test_all_capabilities_can_be_given_that_the_caller_lacks(ocirun: Runtime, bundle: Bundle) -> None:
    every = [f"CAP_{name}" for name in ("SYS_ADMIN", "SYS_RESOURCE", "SYS_TIME", "CHOWN")]
    mapped(bundle).capabilities(bounding=every, effective=every, permitted=every)
    container = ocirun.running(bundle.sleeping())
    assert int(observe.status(container.pid)["CapEff"], 16) == 1 << 21 | 1 << 24 | 1 << 25 | 1


def test_a_parameter_is_set_in_it(runtime: Runtime, bundle: Bundle) -> None:
    mapped(bundle).put({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}, "linux", "sysctl")
    bundle.args("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")
    assert runtime.run(bundle).ok().stdout == "1\n4096\n"


def test_no_file_changes_its_owner(runtime: Runtime, bundle: Bundle) -> None:
    """The root file system is used as it is, owned by ids that are not mapped."""
    bundle.namespaces(*DEFAULT_NAMESPACES, "user")
    for member in ("uidMappings", "gidMappings"):
        bundle.put([mapping(0, FIRST, SIZE)], "linux", member)
    paths = (bundle.rootfs, *bundle.rootfs.rglob("*"))
    before = [path.lstat().st_uid for path in paths]
    assert set(before) == {0}
    assert runtime.run(bundle.args("stat", "-c", "%u", "/etc/passwd")).ok().stdout == "65534\n"
    assert [path.lstat().st_uid for path in paths] == before


def test_it_cannot_change_what_it_must_not_see(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """A file of the host's root that is bound writable stays unwritten."""
    file = scratch / "roots"
    file.write_text("precious")
    mapped(bundle).writable().bind(file, "/roots", "rw").file("roots", "")
    assert runtime.run(bundle.sh("echo gone >/roots")).code != 0
    assert file.read_text() == "precious"


def test_an_executed_process_is_in_it_as_well(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(mapped(bundle).sleeping())
    result = execute(container, "sh", "-c", f"id -u; cat /proc/self/uid_map; {LINKS}").ok()
    uid, uid_map, *found = result.stdout.splitlines()
    assert (uid, uid_map.split()) == ("0", ["0", str(FIRST), str(SIZE)])
    wanted = {observe.namespace(container.pid, kind) for kind in (*FILES.values(), "mnt")}
    assert wanted <= set(found)


def test_it_has_a_terminal_and_so_has_an_executed_process(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    mapped(bundle).put(True, "process", "terminal").sh("tty; ls -ln /dev/pts/0; sleep 1000")
    with ConsoleSocket(scratch / "console") as console:
        container = runtime.create(bundle, "--console-socket", str(console.path))
        master = console.receive()
        container.start()
        told = terminals.read_until(master, "/dev/pts/0\r\ncr").split()
        assert told[0] == "/dev/pts/0"
        flags = ("--tty", "--console-socket", str(console.path))
        detached(container, "sh", "-c", "tty; sleep 1000", flags=flags)
        assert terminals.read_until(console.receive(), "\n").strip() == "/dev/pts/1"


def test_a_created_container_holds_nothing_of_the_host(ocirun: Runtime, bundle: Bundle) -> None:
    """Its init waits with the two ends of the handshake, no procfs, no namespace, no device."""
    with_time(mapped(bundle)).namespaces(*DEFAULT_NAMESPACES, "user", "time")
    bundle.put({"net.ipv4.ip_forward": "1"}, "linux", "sysctl")
    container = ocirun.create(bundle.sleeping())

    def held() -> set[str]:
        opened = observe.descriptors(container.pid).items()
        return {Path(target).name for fd, target in opened if fd > 2}

    # it lets go of the socket after it has told through it that it waits
    observe.eventually(lambda: held() == {"gate", "proof"}, "it holds those two alone")


def test_it_cannot_be_looked_at_from_inside_before_the_start(ocirun: Runtime, bundle: Bundle) -> None:
    """Neither init nor what is executed is dumpable while it is ours (CVE-2016-9962)."""
    container = ocirun.create(mapped(bundle).sleeping())
    own = Path(f"/proc/{container.pid}/maps").stat()
    assert (own.st_uid, own.st_gid) == (0, 0)
    told = execute(container, "sh", "-c", "readlink /proc/1/exe || echo refused").stdout
    assert told == "refused\n"


def test_a_process_is_executed_before_the_start(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(mapped(bundle).sleeping())
    result = execute(container, "sh", "-c", "id -u; cat /proc/self/cgroup").ok()
    assert result.stdout.startswith("0\n")
    assert "0::/\n" in result.stdout


def test_one_that_exists_is_joined_with_those_it_owns(
    runtime: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle]
) -> None:
    first = runtime.running(mapped(bundle).sleeping())
    second = mapped(bundles("second")).drop("hostname").drop("linux", "uidMappings")
    second.drop("linux", "gidMappings").sleeping()
    listed: list[Json] = [
        {"type": kind, "path": f"/proc/{first.pid}/ns/{file}"} for kind, file in FILES.items()
    ]
    container = runtime.running(second.put([*listed, {"type": "mount"}], "linux", "namespaces"))
    for file in FILES.values():
        assert observe.namespace(container.pid, file) == observe.namespace(first.pid, file)
    assert owner(container.pid) == (FIRST, FIRST)
    container.kill()
    container.exit_status()


def joining(first: Container, bundle: Bundle, uids: list[Json]) -> Bundle:
    """A bundle that joins the user namespace of ``first``, and tells these mappings of it."""
    bundle.join("user", f"/proc/{first.pid}/ns/user")
    bundle.put(uids, "linux", "uidMappings").put([mapping(0, FIRST, SIZE)], "linux", "gidMappings")
    return bundle.sh("cat /proc/self/uid_map")


def test_one_that_is_joined_may_be_told_its_mappings(
    ocirun: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle]
) -> None:
    first = ocirun.running(mapped(bundle).sleeping())
    pieces: list[Json] = [mapping(5, FIRST + 5, SIZE - 5), mapping(0, FIRST, 5)]
    told = ocirun.run(joining(first, bundles("second"), pieces)).ok().stdout
    assert told.split() == ["0", str(FIRST), str(SIZE)]


def test_one_that_is_joined_has_the_mappings_that_are_told(
    runtime: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle]
) -> None:
    first = runtime.running(mapped(bundle).sleeping())
    result = runtime.attempt(joining(first, bundles("second"), [mapping(0, FIRST + 1, SIZE)]))
    result.refused()
    if runtime.name == "ocirun":
        result.refused("/linux/uidMappings: ", "is not what the user namespace has", f"0 {FIRST} {SIZE}")
        assert "gidMappings" not in result.stderr


def test_without_mappings_it_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.namespaces(*DEFAULT_NAMESPACES, "user")
    result = runtime.run(bundle.args("true"))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/linux/uidMappings", "/linux/gidMappings", "must be given")


def test_a_mapping_that_the_kernel_refuses_leaves_nothing(ocirun: Runtime, bundle: Bundle) -> None:
    mapped(bundle).put([mapping(0, 0xFFFFFFFE, 5)], "linux", "uidMappings")
    ocirun.attempt(bundle.args("true")).refused("uid")


def test_a_mapping_without_root_is_refused(ocirun: Runtime, bundle: Bundle) -> None:
    mapped(bundle).put([mapping(1, FIRST, 5)], "linux", "gidMappings")
    ocirun.attempt(bundle.args("true")).refused("/linux/gidMappings", "must map the id 0")


def test_a_time_namespace_is_new(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(with_time(bundle).sleeping())
    assert observe.namespace(container.pid, "time") != observe.namespace("self", "time")


def test_the_clocks_have_the_configured_offsets(runtime: Runtime, bundle: Bundle) -> None:
    with_time(bundle, boottime={"secs": 7200}, monotonic={"secs": 86400, "nanosecs": 5})
    bundle.args("cat", "/proc/uptime", "/proc/self/timens_offsets")
    told = runtime.run(bundle).ok().stdout
    offset = uptime(told) - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 7190 < offset < 7210
    assert [line.split() for line in told.splitlines()[1:]] == [
        ["monotonic", "86400", "5"], ["boottime", "7200", "0"],
    ]  # fmt: skip


def test_a_clock_before_its_beginning_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    with_time(bundle, boottime={"secs": -(1 << 40)})
    assert runtime.run(bundle.args("true")).code == 1


def test_the_offsets_hold_with_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    mapped(bundle).namespaces(*DEFAULT_NAMESPACES, "user", "time")
    bundle.put({"boottime": {"secs": 7200}}, "linux", "timeOffsets")
    offset = uptime(runtime.run(bundle.args("cat", "/proc/uptime")).ok().stdout)
    assert 7190 < offset - time.clock_gettime(time.CLOCK_BOOTTIME) < 7210


@pytest.mark.parametrize("users", [False, True])
def test_an_executed_process_has_the_clocks_of_the_container(
    runtime: Runtime, bundle: Bundle, *, users: bool
) -> None:
    with_time(bundle, boottime={"secs": 7200})
    if users:
        mapped(bundle).namespaces(*DEFAULT_NAMESPACES, "user", "time")
    container = runtime.running(bundle.sleeping())
    told = execute(container, "sh", "-c", "cat /proc/uptime; readlink /proc/self/ns/time").ok().stdout
    assert 7190 < uptime(told) - time.clock_gettime(time.CLOCK_BOOTTIME) < 7210
    assert told.splitlines()[1] == observe.namespace(container.pid, "time")


def test_a_time_namespace_is_joined(
    runtime: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle]
) -> None:
    first = runtime.running(with_time(bundle, boottime={"secs": 7200}).sleeping())
    second = bundles("second").join("time", f"/proc/{first.pid}/ns/time").sleeping()
    container = runtime.running(second)
    assert observe.namespace(container.pid, "time") == observe.namespace(first.pid, "time")


def test_the_mount_namespace_of_the_caller_is_not_joined(ocirun: Runtime, bundle: Bundle) -> None:
    before = observe.mounts("self")
    bundle.join("mount", f"/proc/{os.getpid()}/ns/mnt").args("true")
    ocirun.attempt(bundle).refused("/linux/namespaces/5/path", "EBUSY", "the host's own")
    assert observe.mounts("self") == before


def test_a_mount_namespace_is_joined(runtime: Runtime, bundle: Bundle) -> None:
    with subprocess.Popen(["unshare", "--mount", "--propagation", "slave", "sleep", "1000"]) as other:
        try:
            own = observe.namespace("self", "mnt")
            observe.eventually(lambda: observe.words(other.pid, "cmdline")[:1] == ["sleep"], "sleep runs")
            assert observe.namespace(other.pid, "mnt") != own
            container = runtime.running(bundle.join("mount", f"/proc/{other.pid}/ns/mnt").sleeping())
            assert observe.namespace(container.pid, "mnt") == observe.namespace(other.pid, "mnt")
            assert "bin" in os.listdir(observe.inside(container.pid, "/"))
            assert execute(container, "cat", "/proc/1/comm").ok().stdout == "sleep\n"
        finally:
            other.kill()
