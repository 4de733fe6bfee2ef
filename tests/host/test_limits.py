"""Limits of memory, processor, processes and I/O as the cgroup has them, and as what runs in it feels them.

They need a host with nothing but cgroup v2; tests/vm runs them in a machine that is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.limits import CONTROLLERS, MIB, counted, file, limited, need

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.view import View


@pytest.fixture(scope="module", autouse=True)
def controllers(view: View) -> None:
    """Skips where a controller is not on cgroup2."""
    need(view, *CONTROLLERS)


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        ({"limit": 64 * MIB}, {"memory.max": f"{64 * MIB}"}),
        ({"limit": -1}, {"memory.max": "max"}),
        ({"limit": 64 * MIB, "reservation": 32 * MIB}, {"memory.low": f"{32 * MIB}"}),
        ({"limit": 64 * MIB, "swap": 96 * MIB}, {"memory.swap.max": f"{32 * MIB}"}),
        ({"limit": 64 * MIB, "swap": 64 * MIB}, {"memory.swap.max": "0"}),
        ({"limit": 64 * MIB, "swap": -1}, {"memory.swap.max": "max"}),
    ],
)
def test_memory(runtime: Runtime, bundle: Bundle, limits: Json, files: dict[str, str]) -> None:
    container = runtime.create(limited(bundle, memory=limits))
    assert {name: file(container, name) for name in files} == files


def test_nothing_asked_for_is_no_limit_and_is_counted(runtime: Runtime, bundle: Bundle) -> None:
    """As engines say it; and the numbers of the container can be told all the same."""
    bundle = limited(bundle, memory={"limit": 0, "swap": 0, "reservation": 0}, cpu={"shares": 0, "quota": 0})
    container = runtime.create(bundle)
    expected = {"memory.max": "max", "memory.swap.max": "max", "cpu.max": "max 100000", "cpu.weight": "100"}
    assert {name: file(container, name) for name in expected} == expected
    assert int(file(container, "memory.current")) > 0


def test_a_container_without_limits_is_counted(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.drop("linux", "resources").sleeping())
    assert {*CONTROLLERS} <= {*file(container, "cgroup.controllers").split()}


@pytest.mark.parametrize(
    ("kind", "limits", "member"),
    [
        pytest.param("memory", {"limit": 64 * MIB, "swap": 32 * MIB}, "swap", id="swap below memory"),
        pytest.param("memory", {"swap": 64 * MIB}, "swap", id="swap without memory"),
        pytest.param("cpu", {"quota": 10000, "burst": 20000}, "burst", id="burst above quota"),
        pytest.param("unified", {"pids.maxx": "3"}, "pids.maxx", id="unknown file"),
        pytest.param("unified", {"nosuch.max": "3"}, "nosuch.max", id="unknown controller"),
        pytest.param("unified", {"../x": "3"}, "..~1x", id="path"),
        pytest.param("unified", {"..": "3"}, "..", id="directory"),
    ],
)
def test_what_no_cgroup_can_have_is_refused(
    runtime: Runtime, bundle: Bundle, kind: str, limits: Json, member: str
) -> None:
    """And what is before it in the config is not left behind."""
    limited(limited(bundle, pids={"limit": 9}), **{kind: limits})
    refused = runtime.run(bundle.args("true")).refused()
    if runtime.name == "ocirun":
        refused.refused(f"/linux/resources/{kind}/{member}")


@pytest.mark.parametrize(
    ("kind", "limits", "member"),
    [
        pytest.param("memory", {"swappiness": 0}, "swappiness", id="swappiness"),
        pytest.param("memory", {"disableOOMKiller": True}, "disableOOMKiller", id="oom"),
        pytest.param("cpu", {"realtimeRuntime": 1000}, "realtimeRuntime", id="runtime"),
        pytest.param("cpu", {"realtimePeriod": 1000}, "realtimePeriod", id="period"),
        pytest.param("blockIO", {"leafWeight": 100}, "leafWeight", id="leaf"),
        pytest.param("network", {"classID": 7}, "classID", id="class"),
        pytest.param(
            "network", {"priorities": [{"name": "lo", "priority": 3}]}, "priorities", id="priorities"
        ),
    ],
)
def test_what_only_cgroup_v1_had_is_refused(
    runtime: Runtime, bundle: Bundle, kind: str, limits: Json, member: str
) -> None:
    refused = runtime.run(limited(bundle, **{kind: limits}).args("true")).refused()
    if runtime.name == "ocirun":
        refused.refused("has no counterpart in cgroup2", f"/linux/resources/{kind}/{member}")


@pytest.mark.parametrize("member", ["kernel", "kernelTCP"])
def test_what_the_kernel_has_given_up_is_told_and_ignored(
    runtime: Runtime, bundle: Bundle, member: str
) -> None:
    result = runtime.run(limited(bundle, memory={member: 64 * MIB}).args("true")).ok()
    assert "ignored" in result.stderr


def test_who_takes_more_memory_than_there_is_gets_killed(runtime: Runtime, bundle: Bundle) -> None:
    limits: Json = {"limit": 16 * MIB, "swap": 16 * MIB}
    program = "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; exec sleep 1000"
    container = runtime.running(limited(bundle, memory=limits).sh(program))
    observe.eventually(lambda: "137" in container.output, "the kernel kills dd")
    assert counted(container, "memory.events", "oom_kill") == 1
    assert observe.alive(container.pid)


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        ({"shares": 2}, {"cpu.weight": "1"}),
        ({"shares": 512}, {"cpu.weight": "59"}),
        ({"shares": 1024}, {"cpu.weight": "100"}),
        ({"shares": 262144}, {"cpu.weight": "10000"}),
        ({"quota": 50000}, {"cpu.max": "50000 100000"}),
        ({"quota": 50000, "period": 200000}, {"cpu.max": "50000 200000"}),
        ({"quota": -1, "period": 200000}, {"cpu.max": "max 200000"}),
        ({"period": 200000}, {"cpu.max": "max 200000"}),
        ({"quota": 50000, "burst": 20000}, {"cpu.max": "50000 100000", "cpu.max.burst": "20000"}),
        ({"idle": 1}, {"cpu.idle": "1"}),
    ],
)
def test_cpu(runtime: Runtime, bundle: Bundle, limits: Json, files: dict[str, str]) -> None:
    container = runtime.create(limited(bundle, cpu=limits))
    assert {name: file(container, name) for name in files} == files


def test_who_is_idle_has_no_weight(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel refuses to set one, so that beside it there is nothing to write."""
    container = runtime.create(limited(bundle, cpu={"idle": 1, "shares": 512}))
    assert file(container, "cpu.idle") == "1"


