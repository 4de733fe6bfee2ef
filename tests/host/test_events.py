"""The command events: numbers of the cgroup as runc tells them, kills for want of memory, the end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from conformance import peers
from ocirun.cgroup.runc_stats import runc_stats
from ocirun.cgroup.stats import Stats
from ocirun.jsontext import dumps
from tests.host import execs, observe
from tests.host.limits import CONTROLLERS, MIB, counted, file, limited, need
from tests.host.runtimes import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.view import View

SECTIONS = ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"]
LIMITS: dict[str, Json] = {
    "memory": {"limit": 64 * MIB, "swap": 80 * MIB},
    "cpu": {"quota": 2000},
    "pids": {"limit": 30},
}
LITTLE: Json = {"limit": 16 * MIB, "swap": 16 * MIB}
GREEDY = "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; exec sleep 1000"


@pytest.fixture
def controllers(view: View) -> None:
    """Skips where a controller is not on cgroup2."""
    need(view, *CONTROLLERS)


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_tell_the_numbers_of_now(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle))
    (event,) = _events(runtime.call("events", "--stats", container.id).ok().stdout)
    assert [*event] == ["type", "id", "data"]
    assert (event["type"], event["id"]) == ("stats", container.id)
    assert [*event["data"]] == SECTIONS


@pytest.mark.usefixtures("controllers")
def test_the_numbers_are_those_of_the_files(ocirun: Runtime, bundle: Bundle) -> None:
    bundle = limited(bundle, **LIMITS).sh("while true; do true; done")
    container = ocirun.running(bundle)
    observe.eventually(lambda: counted(container, "cpu.stat", "nr_throttled") > 1, "it is throttled")
    ocirun.call("pause", container.id).ok()  # from now on nothing changes

    def counts() -> tuple[int, ...]:
        cpu = (counted(container, "cpu.stat", name) for name in ("nr_throttled", "usage_usec"))
        return int(file(container, "memory.peak")), *cpu

    def told() -> bool:
        (event,) = _events(ocirun.call("events", "--stats", container.id).ok().stdout)
        data = event["data"]
        assert data["memory"]["usage"]["limit"] == 64 * MIB
        assert data["memory"]["swap"]["limit"] == 80 * MIB
        assert data["pids"] == {"current": 1, "limit": 30}
        cpu = data["cpu"]["throttling"]["throttledPeriods"], data["cpu"]["usage"]["total"] // 1000
        return (data["memory"]["usage"]["max"], *cpu) == counts()

    observe.eventually(told, "the kernel has counted all")


def test_stalls_are_told_where_the_kernel_counts_them(runtime: Runtime, bundle: Bundle) -> None:
    """Pressure stall information (psi.rst), which not every kernel has."""
    container = runtime.running(limited(bundle))
    (event,) = _events(runtime.call("events", "--stats", container.id).ok().stdout)
    members = ["avg10", "avg60", "avg300", "total"]
    for section, name in (("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")):
        told = event["data"][section].get("psi", {})
        counted_there = execs.cgroup_file(container, f"{name}.pressure").exists()
        assert {kind: [*one] for kind, one in told.items()} == (
            {"some": members, "full": members} if counted_there else {}
        )


@pytest.fixture
def runc(scratch: Path) -> Runtime:
    """runc alone."""
    program = peers.peer("runc")
    if program is None:
        pytest.skip(peers.reason("runc"))
    return Runtime("runc", program, scratch)


def _without_averages(text: str) -> str:
    """Averages of stalls are about now."""
    return re.sub(r'("avg\d+"):[0-9.]+', r"\1:0", text)


@pytest.mark.usefixtures("controllers")
def test_a_line_is_that_of_runc_to_the_letter(runc: Runtime, bundle: Bundle) -> None:
    """Both look at one container, which stands still."""
    bundle = limited(bundle, **LIMITS).sh("dd if=/bin/busybox of=/dev/shm/x; while true; do true; done")
    container = runc.running(bundle)
    observe.eventually(lambda: counted(container, "cpu.stat", "nr_throttled") > 1, "it is throttled")
    runc.call("pause", container.id).ok()
    where = str(execs.cgroup_file(container, "cgroup.procs").parent)

    def same() -> bool:
        theirs = runc.call("events", "--stats", container.id).ok().stdout
        ours = dumps({"type": "stats", "id": container.id, "data": runc_stats(Stats(where))})
        assert [*json.loads(ours)["data"]["memory"]] == [*json.loads(theirs)["data"]["memory"]]
        return _without_averages(ours) == _without_averages(theirs.rstrip("\n"))

    try:
        observe.eventually(same, "the kernel has counted all")
    finally:
        runc.call("resume", container.id)
        runc.clean_up()


def test_events_tell_numbers_at_an_interval_and_end_with_the_container(
    runtime: Runtime, bundle: Bundle, view: View
) -> None:
    if runtime.name == "runc":  # which cannot live without them
        need(view, *CONTROLLERS)
    container = runtime.running(limited(bundle))
    process, result = runtime.popen("events", "--interval", "50ms", container.id)
    observe.eventually(lambda: result.stdout.count("\n") > 2 or process.poll() is not None, "three events")
    container.kill("KILL").ok()
    assert process.wait(30) == 0
    events = _events(result.stdout)
    assert len(events) > 2
    assert {event["type"] for event in events} == {"stats"}


@pytest.mark.usefixtures("controllers")
def test_events_tell_who_was_killed_for_want_of_memory(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(limited(bundle, memory=LITTLE).sh(GREEDY))
    process, result = runtime.popen("events", "--interval", "1h", container.id)
    observe.eventually(
        lambda: _waits(process.pid) or process.poll() is not None, "it watches the events of memory"
    )
    container.start()
    observe.eventually(lambda: result.stdout != "" or process.poll() is not None, "the kill is told")
    container.kill("KILL").ok()
    assert process.wait(30) == 0
    assert _events(result.stdout) == [{"type": "oom", "id": container.id}] * _told(result.stdout)
    assert _told(result.stdout) > 0


def _waits(pid: int) -> bool:
    """Whether it has opened that, and sleeps: it has read what to count from."""
    opened = any("memory.events" in path or "inotify" in path for path in _opened(pid))
    return opened and observe.state_letter(pid) == "S"


def _opened(pid: int) -> list[str]:
    try:
        return [*observe.descriptors(pid).values()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _told(text: str) -> int:
    """How many lines: runc tells of one kill each time that the file changes."""
    return len(text.splitlines())


@pytest.mark.usefixtures("controllers")
def test_one_kill_is_one_event(ocirun: Runtime, bundle: Bundle) -> None:
    """Also that of init, after which the events end at once."""
    container = ocirun.create(
        limited(bundle, memory=LITTLE).args("dd", "if=/dev/zero", "of=/dev/null", "bs=64M")
    )
    process, result = ocirun.popen("events", "--interval", "1h", container.id)
    observe.eventually(lambda: _waits(process.pid), "it watches the events of memory")
    ocirun.call("start", container.id)
    assert process.wait(30) == 0
    assert _events(result.stdout) == [{"type": "oom", "id": container.id}]


def test_events_of_a_stopped_container_are_refused(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle))
    container.kill("KILL").ok()
    container.wait()
    runtime.call("events", "--stats", container.id).refused("not running")
    runtime.call("events", container.id).refused("not running")
    runtime.call("events", "nobody").refused("does not exist")


@pytest.mark.parametrize("interval", ["0s", "5", "x", "-1s", "1s2", "10ns", ""])
def test_an_interval_of_nothing_is_refused(ocirun: Runtime, bundle: Bundle, interval: str) -> None:
    container = ocirun.create(limited(bundle))
    ocirun.call("events", f"--interval={interval}", container.id).refused("--interval")
