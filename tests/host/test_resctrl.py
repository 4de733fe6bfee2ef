"""linux.intelRdt of whole containers, in a simulated tree: no machine of ours has the CPU for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from ocirun import host
from ocirun.cgroup import resctrl
from ocirun.criu.requests import Restore
from ocirun.errors import DriverError, HookError, HostError, OcirunError, StateError
from ocirun.lifecycle.create import CreateOptions, create
from ocirun.lifecycle.events import stats_event
from ocirun.lifecycle.exec import ProcessOptions, exec_process
from ocirun.lifecycle.restore import restore
from ocirun.lifecycle.store import Store
from ocirun.lifecycle.update import update
from ocirun.planner.draft import DISABLED
from ocirun.waiting import drive
from tests.host import checkpoints
from tests.host.inprocess import Made, making
from tests.host.runtimes import new_id
from tests.resctrl_tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime


@pytest.fixture
def tree(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    """Found where the kernel's would be."""
    made = Tree(scratch / "tmp/resctrl", monkeypatch)
    monkeypatch.setattr(host, "_resctrl", lambda: str(made.mount))
    yield made
    shutil.rmtree(made.mount)


@pytest.fixture
def made(scratch: Path) -> Iterator[Made]:
    """Containers of this process."""
    yield from making(scratch / "state")


def test_a_container_has_its_own_class_until_it_is_deleted(made: Made, bundle: Bundle, tree: Tree) -> None:
    asked: Json = {"l3CacheSchema": "L3:0=7f0", "schemata": ["MB:1=30"], "enableMonitoring": True}
    container = made.create(bundle.put(asked, "linux", "intelRdt").sleeping())
    group = f"{container.id}/mon_groups/{container.id}"
    assert tree.schemata(container.id) == "L3:0=7f0\nMB:1=30\n"
    assert tree.tasks(container.id) == tree.tasks(group) == [container.pid]

    made.start(container)
    executed = drive(
        exec_process(made.store, container.id, {"args": ["/bin/true"], "cwd": "/"}, ProcessOptions())
    )
    os.close(executed.pidfd)
    os.waitpid(executed.pid, 0)
    assert tree.tasks(container.id) == tree.tasks(group) == [container.pid, executed.pid]
    made.delete(container)
    assert tree.classes() == set()


def test_a_named_class_stays_without_its_group(made: Made, bundle: Bundle, tree: Tree) -> None:
    asked: Json = {"closID": "fast", "memBwSchema": "MB:0=90", "enableMonitoring": True}
    container = made.create(bundle.put(asked, "linux", "intelRdt").sleeping())
    assert tree.groups("fast") == {container.id}
    made.delete(container)
    assert (tree.classes(), tree.groups("fast")) == ({"fast"}, set())


def test_a_create_that_fails_leaves_no_class(made: Made, bundle: Bundle, tree: Tree) -> None:
    bundle.put({"enableMonitoring": True}, "linux", "intelRdt").put(
        [{"path": "/bin/false"}], "hooks", "createRuntime"
    )
    with pytest.raises(HookError):
        made.create(bundle)
    assert tree.classes() == set()


def test_a_container_that_does_not_ask_for_it_touches_nothing(made: Made, bundle: Bundle, tree: Tree) -> None:
    """config-linux.md#intelrdt: if it is not set, the runtime MUST NOT manipulate any resctrl."""
    container = made.create(bundle.sleeping())
    made.start(container)
    made.delete(container)
    assert tree.written == []
    assert tree.classes() == tree.groups() == set()


def test_an_update_changes_its_own_class(made: Made, bundle: Bundle, tree: Tree) -> None:
    asked: Json = {"l3CacheSchema": "L3:0=7f0", "memBwSchema": "MB:1=30"}
    container = made.create(bundle.put(asked, "linux", "intelRdt").sleeping())
    drive(update(made.store, container.id, {}, intel_rdt={"l3CacheSchema": "L3:0=f"}))
    assert tree.schemata(container.id) == "L3:0=f\nMB:1=30\n"


@pytest.mark.parametrize(
    ("limits", "lines"),
    [({}, {"l3CacheSchema": "L3:0=f", "memBwSchema": "XX:0=9"}),
     ({"unified": {"cgroup.max.depth": "no number"}}, {"l3CacheSchema": "L3:0=f"})],
)  # fmt: skip
def test_an_update_that_is_refused_changes_none(
    made: Made, bundle: Bundle, tree: Tree, limits: dict[str, object], lines: dict[str, str]
) -> None:
    asked: Json = {"l3CacheSchema": "L3:0=7f0", "memBwSchema": "MB:1=30"}
    container = made.create(bundle.put(asked, "linux", "intelRdt").sleeping())
    with pytest.raises(OcirunError):
        drive(update(made.store, container.id, limits, intel_rdt=lines))
    assert tree.schemata(container.id) == "L3:0=7f0\nMB:1=30\n"


def test_a_class_that_may_be_that_of_others_is_not_changed(made: Made, bundle: Bundle, tree: Tree) -> None:
    asked: Json = {"closID": "fast", "l3CacheSchema": "L3:0=7f0"}
    container = made.create(bundle.put(asked, "linux", "intelRdt").sleeping())
    with pytest.raises(StateError, match="may be that of others"):
        drive(update(made.store, container.id, {}, intel_rdt={"l3CacheSchema": "L3:0=f"}))
    assert tree.schemata("fast").startswith("L3:0=7f0\n")


