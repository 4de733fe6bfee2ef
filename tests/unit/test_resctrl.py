"""linux.intelRdt in a simulated tree: what is made, written, compared and entered, in which order."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from ocirun.cgroup import resctrl
from ocirun.cgroup.rdt_stats import rdt_stats
from ocirun.cgroup.resctrl import Wanted, enter, make, parse, remove, rewrite
from ocirun.errors import DriverError, HostError
from ocirun.host import mounts_of
from ocirun.planner import plan
from ocirun.reach import Reach
from tests.golden import cases
from tests.resctrl_tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from ocirun_spec.types import Config, IntelRdt

    from ocirun.host import Host

L3, MB = "L3:0=7f0;1=1f", "MB:0=20;1=70"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path / "resctrl", monkeypatch)


def wanted(tree: Tree, group: str, *, own: bool = False, monitor: str = "", **lines: object) -> Wanted:
    made = Wanted(str(tree.mount), group, monitor=monitor, own=own)
    for name, value in lines.items():
        setattr(made, name, value)
    return made


def asking(asked: IntelRdt) -> Config:
    config = cases.config()
    assert "linux" in config
    config["linux"]["intelRdt"] = asked
    return config


def test_the_lines_are_written_in_their_order_and_schemata_last(tree: Tree) -> None:
    make(wanted(tree, "own", own=True, l3=L3, bandwidth=MB, schemata=["L3:0=f", "MB:1=10"]), str)

    assert tree.written == [
        ("own/schemata", f"{L3}\n"),
        ("own/schemata", f"{MB}\n"),
        ("own/schemata", "L3:0=f\n"),
        ("own/schemata", "MB:1=10\n"),
    ]


def test_without_lines_nothing_is_written(tree: Tree) -> None:
    make(wanted(tree, "own", own=True), str)

    assert (tree.written, tree.classes()) == ([], {"own"})


def test_only_an_own_class_goes_with_the_container(tree: Tree) -> None:
    noted: list[str] = []
    make(wanted(tree, "own", own=True), noted.append)
    make(wanted(tree, "named", l3=L3), noted.append)
    assert noted == [str(tree.mount / "own")]

    for place in noted:
        remove(place)
        remove(place)  # a delete that was cut off is done again
    assert tree.classes() == {"named"}


def test_an_own_class_that_was_there_is_somebody_elses(tree: Tree) -> None:
    """As without closID the class has the name of the container, which another store may have as well: its
    lines are not written over, and it does not go with us."""
    noted: list[str] = []
    make(wanted(tree, "named", l3=L3), noted.append)
    before = tree.schemata("named")
    with pytest.raises(DriverError) as caught:
        make(wanted(tree, "named", own=True, bandwidth=MB), noted.append)

    assert (noted, tree.schemata("named"), caught.value.pointer) == ([], before, "/linux/intelRdt")
    assert "name the class that it is to share by closID" in caught.value.hint


def _seen_by_nobody(_: str) -> bool:
    return False


def test_one_that_another_store_made_at_the_same_moment_does_not_go_with_us(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked free, and was noted; the kernel says then that it is not."""
    monkeypatch.setattr(resctrl, "is_there", _seen_by_nobody)
    make(wanted(tree, "own", own=True), str)
    taken_back: list[str] = []
    with pytest.raises(DriverError, match="EEXIST"):
        make(wanted(tree, "own", own=True), str, taken_back.append)
    assert taken_back == [str(tree.mount / "own")]