def test_who_takes_more_time_than_there_is_waits(runtime: Runtime, bundle: Bundle) -> None:
    program = "while true; do true; done"
    container = runtime.running(limited(bundle, cpu={"quota": 2000, "period": 20000}).sh(program))
    observe.eventually(lambda: counted(container, "cpu.stat", "nr_throttled") > 3, "it is throttled")


@pytest.mark.parametrize(("limit", "value"), [(7, "7"), (-1, "max")])
def test_pids(runtime: Runtime, bundle: Bundle, limit: int, value: str) -> None:
    container = runtime.create(limited(bundle, pids={"limit": limit}))
    assert file(container, "pids.max") == value


def test_one_process_too_many_is_not_started(runtime: Runtime, bundle: Bundle) -> None:
    limits: Json = {"limit": 10}
    program = "for n in $(seq 20); do sleep 1000 & done; wait"
    container = runtime.running(limited(bundle, pids=limits).sh(program))
    observe.eventually(lambda: counted(container, "pids.events", "max") > 0, "the limit is reached")
    assert len(execs.members_of(container)) <= 10


def test_a_limit_of_none_is_a_limit(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put({"limit": 0}, "linux", "resources", "pids")
    result = runtime.run(bundle.sh("echo alone; (true); echo never"))
    assert result.code != 0
    assert result.stdout == "alone\n"


@pytest.fixture
def disk() -> tuple[int, int]:
    """The numbers of a disk that is there."""
    for name in sorted(path.name for path in Path("/sys/block").iterdir()):
        if not name.startswith(("loop", "ram", "zram", "nbd", "dm-")):
            major, minor = (Path("/sys/block") / name / "dev").read_text().strip().split(":")
            return int(major), int(minor)
    pytest.skip("no disk is in /sys/block")


def test_a_disk_is_throttled(runtime: Runtime, bundle: Bundle, disk: tuple[int, int]) -> None:
    major, minor = disk
    limits: Json = {
        f"throttle{what}Device": [{"major": major, "minor": minor, "rate": number * MIB}]
        for number, what in enumerate(("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"), start=1)
    }
    container = runtime.create(limited(bundle, blockIO=limits))
    line = f"{major}:{minor} rbps={MIB} wbps={2 * MIB} riops={3 * MIB} wiops={4 * MIB}"
    assert file(container, "io.max") == line


def test_processors_and_memory_nodes(runtime: Runtime, bundle: Bundle, view: View) -> None:
    if "cpuset" not in (view.cgroup2 / "cgroup.controllers").read_text().split():
        pytest.skip("not on cgroup2: the controllers cpuset")
    container = runtime.running(limited(bundle, cpu={"cpus": "0", "mems": "0"}))
    assert {name: file(container, f"cpuset.{name}") for name in ("cpus", "mems")} == {
        "cpus": "0",
        "mems": "0",
    }
    assert observe.status(container.pid)["Cpus_allowed_list"] == "0"


def test_files_by_their_names_win(runtime: Runtime, bundle: Bundle) -> None:
    unified: Json = {"memory.high": str(48 * MIB), "pids.max": "9", "cpu.weight": "77"}
    container = runtime.create(limited(bundle, unified=unified, pids={"limit": 20}))
    assert {name: file(container, name) for name in ("memory.high", "pids.max", "cpu.weight")} == unified


@pytest.mark.parametrize(
    ("unified", "texts"),
    [
        ({"memory.hihg": "1"}, ("/linux/resources/unified/memory.hihg", "did you mean memory.high?")),
        (
            {"bogus.max": "1"},
            ("/linux/resources/unified/bogus.max", "the bogus controller is not on cgroup2"),
        ),
        ({"memory.high": "much"}, ("/linux/resources/unified/memory.high", "EINVAL")),
        ({"../memory.max": "1"}, ("/linux/resources/unified/..~1memory.max", "without a slash")),
        ({"..": "1"}, ("/linux/resources/unified/..",)),
        ({"cgroup.freeze": "1"}, ("/linux/resources/unified/cgroup.freeze", "holds the container")),
    ],
)
def test_a_file_that_cannot_be_written_is_told_and_nothing_is_left(
    ocirun: Runtime, bundle: Bundle, unified: Json, texts: tuple[str, ...]
) -> None:
    """Nor the limit before it: there is no cgroup any more."""
    ocirun.attempt(limited(bundle, pids={"limit": 9}, unified=unified)).refused(*texts)


def test_update_changes_them(runtime: Runtime, bundle: Bundle) -> None:
    limits: dict[str, Json] = {"memory": {"limit": 64 * MIB}, "cpu": {"shares": 1024}, "pids": {"limit": 20}}
    container = runtime.running(limited(bundle, **limits))
    flags = ("--memory", str(32 * MIB), "--cpu-share", "512", "--cpu-quota", "30000", "--pids-limit", "30")
    runtime.call("update", *flags, container.id).ok()
    expected = {
        "memory.max": f"{32 * MIB}",
        "cpu.weight": "59",
        "cpu.max": "30000 100000",
        "pids.max": "30",
    }
    assert {name: file(container, name) for name in expected} == expected


def test_update_by_file_leaves_the_rest(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    container = runtime.running(limited(bundle, memory={"limit": 64 * MIB}, pids={"limit": 20}))
    path = scratch / "resources.json"
    path.write_text(json.dumps({"cpu": {"quota": 20000, "period": 50000}}))
    runtime.call("update", "--resources", str(path), container.id).ok()
    expected = {"memory.max": f"{64 * MIB}", "cpu.max": "20000 50000", "pids.max": "20"}
    assert {name: file(container, name) for name in expected} == expected


def test_a_limit_of_memory_below_what_is_used_can_be_refused(ocirun: Runtime, bundle: Bundle) -> None:
    program = "dd if=/dev/zero of=/dev/shm/ballast bs=1M count=24 && echo full; exec sleep 1000"
    container = ocirun.running(limited(bundle, memory={"limit": 64 * MIB}).sh(program))
    observe.eventually(lambda: "full" in container.output, "the ballast lies")
    path = ocirun.file("resources")
    path.write_text(json.dumps({"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}}))
    ocirun.call("update", "--resources", str(path), container.id).refused("/linux/resources/memory/limit")
    assert file(container, "memory.max") == f"{64 * MIB}"


def test_the_limits_hold_from_the_first_instruction(runtime: Runtime, bundle: Bundle) -> None:
    """Init is in its cgroup before it becomes the program: who reads its own cgroup finds the limit."""
    bundle.sh("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max")
    bundle.put({"limit": 64 * MIB}, "linux", "resources", "memory")
    bundle.put({"limit": 20}, "linux", "resources", "pids")
    assert runtime.run(bundle).ok().stdout.split() == [f"{64 * MIB}", "20"]
