"""How small a limit of memory may be, and what is said where it was too small.

It needs the memory controller on cgroup2; tests/vm runs this in a machine that has it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from conformance import smallest
from tests.host import execs, observe
from tests.host.runtimes import new_id
from tests.host.test_exec_failures import logged

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime
    from tests.host.view import View

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def controller(view: View) -> None:
    """Skips where the controller is not on cgroup2."""
    if "memory" not in (view.cgroup2 / "cgroup.controllers").read_text().split():
        pytest.skip("not on cgroup2: the controllers memory")


def _limited(bundle: Bundle, limit: int) -> Bundle:
    return bundle.put({"limit": limit, "swap": limit}, "linux", "resources", "memory")


def test_crun_needs_as_much_or_more() -> None:
    """Both are measured here and now, with one bundle."""
    if len(os.sched_getaffinity(0)) > 1:
        pytest.skip("there are several processors: the kernel charges ahead for each, so that it is luck")
    found = smallest.measure("ocirun", "crun").bytes
    assert found["ocirun"] <= found["crun"], found
    assert found["ocirun"] < smallest.STEP * smallest.STEPS


@pytest.mark.parametrize("kib", [4, 16, 48, 80])
def test_an_init_without_memory_is_told_of_its_limit(ocirun: Runtime, bundle: Bundle, kib: int) -> None:
    path = str(_limited(bundle, kib << 10).args("true").write().path)
    result, entry = logged(ocirun, "run", "--bundle", path, new_id())
    assert result.code == 1
    assert (entry["code"], entry["pointer"]) == ("memory-limit", "/linux/resources/memory/limit")
    assert f"the limit is {kib << 10} bytes, the peak was " in result.stderr
    assert not list(ocirun.root.glob("oh*"))


def test_an_init_that_is_killed_while_it_waits_is_told_by_start(ocirun: Runtime, bundle: Bundle) -> None:
    """By an update that leaves it nothing; the kernel may kill it then, or when it goes on."""
    container = ocirun.create(_limited(bundle, 64 * MIB).sleeping())
    execs.cgroup_file(container, "memory.max").write_text("4096")
    result, entry = logged(ocirun, "start", container.id)
    assert result.code == 1
    assert (entry["code"], entry["pointer"]) == ("memory-limit", "/linux/resources/memory/limit")
    assert "the limit is 4096 bytes, the peak was " in result.stderr


def test_a_program_that_is_killed_is_told_of_the_limit(ocirun: Runtime, bundle: Bundle) -> None:
    taking = "exec dd if=/dev/zero of=/dev/null bs=64M count=1"
    result = ocirun.run(_limited(bundle, 16 * MIB).sh(taking))
    assert result.code == 137
    assert f"for want of memory: the limit is {16 * MIB} bytes, the peak was " in result.stderr
    assert "/linux/resources/memory/limit" in result.stderr


def test_what_another_was_killed_for_is_not_told_of_the_next(
    ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    """A cgroup that was there keeps its counts."""
    place = view.cgroup2 / new_id()
    place.mkdir()
    _limited(bundle, 16 * MIB).put(f"/{place.name}", "linux", "cgroupsPath")
    assert ocirun.run(bundle.sh("exec dd if=/dev/zero of=/dev/null bs=64M count=1")).code == 137
    killed = "oom_kill 1" in (place / "memory.events").read_text()
    result, entry = logged(ocirun, "run", "--bundle", str(bundle.args("/nothing").write().path), new_id())
    place.rmdir()
    assert killed
    assert result.code == 1
    assert entry["code"] != "memory-limit"


def test_a_program_that_somebody_else_kills_is_not(ocirun: Runtime, bundle: Bundle) -> None:
    name = new_id()
    path = str(_limited(bundle, 16 * MIB).sh("echo runs; sleep 1000").write().path)
    process, result = ocirun.popen("run", "--bundle", path, name)
    observe.eventually(lambda: result.stdout == "runs\n", "it runs")
    ocirun.call("kill", name, "KILL").ok()
    assert process.wait(30) == 137
    assert "memory" not in result.stderr