def test_what_cannot_be_written_back_does_not_hide_why(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    make(wanted(tree, "own", own=True), str)

    def broken(path: str, content: bytes, flags: int = 0) -> None:
        del path, flags
        raise OSError(errno.ENODEV if content.startswith(b"L4") else errno.EINVAL, "broken")

    monkeypatch.setattr(resctrl, "write_file", broken)
    with pytest.raises(DriverError, match=r"write 'L4:0=f' to .*ENODEV") as caught:
        rewrite(wanted(tree, "own", own=True, schemata=["L4:0=f"]))
    (note,) = caught.value.__notes__
    assert note.startswith("not as before: ")
    assert "EINVAL" in note


def test_the_numbers_are_told_as_runc_tells_them(tree: Tree) -> None:
    """After types/events.go of runc, whose readers look for these members."""
    tree.describe(mbm_total_bytes="200", mbm_local_bytes="Unavailable", llc_occupancy="30")
    make(wanted(tree, "named", l3=L3, monitor="hello"), str)
    (tree.mount / "named/mon_groups/hello/mon_data/mon_L3_01/llc_occupancy").write_text("77\n")

    assert rdt_stats(wanted(tree, "named", monitor="hello")) == {
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=0fff;1=0fff",
        "l3_cache_schema": L3,
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0= 100;1= 100",
        "mem_bw_schema": "MB:0= 100;1= 100",
        "mbm_stats": [
            {"mbm_total_bytes": 200, "mbm_local_bytes": 0},
            {"mbm_total_bytes": 2005, "mbm_local_bytes": 0},
        ],
        "cmt_stats": [{"llc_occupancy": 30}, {"llc_occupancy": 77}],
    }


def test_what_the_cpu_has_not_is_left_out(tree: Tree) -> None:
    make(wanted(tree, "named", l3=L3), str)
    assert rdt_stats(wanted(tree, "named")) == {}


def test_a_class_that_is_there_has_to_be_as_it_is_asked_for(tree: Tree) -> None:
    make(wanted(tree, "named", l3=L3, bandwidth=MB), str)
    before = len(tree.written)
    make(wanted(tree, "named", l3="L3:1=01F", bandwidth="MB:0=20", schemata=["MB:0=30"]), str)
    assert tree.written[before:] == [("named/schemata", "MB:0=30\n")]

    with pytest.raises(DriverError) as caught:
        make(wanted(tree, "named", l3="L3:0=1"), str)
    error = caught.value
    assert error.message == "the class of service named has L3:0=7f0;1=1f"
    assert (error.pointer, error.hint) == (
        "/linux/intelRdt/l3CacheSchema",
        "ask for what it has, for another class, or for no closID, which makes one",
    )
    with pytest.raises(DriverError, match="has MB:") as caught:
        make(wanted(tree, "named", bandwidth="MB:0=99"), str)
    assert caught.value.pointer == "/linux/intelRdt/memBwSchema"


def test_a_class_that_nobody_describes_has_to_be_there(tree: Tree) -> None:
    with pytest.raises(DriverError) as caught:
        make(wanted(tree, "absent"), str)
    error = caught.value
    assert (error.message, error.pointer) == (
        "there is no class of service absent",
        "/linux/intelRdt/closID",
    )
    assert error.hint.startswith("make it before, or say by l3CacheSchema")
    make(wanted(tree, ""), str)
    assert tree.classes() == set()


def test_the_default_class_takes_lines_of_schemata(tree: Tree) -> None:
    make(wanted(tree, "", schemata=["MB:0=50"]), str)

    assert tree.written == [("schemata", "MB:0=50\n")]


def test_a_group_monitors_and_goes_with_the_container(tree: Tree) -> None:
    noted: list[str] = []
    make(wanted(tree, "named", l3=L3, monitor="hello"), noted.append)
    assert tree.groups("named") == {"hello"}
    assert noted == [str(tree.mount / "named/mon_groups/hello")]

    remove(noted[0])
    assert (tree.groups("named"), tree.classes()) == (set(), {"named"})


def test_the_group_of_somebody_else_is_left_alone(tree: Tree) -> None:
    """Another store may have a container of this id in the same class: what is noted is removed."""
    make(wanted(tree, "named", l3=L3, monitor="hello"), str)
    noted: list[str] = []
    with pytest.raises(DriverError) as caught:
        make(wanted(tree, "named", l3=L3, monitor="hello"), noted.append)

    assert (noted, caught.value.pointer) == ([], "/linux/intelRdt/enableMonitoring")
    assert "give the container another id" in caught.value.hint


def test_who_enters_a_group_is_in_its_class_first(tree: Tree) -> None:
    make(wanted(tree, "named", l3=L3, monitor="hello"), str)
    tree.written.clear()
    enter([f"{tree.mount}/named", f"{tree.mount}/named/mon_groups/hello"], 4711)

    assert tree.written == [("named/tasks", "4711\n"), ("named/mon_groups/hello/tasks", "4711\n")]


def test_a_group_that_cannot_be_made_is_an_error_in_the_words_of_the_kernel(tree: Tree) -> None:
    tree.left = 0
    with pytest.raises(DriverError) as caught:
        make(wanted(tree, "", monitor="hello"), str)

    error = caught.value
    assert error.message.endswith("mon_groups/hello: no space left on device (ENOSPC): Out of RMIDs")
    assert (error.pointer, error.hint) == (
        "/linux/intelRdt/enableMonitoring",
        "no class or group is left: see num_closids and num_rmids below info/ of resctrl",
    )


def test_a_line_that_the_kernel_refuses_is_told_with_its_place(tree: Tree) -> None:
    with pytest.raises(DriverError) as caught:
        make(wanted(tree, "own", own=True, schemata=["MB:0=1", "L4:0=f"]), str)

    assert "Unknown or unsupported resource name 'L4'" in caught.value.message
    assert caught.value.pointer == "/linux/intelRdt/schemata/1"


def test_masks_are_compared_as_numbers() -> None:
    assert parse("    L3:0=000ff; 1=0F\n MB:0= 100\n") == {"L3": {"0": "ff", "1": "f"}, "MB": {"0": "100"}}


@pytest.mark.parametrize(
    ("host", "rule", "hint"),
    [
        (cases.a_host(resctrl=""), "resctrl is not mounted", "mount -t resctrl resctrl /sys"),
        (cases.a_host(reach=Reach(cgroup=cases.SCOPE)), "resctrl belongs to root of the host", "run as root"),
    ],
)  # fmt: skip
def test_a_host_that_cannot_is_told(host: Host, rule: str, hint: str) -> None:
    with pytest.raises(HostError, match=rule) as caught:
        plan(asking({"closID": "a"}), host, cases.options())

    assert (caught.value.pointer, caught.value.hint[: len(hint)]) == ("/linux/intelRdt", hint)


@pytest.mark.parametrize("name", ["info", "mon_groups", "mon_data"])
def test_what_is_no_class_is_refused(name: str) -> None:
    for asked, ident in (({"closID": name}, "hello"), ({}, name)):
        with pytest.raises(Exception, match="/linux/intelRdt/closID") as caught:
            plan(asking(asked), cases.a_host(), cases.options(ident))  # type: ignore[arg-type]
        assert "which is no class of resctrl (give the class another name)" in str(caught.value)


def test_the_mount_is_found_wherever_it_is() -> None:
    line = b"36 35 0:30 / /mnt/rdt\\040here rw,relatime shared:9 - resctrl resctrl rw\n"

    assert mounts_of(b"resctrl ", line) == {"/mnt/rdt here": "/"}
    assert mounts_of(b"resctrl ", line.replace(b"- resctrl", b"- tmpfs")) == {}
