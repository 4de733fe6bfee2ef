"""Containers that are to have no cgroup (--cgroup-manager disabled): they stay in that of their creator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.deaths import nothing_remains
from tests.host.execs import execute
from tests.host.runtimes import new_id
from tests.host.users import UID, as_user, of_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.view import View

MIB = 1 << 20
REPOSITORY = Path(__file__).parents[2]
#: runc has nothing like it.
BOTH = pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")


@pytest.fixture(autouse=True)
def _disabled(request: pytest.FixtureRequest) -> None:
    for name in ("runtime", "ocirun"):
        if name in request.fixturenames:
            request.getfixturevalue(name).flags = ("--cgroup-manager", "disabled")


@pytest.fixture
def callers(view: View) -> Iterator[Callable[[Runtime], str]]:
    """Moves a runtime into a cgroup of its own, whose path it gives."""
    made: list[Path] = []

    def move(runtime: Runtime) -> str:
        where = view.cgroup2 / new_id()
        where.mkdir()
        made.append(where)
        script = f'echo $$ >{where}/cgroup.procs && exec "$@"'
        runtime.prefix = ("sh", "-c", script, "sh")
        return f"/{where.name}"

    yield move
    observe.eventually(lambda: not any((one / "cgroup.procs").read_text() for one in made), "all have left")
    for where in made:
        where.rmdir()


@BOTH
def test_a_container_stays_in_the_cgroup_of_its_creator(
    runtime: Runtime, bundle: Bundle, view: View, callers: Callable[[Runtime], str]
) -> None:
    place = callers(runtime)
    container = runtime.running(bundle.sleeping())
    assert observe.cgroup(container.pid) == place
    assert [path for path in (view.cgroup2 / place[1:]).iterdir() if path.is_dir()] == []
    assert observe.namespace(container.pid, "cgroup") != observe.namespace("self", "cgroup")
    container.delete("--force").ok()


@BOTH
def test_who_is_executed_stays_in_that_of_his_own(
    runtime: Runtime, bundle: Bundle, callers: Callable[[Runtime], str]
) -> None:
    first = callers(runtime)
    container = runtime.running(bundle.sleeping())
    second = callers(runtime)
    told = execute(container, "cat", "/proc/self/cgroup").ok().stdout
    assert told.endswith(f"0::/..{second}\n"), f"{told} is not {second} as seen from {first}"
    container.delete("--force").ok()


@BOTH
def test_its_life_from_create_to_delete(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    assert json.loads(runtime.call("state", container.id).ok().stdout)["status"] == "created"
    runtime.flags = ()  # whoever comes later need not be told
    container.start()
    assert json.loads(runtime.call("state", container.id).ok().stdout)["status"] == "running"
    listed = json.loads(runtime.call("list", "--format", "json").ok().stdout)
    assert [one["id"] for one in listed] == [container.id]
    assert execute(container, "sh", "-c", "exit 7").code == 7
    container.kill("KILL").ok()
    assert container.exit_status() == 137
    assert json.loads(runtime.call("state", container.id).ok().stdout)["status"] == "stopped"
    container.delete().ok()
    runtime.call("state", container.id).refused("does not exist")


@pytest.mark.parametrize("word", ["pause", "resume"])
@BOTH
def test_nobody_is_paused(runtime: Runtime, bundle: Bundle, word: str) -> None:
    container = runtime.running(bundle.sleeping())
    told = "not paused" if (runtime.name, word) == ("ocirun", "resume") else "without a cgroup"
    runtime.call(word, container.id).refused(told)


@BOTH
def test_nothing_is_limited_later(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    result = runtime.call("update", "--memory", "100000000", container.id).refused()
    if runtime.name == "ocirun":  # crun says that some controller is not available
        result.refused("cannot limit a container without a cgroup", "--cgroup-manager cgroupfs")


@pytest.mark.parametrize("flags", [("--stats",), ()])
def test_nothing_is_counted(ocirun: Runtime, bundle: Bundle, flags: tuple[str, ...]) -> None:
    container = ocirun.running(bundle.sleeping())
    ocirun.call("events", *flags, container.id).refused(
        "cannot count a container without a cgroup", "--cgroup-manager cgroupfs"
    )


def test_no_cgroup_is_chosen_for_an_executed_process(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    result = execute(container, "true", flags=("--cgroup", "/"))
    assert result.code == 255
    assert "a container without a cgroup" in result.stderr


@BOTH
def test_the_processes_are_listed(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sh("sleep 1000 & exec sleep 1001"))
    observe.eventually(lambda: len(observe.descendants(container.pid)) == 1, "both run")
    expected = sorted({container.pid, *observe.descendants(container.pid)})
    assert json.loads(runtime.call("ps", "--format", "json", container.id).ok().stdout) == expected


@BOTH
def test_a_signal_for_all_reaches_all(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sh("sleep 1000 & trap : TERM; while :; do sleep 1; done"))
    observe.eventually(
        lambda: all(observe.executing(container.pid, "sleep", time) for time in ("1", "1000")), "all run"
    )
    (first,) = observe.executing(container.pid, "sleep", "1000")
    runtime.call("kill", "--all", container.id, "TERM").ok()
    observe.eventually(lambda: not observe.alive(first), "all have heard of it")


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        ("memory", {"limit": 64 * MIB}),
        ("memory", {"checkBeforeUpdate": True, "swap": -1, "limit": 64 * MIB}),
        ("pids", {"limit": 20}),
        ("cpu", {"shares": 512}),
        ("cpu", {"cpus": "0"}),
        ("blockIO", {"weight": 100}),
        ("hugepageLimits", [{"pageSize": "2MB", "limit": 0}]),
        ("unified", {"pids.max": "20"}),
        ("pids", {"limit": 0}),
    ],
)
@BOTH
def test_a_limit_is_refused(runtime: Runtime, bundle: Bundle, member: str, limit: Json) -> None:
    bundle.put(limit, "linux", "resources", member)
    runtime.run(bundle.args("true")).refused(
        "--cgroup-manager disabled makes no cgroup, and a limit needs one",
        f"/linux/resources/{member}]",
        "leave it out, or have one made: --cgroup-manager cgroupfs or systemd",
    )


@BOTH
def test_limits_that_ask_for_nothing_need_none(runtime: Runtime, bundle: Bundle) -> None:
    nothing: Json = {"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0}, "pids": {"limit": -1}}
    bundle.put(nothing, "linux", "resources")
    runtime.run(bundle.args("true")).ok()


@pytest.mark.parametrize("path", ["some/where", "/some/where", "system.slice:a:b"])
@BOTH
def test_a_place_is_refused(runtime: Runtime, bundle: Bundle, path: str) -> None:
    runtime.run(bundle.args("true").put(path, "linux", "cgroupsPath")).refused("/linux/cgroupsPath")


def test_rules_of_devices_are_told_to_have_no_effect(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put([{"allow": False, "access": "rwm"}], "linux", "resources", "devices")
    result = ocirun.run(bundle.args("true")).ok()
    assert "/linux/resources/devices" in result.stderr
    assert "has no effect without a cgroup" in result.stderr


@BOTH
def test_that_of_its_creator_is_not_shown_writable(
    runtime: Runtime, bundle: Bundle, callers: Callable[[Runtime], str]
) -> None:
    """Whoever writes 1 to its cgroup.kill there ends the creator."""
    place = callers(runtime)
    bundle.without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec")
    result = runtime.run(bundle.sh("ls /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/mine; echo $?"))
    if runtime.name == "crun":
        Path(f"/sys/fs/cgroup{place}/mine").rmdir()
    assert result.stdout.split() == ["/sys/fs/cgroup/cgroup.procs", "1"]
    assert "is mounted read-only" in result.stderr


def test_that_of_a_user_is_not_shown_writable_either(
    ocirun: Runtime, bundle: Bundle, view: View, callers: Callable[[Runtime], str]
) -> None:
    """One that was delegated to him, which root in his container would own."""
    place = view.cgroup2 / callers(ocirun)[1:]
    for path in (place, *place.iterdir()):
        os.chown(path, UID, UID)
    into = ocirun.prefix
    as_user(ocirun)
    ocirun.prefix = (*into, *ocirun.prefix)
    of_user(bundle).without_mount("/sys/fs/cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev")
    result = ocirun.run(bundle.sh("ls /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/mine; echo $?"))
    made = place / "mine"
    if made.exists():
        made.rmdir()
    assert result.stdout.split() == ["/sys/fs/cgroup/cgroup.procs", "1"]
    assert "is mounted read-only" in result.stderr


@BOTH
def test_the_tree_of_the_host_is_not_shown(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2023-25809."""
    bundle.namespaces(*(kind for kind in NAMESPACES if kind != "cgroup"))
    runtime.run(bundle.args("true")).refused("has none to show", '{"type": "cgroup"}')


