"""Containers of an ordinary user who has no cgroup to give: what he can do, and what he is told he cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import kernel, observe, terminals
from tests.host.bundles import DEFAULT_NAMESPACES
from tests.host.deaths import nothing_remains
from tests.host.execs import execute
from tests.host.runtimes import new_id
from tests.host.terminals import ConsoleSocket
from tests.host.users import UID, as_user, of_user, one_id, owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

MIB = 1 << 20
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def users(runtime: Runtime) -> Runtime:
    """Each runtime in turn, executed by the user."""
    return as_user(runtime)


@pytest.fixture
def ours(ocirun: Runtime) -> Runtime:
    """ocirun, executed by the user."""
    return as_user(ocirun)


def test_a_container_runs(users: Runtime, bundle: Bundle) -> None:
    result = users.run(of_user(bundle).sh("id -u; cat /proc/self/uid_map; exit 3"))
    assert (result.code, result.stdout.split()) == (3, ["0", "0", str(UID), "1"])


def test_it_is_the_users_on_the_host(users: Runtime, bundle: Bundle) -> None:
    container = users.running(of_user(bundle).sleeping())
    assert owner(container.pid) == UID
    status = observe.status(container.pid)
    assert status["Gid"].split() == [str(UID)] * 4
    assert status["Groups"].split() == []
    for kind in ("user", "pid", "mnt", "ipc", "uts", "cgroup"):
        assert observe.namespace(container.pid, kind) != observe.namespace("self", kind), kind
    assert observe.namespace(container.pid, "net") == observe.namespace("self", "net")


def test_its_life_from_create_to_delete(users: Runtime, bundle: Bundle) -> None:
    container = users.create(of_user(bundle).sleeping())
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "created"
    container.start()
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "running"
    listed = json.loads(users.call("list", "--format", "json").ok().stdout)
    assert [one["id"] for one in listed] == [container.id]
    assert execute(container, "sh", "-c", "id -u; exit 7").code == 7
    container.kill("TERM").ok()
    container.kill("KILL").ok()
    assert container.exit_status() == 137
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "stopped"
    container.delete().ok()
    users.call("state", container.id).refused("does not exist")


def test_an_executed_process_lives_where_init_lives(users: Runtime, bundle: Bundle) -> None:
    container = users.running(of_user(bundle).sleeping())
    told = execute(container, "sh", "-c", "for name in /proc/self/ns/*; do readlink $name; done").ok().stdout
    for kind in ("user", "pid", "mnt", "ipc", "uts", "net"):
        assert observe.namespace(container.pid, kind) in told.split(), kind


def test_a_process_is_executed_before_the_start(users: Runtime, bundle: Bundle) -> None:
    container = users.create(of_user(bundle).sleeping())
    assert execute(container, "id", "-u").ok().stdout == "0\n"


def test_the_processes_are_listed(ours: Runtime, bundle: Bundle) -> None:
    container = ours.running(of_user(bundle).sh("sleep 1000 & exec sleep 1001"))
    observe.eventually(lambda: len(observe.descendants(container.pid)) == 1, "both run")
    expected = sorted({container.pid, *observe.descendants(container.pid)})
    assert json.loads(ours.call("ps", "--format", "json", container.id).ok().stdout) == expected


def test_a_signal_for_all_reaches_all(ours: Runtime, bundle: Bundle) -> None:
    container = ours.running(
        of_user(bundle).sh("sleep 1000 & trap 'echo told' TERM; while :; do sleep 1; done")
    )
    observe.eventually(
        lambda: all(observe.executing(container.pid, "sleep", time) for time in ("1", "1000")), "all run"
    )
    (first,) = observe.executing(container.pid, "sleep", "1000")
    ours.call("kill", "--all", container.id, "TERM").ok()
    observe.eventually(
        lambda: "told" in container.output and not observe.alive(first), "all have heard of it"
    )


def test_with_init_all_end(users: Runtime, bundle: Bundle) -> None:
    container = users.running(of_user(bundle).sh("sleep 1000 & exec sleep 1001"))
    observe.eventually(lambda: len(observe.descendants(container.pid)) == 1, "both run")
    container.delete("--force").ok()
    observe.eventually(lambda: not observe.alive(container.pid), "it ends")


def test_a_terminal(users: Runtime, bundle: Bundle, scratch: Path) -> None:
    with ConsoleSocket(scratch / "console") as console:
        os.chown(scratch / "console", UID, UID)
        bundle = (
            of_user(bundle)
            .put(True, "process", "terminal")
            .sh("tty; test -e /dev/console && echo there; exec sleep 1000")
        )
        container = users.create(bundle, "--console-socket", str(console.path))
        master = console.receive()
        container.start()
        assert terminals.read_until(master, "there").startswith("/dev/pts/0\nthere")


def test_the_state_lies_in_the_runtime_directory(ours: Runtime, bundle: Bundle) -> None:
    container = new_id()
    of_user(bundle).sleeping().write()
    ours.command = lambda *args: [*ours.prefix, str(ours.program), *args]  # type: ignore[method-assign]
    ours.call("create", "--bundle", str(bundle.path), container).ok()
    place = ours.scratch / "run/ocirun" / container
    assert (place.stat().st_uid, place.stat().st_mode & 0o777) == (UID, 0o700)
    ours.call("delete", "--force", container).ok()
    assert not place.exists()
    (ours.scratch / "run/ocirun").rmdir()


def test_a_directory_of_the_user_alone_is_bound(users: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "own/deep").mkdir(parents=True)
    (scratch / "own/deep/file").write_text("here")
    for path in ("own", "own/deep", "own/deep/file"):
        os.chown(scratch / path, UID, UID)
    (scratch / "own").chmod(0o700)
    of_user(bundle.directory("mnt")).bind(scratch / "own/deep", "/mnt", "rbind")
    assert users.run(bundle.sh("cat /mnt/file; echo more >/mnt/new")).ok().stdout == "here"
    assert (scratch / "own/deep/new").stat().st_uid == UID


def test_a_source_that_the_user_may_not_reach_is_told(ours: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "locked/deep").mkdir(parents=True)
    (scratch / "locked").chmod(0o700)
    of_user(bundle.directory("mnt")).bind(scratch / "locked/deep", "/mnt", "rbind")
    result = ours.attempt(bundle.sleeping()).refused(f"{scratch}/locked", "/mounts/7/source")
    assert "search" in result.stderr


def test_mounts_below_a_source_cannot_be_left_out(ours: Runtime, bundle: Bundle, scratch: Path) -> None:
    """They may hide something from the user: the kernel binds it with them alone."""
    source = scratch / "source"
    (source / "below").mkdir(parents=True)
    kernel.mount("tmpfs", source / "below", "tmpfs")
    try:
        attempt = ours.attempt(of_user(bundle).sleeping().bind(source, "/mnt"))
        attempt.refused("EINVAL", "/source]", "mounts lie below it", "by rbind in place of bind")
        bundle.items("mounts").pop()
        assert ours.run(bundle.args("ls", "/mnt").bind(source, "/mnt", "rbind")).ok().stdout == "below\n"
    finally:
        kernel.umount(source / "below", kernel.MNT_DETACH)


@pytest.mark.parametrize("option", ["gid=5", "uid=5"])
def test_an_owner_who_is_not_mapped_is_explained(ours: Runtime, bundle: Bundle, option: str) -> None:
    """As configs for root give the terminals to the group 5, tty."""
    kind = option[:3]
    of_user(bundle).without_mount("/dev/pts").mount("/dev/pts", "devpts", "devpts", "newinstance", option)
    ours.attempt(bundle.sleeping()).refused(
        f"has the user namespace of the container no such {kind}?",
        f"map it in linux.{kind}Mappings, which takes a range in /etc/sub{kind}",
    )


def test_hooks_run_as_the_user(users: Runtime, bundle: Bundle, scratch: Path) -> None:
    hook: Json = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; id -u >{scratch}/told"]}
    of_user(bundle).put({"createRuntime": [hook]}, "hooks")
    users.run(bundle.args("true")).ok()
    assert (scratch / "told").read_text() == f"{UID}\n"


def test_a_program_that_is_missing_is_explained(ours: Runtime, bundle: Bundle) -> None:
    bundle.file("/bin/script", "#!/bin/perl\n", 0o755)
    container = ours.create(of_user(bundle).args("/bin/script"))
    ours.call("start", container.id).refused("/process/args/0", "the interpreter /bin/perl")


@pytest.mark.parametrize("closed", [True, False])
def test_a_profile_of_system_calls(users: Runtime, bundle: Bundle, closed: bool) -> None:
    """Without noNewPrivileges it takes CAP_SYS_ADMIN, which he has in his user namespace."""
    rule: Json = {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    of_user(bundle).put({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}, "linux", "seccomp")
    admin = ["CAP_SYS_ADMIN"]
    bundle.capabilities(bounding=admin, effective=admin, permitted=admin)
    result = users.run(bundle.put(closed, "process", "noNewPrivileges").sh("hostname other; echo $?"))
    assert result.ok().stdout == "1\n"
    assert "not supported" in result.stderr


def test_a_network_of_its_own(users: Runtime, bundle: Bundle) -> None:
    of_user(bundle).items("linux", "namespaces").append({"type": "network"})
    bundle.put({"net.ipv4.ip_forward": "1"}, "linux", "sysctl")
    script = "cat /proc/sys/net/ipv4/ip_forward; ip -o link | grep -c UP"
    assert users.run(bundle.sh(script)).ok().stdout.split() == ["1", "1"]


def test_clocks_of_its_own(ours: Runtime, bundle: Bundle) -> None:
    of_user(bundle).items("linux", "namespaces").append({"type": "time"})
    bundle.put({"boottime": {"secs": 5000000}}, "linux", "timeOffsets")
    told = ours.run(bundle.args("cat", "/proc/uptime")).ok().stdout
    assert float(told.split()[0]) > 5000000


def test_a_score_for_the_lack_of_memory(users: Runtime, bundle: Bundle) -> None:
    container = users.running(of_user(bundle).put(500, "process", "oomScoreAdj").sleeping())
    assert Path(f"/proc/{container.pid}/oom_score_adj").read_text() == "500\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_remains_when_it_is_killed_before_any_step(ours: Runtime, bundle: Bundle) -> None:
    """Law 4, as tests/host/test_killed_at_every_step.py has it for root."""
    nothing_remains(ours, of_user(bundle).sleeping().write().path)


# -- what cannot be


def test_there_is_no_cgroup_to_show(ours: Runtime, bundle: Bundle) -> None:
    """The whole tree of the host in its place would be CVE-2023-25809."""
    of_user(bundle).namespaces("pid", "ipc", "uts", "mount", "user")
    ours.attempt(bundle.sleeping()).refused("has none to show", "/mounts/6]", '{"type": "cgroup"}')


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        ("memory", {"limit": 64 * MIB}),
        ("pids", {"limit": 20}),
        ("cpu", {"shares": 512}),
        ("unified", {"a.b": "1"}),
    ],
)
def test_a_limit_needs_a_cgroup(ours: Runtime, bundle: Bundle, member: str, limit: Json) -> None:
    of_user(bundle).put(limit, "linux", "resources", member)
    ours.attempt(bundle.sleeping()).refused(
        "this user may make no cgroup",
        f"/linux/resources/{member}]",
        "systemd-run --user --scope -p Delegate=yes",
    )


def test_limits_that_ask_for_nothing_need_none(users: Runtime, bundle: Bundle) -> None:
    of_user(bundle).put({"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0}}, "linux", "resources")
    users.run(bundle.args("true")).ok()


def test_a_cgroup_that_is_asked_for_is_not_done_without(ours: Runtime, bundle: Bundle) -> None:
    ours.attempt(of_user(bundle).sleeping().put("some/where", "linux", "cgroupsPath")).refused(
        "this user may make no cgroup", "/linux/cgroupsPath]"
    )
    path = f"/{new_id()}"
    ours.attempt(bundle.put(path, "linux", "cgroupsPath")).refused(
        "EACCES", "/linux/cgroupsPath]", "delegated"
    )


def test_a_user_who_insists_on_a_cgroup_gets_none(ours: Runtime, bundle: Bundle) -> None:
    path = str(of_user(bundle).sleeping().write().path)
    ours.call("--rootless=false", "create", "--bundle", path, new_id()).refused(
        "may make no cgroup", "--rootless"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pause",), "cannot pause a container without a cgroup"),
        (("update", "--memory", "1000000"), "cannot limit a container without a cgroup"),
        (("events", "--stats"), "cannot count a container without a cgroup"),
        (("events",), "cannot count a container without a cgroup"),
    ],
)
def test_what_takes_a_cgroup_is_refused(
    ours: Runtime, bundle: Bundle, words: tuple[str, ...], told: str
) -> None:
    container = ours.running(of_user(bundle).sleeping())
    ours.call(*words, container.id).refused(told, "Delegate=yes")


# -- mappings


def _program(scratch: Path, name: str, script: str) -> None:
    """A program of that name, first on PATH."""
    (scratch / "path").mkdir(exist_ok=True)
    (scratch / "path" / name).write_text(f"#!/bin/sh\n{script}\n")
    (scratch / "path" / name).chmod(0o755)


def test_more_ids_take_a_program_that_maps_them(ours: Runtime, bundle: Bundle, scratch: Path) -> None:
    of_user(bundle).put([one_id(0, UID), one_id(1, 100000, 65536)], "linux", "uidMappings")
    ours.environment["PATH"] = str(scratch)
    ours.attempt(bundle.sleeping()).refused(
        "takes newuidmap, which is not on PATH", "/linux/uidMappings]", "package uidmap"
    )


@pytest.mark.parametrize("member", ["uidMappings", "gidMappings"])
def test_a_program_that_refuses_is_explained(
    ours: Runtime, bundle: Bundle, scratch: Path, member: str
) -> None:
    name = f"new{member[:3]}map"
    _program(scratch, name, f"echo {name}: range not allowed >&2; exit 1")
    ours.environment["PATH"] = f"{scratch}/path:{ours.environment['PATH']}"
    of_user(bundle).put([one_id(0, UID), one_id(1, 100000, 65536)], "linux", member)
    ours.attempt(bundle.sleeping()).refused(
        f"{scratch}/path/{name} refused: {name}: range not allowed",
        f"/linux/{member}/1]",
        f"/etc/sub{member[:3]} gives {UID} no ids, this takes 100000 to 165535",
        f"usermod --add-sub{member[:3]}s 100000-165535 {UID}",
    )


def test_a_program_that_only_says_it_has_mapped(ours: Runtime, bundle: Bundle, scratch: Path) -> None:
    _program(scratch, "newuidmap", "exit 0")
    ours.environment["PATH"] = f"{scratch}/path:{ours.environment['PATH']}"
    of_user(bundle).put([one_id(0, UID), one_id(1, 100000, 65536)], "linux", "uidMappings")
    ours.attempt(bundle.sleeping()).refused("setresuid", "/linux/uidMappings]")


@pytest.mark.parametrize(
    ("entries", "place", "told"),
    [
        ([one_id(0, UID, 10), one_id(5, 100000, 10)], "/linux/uidMappings/1/containerID", "overlaps"),
        ([one_id(0, UID, 10), one_id(10, UID + 9, 10)], "/linux/uidMappings/1/hostID", "overlaps"),
        ([], "/linux/uidMappings", "must be given"),
        ([one_id(1, UID)], "/linux/uidMappings", "must map the id 0"),
    ],
)
def test_a_mapping_that_no_kernel_takes(
    ours: Runtime, bundle: Bundle, entries: list[Json], place: str, told: str
) -> None:
    of_user(bundle).put(entries, "linux", "uidMappings")
    ours.attempt(bundle.sleeping()).refused(f" {place}: ", told)


def test_the_id_of_somebody_else_is_not_mapped(ours: Runtime, bundle: Bundle, scratch: Path) -> None:
    ours.environment["PATH"] = str(scratch)
    of_user(bundle).put([one_id(0, 0)], "linux", "uidMappings")
    ours.attempt(bundle.sleeping()).refused("takes newuidmap", "/linux/uidMappings]")


def test_groups_take_a_mapping_by_newgidmap(ours: Runtime, bundle: Bundle) -> None:
    ours.attempt(of_user(bundle).user(0, 0, 5).sleeping()).refused(
        " /process/user/additionalGids: ", "setgroups(2) is denied", "newgidmap"
    )


# -- root in a user namespace, as Podman and rootlesskit execute a runtime


FIRST = 300000


@pytest.fixture
def inside(runtime: Runtime) -> Iterator[Runtime]:
    """Each runtime in turn, executed by the root of a user namespace that somebody holds."""
    as_user(runtime, FIRST, FIRST)
    command = (sys.executable, "-m", "tests.host.mapped", str(FIRST), "65536", "sleep", "1000")
    with subprocess.Popen(command, cwd=REPOSITORY) as holder:
        try:
            observe.eventually(lambda: observe.words(holder.pid, "cmdline")[:1] == ["sleep"], "it is mapped")
            nsenter = shutil.which("nsenter")
            assert nsenter
            place = f"/proc/{holder.pid}/ns"
            runtime.prefix = (nsenter, f"--user={place}/user", f"--mount={place}/mnt", "-S0", "-G0", "--")
            yield runtime
            runtime.clean_up()
        finally:
            holder.kill()


def _inherited(bundle: Bundle) -> Bundle:
    """A bundle for who is in a user namespace: without one of its own, on the network of the caller."""
    of_user(bundle, FIRST)
    kinds = (kind for kind in DEFAULT_NAMESPACES if kind != "network")
    return bundle.namespaces(*kinds).drop("linux", "uidMappings").drop("linux", "gidMappings")


def test_root_of_a_user_namespace_runs_containers(inside: Runtime, bundle: Bundle) -> None:
    container = inside.running(_inherited(bundle).user(7, 8).sleeping())
    assert owner(container.pid) == FIRST + 7
    assert execute(container, "id", "-u").ok().stdout == "7\n"
    container.delete("--force").ok()
    assert not observe.alive(container.pid)


def test_root_of_a_user_namespace_sets_groups(inside: Runtime, bundle: Bundle) -> None:
    container = inside.running(_inherited(bundle).user(7, 8, 9).sleeping())
    assert observe.status(container.pid)["Groups"].split() == [str(FIRST + 9)]


def test_root_of_a_user_namespace_makes_another(inside: Runtime, bundle: Bundle) -> None:
    of_user(bundle, FIRST)
    for member in ("uidMappings", "gidMappings"):
        bundle.put([one_id(0, 1, 1000)], "linux", member)
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        if path.name != "busybox":
            os.chown(path, FIRST + 1, FIRST + 1, follow_symlinks=False)
    container = inside.running(bundle.user(7, 8).sleeping())
    assert owner(container.pid) == FIRST + 8


def test_where_groups_are_denied_none_are_asked_for(users: Runtime, bundle: Bundle) -> None:
    """unshare(1) maps the user himself, which takes setgroups(2) from all who come."""
    unshare = shutil.which("unshare")
    assert unshare
    users.prefix = (*users.prefix, unshare, "--user", "--map-root-user", "--mount", "--")
    container = users.running(_inherited(bundle).sleeping())
    assert owner(container.pid) in (UID, FIRST)
    assert Path(f"/proc/{container.pid}/setgroups").read_text() == "deny\n"


def test_root_does_without_a_cgroup_when_told(ocirun: Runtime, bundle: Bundle) -> None:
    """As where /sys/fs/cgroup is mounted read-only."""
    hide = 'mount -o remount,bind,ro /sys/fs/cgroup && exec "$0" "$@"'
    ocirun.prefix = ("unshare", "--mount", "sh", "-c", hide)
    bundle.without_mount("/sys/fs/cgroup").args("cat", "/proc/self/cgroup")
    path = str(bundle.write().path)
    ocirun.call("run", "--bundle", path, new_id()).refused("EROFS")
    assert ocirun.call("--rootless=true", "run", "--bundle", path, new_id()).ok().stdout.endswith("0::/\n")
