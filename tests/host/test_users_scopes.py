"""Containers of a user whose own systemd makes the cgroup; he is in a cgroup that is not his, as at a login.

They need a machine with systemd as process 1 and the user that it has; tests/vm runs them in one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.limits import file, files, limited
from tests.host.users import has_manager, logged_in, of_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime
    from tests.host.view import View

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def user() -> int:
    """The number of the user, whose own systemd runs."""
    return has_manager()


@pytest.fixture
def users(runtime: Runtime, user: int, view: View) -> Runtime:
    """Each runtime in turn, with the user's systemd."""
    runtime.flags = ("--systemd-cgroup",)
    return logged_in(runtime, user, view)


@pytest.fixture
def ours(ocirun: Runtime, user: int, view: View) -> Runtime:
    """ocirun, with the user's systemd."""
    ocirun.flags = ("--systemd-cgroup",)
    return logged_in(ocirun, user, view)


@pytest.fixture
def mine(bundle: Bundle, user: int) -> Bundle:
    """A bundle of the user's."""
    return of_user(bundle, user)


def _units(runtime: Runtime) -> str:
    """The units of the user's systemd that a container of this process has."""
    whole = runtime.command("x")
    words = (*whole[: whole.index(str(runtime.program))], "systemctl", "--user", "list-units", "--all")
    done = subprocess.run(
        (*words, "--plain", "--no-legend", "*-oh*.scope"), env=runtime.environment, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def _place(pid: int) -> str:
    """The cgroup of a process, without the one that crun makes below the scope."""
    return observe.cgroup(pid).removesuffix("/container")


def _sees(container: Container, name: str) -> str:
    return Path(f"/sys/fs/cgroup{_place(container.pid)}/{name}").read_text().strip()


def test_its_cgroup_is_a_scope_of_the_users_systemd(users: Runtime, mine: Bundle, user: int) -> None:
    mine.put("user.slice:t:" + (name := users.scratch.name), "linux", "cgroupsPath")
    container = users.running(mine.sleeping())
    manager = f"/user.slice/user-{user}.slice/user@{user}.service"
    assert _place(container.pid) == f"{manager}/user.slice/t-{name}.scope"
    container.delete("--force").ok()
    place = Path(f"/sys/fs/cgroup{manager}/user.slice/t-{name}.scope")
    observe.eventually(lambda: not place.exists(), "the scope is gone")


def test_limits_hold(users: Runtime, mine: Bundle) -> None:
    limited(mine, memory={"limit": 64 * MIB}, pids={"limit": 20}, cpu={"quota": 50000, "period": 100000})
    container = users.running(mine)
    expected = {"memory.max": f"{64 * MIB}", "pids.max": "20", "cpu.max": "50000 100000"}
    assert {name: _sees(container, name) for name in expected} == expected


def test_the_kernel_kills_who_takes_more(ours: Runtime, mine: Bundle) -> None:
    limited(mine, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    result = ours.run(mine.sh("dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?"))
    assert "137" in result.stdout


def test_nothing_is_left_of_it(ours: Runtime, mine: Bundle) -> None:
    container = ours.running(mine.sleeping())
    assert container.id in _units(ours)
    ours.flags = ()  # the journal tells who has made it
    container.delete("--force").ok()
    observe.eventually(lambda: not _units(ours), "systemd has forgotten it")


def test_nothing_is_left_of_a_create_that_fails(ours: Runtime, mine: Bundle) -> None:
    ours.attempt(mine.args("/not/there")).refused("/process/args/0")
    observe.eventually(lambda: not _units(ours), "systemd has forgotten it")


def test_a_process_is_executed_from_anywhere(users: Runtime, mine: Bundle) -> None:
    """Though the nearest cgroup above both belongs to root: systemd is asked to move whoever goes in."""
    container = users.running(mine.sleeping())
    assert _place(execs.sleeping(container)) == _place(container.pid)


def test_a_process_may_come_through_a_pipe(ours: Runtime, mine: Bundle, user: int) -> None:
    """Which can be read once, though another interpreter is needed to speak with systemd."""
    container = ours.running(mine.sleeping())
    reading, writing = os.pipe()
    try:
        os.fchown(reading, user, user)
        os.write(writing, execs.process(container, "cat", "/proc/self/cgroup").read_bytes())
        os.close(writing)
        told = ours.call("exec", "--process", "/dev/stdin", container.id, stdin=reading).ok().stdout
    finally:
        os.close(reading)
    assert told == "0::/\n"


def test_a_process_is_executed_where_init_lives_below_the_scope(
    ours: Runtime, mine: Bundle, user: int
) -> None:
    mine.put({"run.oci.systemd.subgroup": "inner/one"}, "annotations")
    container = ours.running(mine.sleeping())
    assert observe.cgroup(container.pid).endswith(".scope/inner/one")
    assert observe.cgroup(execs.sleeping(container)) == observe.cgroup(container.pid)
    deeper = Path(f"/sys/fs/cgroup{observe.cgroup(container.pid)}/deeper")
    deeper.mkdir()
    for path in (deeper, deeper / "cgroup.procs"):
        os.chown(path, user, user)
    pid = execs.sleeping(container, "--cgroup", "deeper")
    assert observe.cgroup(pid) == f"{observe.cgroup(container.pid)}/deeper"


def test_who_cannot_ask_systemd_is_told_so(ours: Runtime, mine: Bundle) -> None:
    container = ours.running(mine.sleeping())
    ours.environment |= {"XDG_RUNTIME_DIR": "/not/there", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/not/there"}
    result = execs.execute(container, "true")
    assert result.code == 255
    assert "no D-Bus of the user's manager is there" in result.stderr


def test_limits_are_changed_from_anywhere(users: Runtime, mine: Bundle) -> None:
    container = users.running(limited(mine, memory={"limit": 64 * MIB}, pids={"limit": 20}))
    users.call("update", "--memory", f"{32 * MIB}", "--pids-limit", "30", container.id).ok()
    assert (_sees(container, "memory.max"), _sees(container, "pids.max")) == (f"{32 * MIB}", "30")


def test_what_was_written_before_a_refusal_is_taken_back(ours: Runtime, mine: Bundle) -> None:
    container = ours.running(limited(mine, memory={"limit": 64 * MIB}, pids={"limit": 20}))
    before = files(container, "memory.max", "pids.max")
    path = ours.file("resources")
    path.write_text(json.dumps({"pids": {"limit": 30}, "blockIO": {"weight": 100}}))
    path.chmod(0o644)
    ours.call("update", "--resources", str(path), container.id).refused("/linux/resources/blockIO/weight")
    assert files(container, "memory.max", "pids.max") == before


def test_it_is_paused_and_goes_on(users: Runtime, mine: Bundle) -> None:
    container = users.running(mine.sleeping())
    users.call("pause", container.id).ok()
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "paused"
    users.call("resume", container.id).ok()
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "running"


def test_what_lives_in_it_is_told_and_signalled(ours: Runtime, mine: Bundle) -> None:
    container = ours.running(mine.sleeping())
    second = execs.sleeping(container)
    assert json.loads(ours.call("ps", "--format", "json", container.id).ok().stdout) == sorted(
        (container.pid, second)
    )
    told = json.loads(ours.call("events", "--stats", container.id).ok().stdout)
    assert told["data"]["pids"]["current"] == 2
    ours.call("kill", "--all", container.id, "KILL").ok()
    observe.eventually(lambda: not observe.alive(second), "all end")
    container.end_executed()
    container.wait()


def test_a_controller_that_was_not_delegated_is_told(ours: Runtime, mine: Bundle, user: int) -> None:
    ours.attempt(limited(mine, blockIO={"weight": 100})).refused(
        f"the io controller is not delegated to this user: /user.slice/user-{user}.slice/user@{user}.service "
        "offers cpu memory pids",
        "/linux/resources/blockIO/weight]",
        "systemctl edit user@.service",
        "Delegate=cpu io memory pids",
    )
    observe.eventually(lambda: not _units(ours), "systemd has forgotten it")


def test_a_place_that_is_no_scope_is_told(ours: Runtime, mine: Bundle) -> None:
    mine.put("/some/where", "linux", "cgroupsPath")
    ours.attempt(mine.sleeping()).refused('must be "slice:prefix:name"', "/linux/cgroupsPath")


@pytest.fixture
def inside(ours: Runtime) -> Iterator[Runtime]:
    """ocirun, executed by the root of a user namespace that the user holds."""
    unshare, nsenter = shutil.which("unshare"), shutil.which("nsenter")
    assert unshare
    assert nsenter
    held = (*ours.prefix, unshare, "--user", "--map-root-user", "--mount", "sleep", "1000")
    with subprocess.Popen(held) as holder:
        try:
            observe.eventually(lambda: observe.words(holder.pid, "cmdline")[:1] == ["sleep"], "it is mapped")
            place = f"/proc/{holder.pid}/ns"
            enter = (nsenter, "--preserve-credentials", f"--user={place}/user", f"--mount={place}/mnt", "--")
            ours.prefix = (*ours.prefix, *enter)
            yield ours
            ours.clean_up()
        finally:
            holder.kill()


def test_root_of_a_user_namespace_has_one_too(inside: Runtime, mine: Bundle) -> None:
    """As Podman calls a runtime for an ordinary user."""
    mine.drop("linux", "uidMappings").drop("linux", "gidMappings")
    mine.namespaces("pid", "ipc", "uts", "mount", "cgroup")
    container = inside.running(limited(mine, pids={"limit": 20}))
    assert file(container, "pids.max") == "20"
    assert observe.cgroup(execs.sleeping(container)) == observe.cgroup(container.pid)
    inside.call("update", "--pids-limit", "30", container.id).ok()
    assert file(container, "pids.max") == "30"