def test_who_may_outlive_it_is_told(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.namespaces(*(kind for kind in NAMESPACES if kind != "pid"))
    result = ocirun.run(bundle.args("true")).ok()
    assert "processes may outlive the container" in result.stderr


def test_the_plan_has_none_either(ocirun: Runtime, bundle: Bundle) -> None:
    printed = ocirun.call("plan", "--bundle", str(bundle.sleeping().write().path)).ok().stdout
    assert "make_cgroup" not in printed
    assert "allow_devices" not in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_remains_when_it_is_killed_before_any_step(ocirun: Runtime, bundle: Bundle) -> None:
    """Law 4: there is no cgroup through which to find who is left."""
    nothing_remains(ocirun, bundle.sleeping().write().path, "disabled")


def test_who_lives_in_a_pid_namespace_below_belongs_to_it(ocirun: Runtime, bundle: Bundle) -> None:
    inner = "unshare -p -f sh -c 'sleep 1000 & exec sleep 1001'"
    bundle.capabilities(**{key: ["CAP_SYS_ADMIN"] for key in ("bounding", "effective", "permitted")})
    container = ocirun.running(bundle.sh(f"{inner} & exec sleep 1002"))
    observe.eventually(
        lambda: all(observe.executing(container.pid, "sleep", time) for time in ("1000", "1001")), "all run"
    )
    told = json.loads(ocirun.call("ps", "--format", "json", container.id).ok().stdout)
    assert told == sorted({container.pid, *observe.descendants(container.pid)})
    (last,) = observe.executing(container.pid, "sleep", "1000")
    ocirun.call("kill", "--all", container.id, "TERM").ok()
    observe.eventually(lambda: not observe.alive(last), "it has heard of it")


def test_who_had_the_pid_namespace_before_does_not(ocirun: Runtime, bundles: Callable[[str], Bundle]) -> None:
    first = ocirun.running(bundles("first").sleeping())
    other = bundles("second").sleeping().join("pid", f"/proc/{first.pid}/ns/pid")
    second = ocirun.running(other)
    assert json.loads(ocirun.call("ps", "--format", "json", second.id).ok().stdout) == [second.pid]
    ocirun.call("kill", "--all", second.id, "KILL").ok()
    assert second.exit_status() == 137
    assert observe.alive(first.pid)


@pytest.mark.parametrize("words", [("kill", "--all", "", "KILL"), ("ps", "--format", "json", "")])
def test_from_another_pid_namespace_nobody_is_taken_for_all(
    ocirun: Runtime, bundle: Bundle, words: tuple[str, ...]
) -> None:
    container = ocirun.running(bundle.sleeping())
    ocirun.prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--mount")
    ocirun.call(*(word or container.id for word in words)).refused("another pid namespace")
    ocirun.prefix = ()
    assert observe.alive(container.pid)


def test_no_file_of_another_place_tells_that_it_is_frozen(tmp_path: Path) -> None:
    """That of the root directory, where a container without a cgroup would have its own."""
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    looking = "from ocirun.cgroup.files import is_frozen"
    script = f"import os, sys\n{looking}\nos.chroot(sys.argv[1])\nprint(is_frozen(''))"
    done = subprocess.run(
        (sys.executable, "-c", script, tmp_path), cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