def test_who_has_no_class_gets_none_by_an_update(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    for flags in (("--l3-cache-schema", "L3:0=f"), ("--mem-bw-schema", "MB:0=50")):
        ocirun.call("update", *flags, container.id).refused("has no class of service", "/linux/intelRdt")


def test_a_container_does_not_take_the_class_of_another_store(
    made: Made, bundle: Bundle, tree: Tree, scratch: Path
) -> None:
    other = Store(str(scratch / "other"))
    bundle.put({"l3CacheSchema": "L3:0=f"}, "linux", "intelRdt").sleeping()
    container = made.create(bundle)
    bundle.put({"l3CacheSchema": "L3:0=1"}, "linux", "intelRdt").put(f"/{new_id()}", "linux", "cgroupsPath")
    with pytest.raises(DriverError, match="EEXIST"):
        drive(create(other, container.id, CreateOptions(str(bundle.write().path))))
    assert (other.ids(), tree.tasks(container.id)) == ([], [container.pid])
    assert tree.schemata(container.id).startswith("L3:0=f\n")
    Path(other.root).rmdir()


def test_a_class_goes_with_a_container_that_has_no_cgroup(made: Made, bundle: Bundle, tree: Tree) -> None:
    container = made.create(bundle.put({}, "linux", "intelRdt").sleeping(), cgroup_manager=DISABLED)
    assert tree.classes() == {container.id}
    made.delete(container)
    assert tree.classes() == set()


def _seen_by_nobody(_: str) -> bool:
    return False


def test_one_that_loses_the_race_for_a_name_leaves_the_class_to_the_other(
    made: Made, bundle: Bundle, tree: Tree, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither saw the class of the other when it looked."""
    other = Store(str(scratch / "other"))
    container = made.create(bundle.put({"l3CacheSchema": "L3:0=f"}, "linux", "intelRdt").sleeping())
    bundle.put(f"/{new_id()}", "linux", "cgroupsPath")
    monkeypatch.setattr(resctrl, "is_there", _seen_by_nobody)
    with pytest.raises(DriverError, match="EEXIST"):
        drive(create(other, container.id, CreateOptions(str(bundle.write().path))))
    assert (other.ids(), tree.tasks(container.id)) == ([], [container.pid])
    Path(other.root).rmdir()


def test_an_update_without_a_cgroup(made: Made, bundle: Bundle, tree: Tree) -> None:
    bundle.put({"l3CacheSchema": "L3:0=7f0"}, "linux", "intelRdt").sleeping()
    container = made.create(bundle, cgroup_manager=DISABLED)
    drive(update(made.store, container.id, {}, intel_rdt={"l3CacheSchema": "L3:0=f"}))
    assert tree.schemata(container.id).startswith("L3:0=f\n")
    with pytest.raises(StateError, match="without a cgroup"):
        drive(update(made.store, container.id, {"pids": {"limit": 9}}, intel_rdt={"l3CacheSchema": "L3:0=1"}))
    assert tree.schemata(container.id).startswith("L3:0=f\n")


def test_the_numbers_of_the_class_are_in_the_event(made: Made, bundle: Bundle, tree: Tree) -> None:
    tree.describe(llc_occupancy="30")
    asked: Json = {"closID": "fast", "memBwSchema": "MB:0=90", "enableMonitoring": True}
    container = made.create(bundle.put(asked, "linux", "intelRdt").sleeping())
    data = cast("dict[str, dict[str, object]]", stats_event(made.store, container.id)["data"])
    told = data["intel_rdt"]
    assert (told["mem_bw_schema"], told["cmt_stats"]) == (
        "MB:0=90",
        [{"llc_occupancy": 30}, {"llc_occupancy": 305}],
    )


def test_without_resctrl_it_is_an_error(ocirun: Runtime, bundle: Bundle) -> None:
    if any(" - resctrl " in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        pytest.skip("this host has resctrl")
    ocirun.attempt(bundle.put({"closID": "fast"}, "linux", "intelRdt")).refused(
        "resctrl is not mounted",
        "/linux/intelRdt]",
        "(mount -t resctrl resctrl /sys/fs/resctrl, on a CPU that has it",
    )


def test_criu_is_in_the_class_before_it_restores_a_thread(
    ocirun: Runtime, scratch: Path, bundle: Bundle, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel moves one thread at a time, and gives a new one the class of who made it (resctrl.rst)."""
    images, told = scratch / "images", scratch / "told"
    images.mkdir()
    (images / "descriptors.json").write_text("[]")
    tasks = tree.mount / "fast/tasks"
    checkpoints.stand_in(ocirun, f"head -c 1 <&3 >/dev/null; echo $$ > {told}; cat {tasks} >> {told}; exit 1")
    monkeypatch.setenv("PATH", ocirun.environment["PATH"])
    bundle.put({"closID": "fast", "memBwSchema": "MB:0=90"}, "linux", "intelRdt").sleeping().write()
    with pytest.raises(HostError, match="criu cannot restore"):
        drive(
            restore(
                Store(str(ocirun.root)), "oh-class", CreateOptions(str(bundle.path)), Restore(str(images))
            )
        )
    criu, inside = told.read_text().split()
    assert criu == inside
