"""Limits as the files of cgroup2 that the kernel reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirun.cgroup.settings import set_cgroup
from ocirun.errors import ConfigError, DriverError, HostError
from ocirun.planner import plan
from ocirun.planner.resources import weight_of_io, weight_of_shares
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocirun.host import Host
    from ocirun.plan.model import Plan

MOUNT = "/sys/fs/cgroup"
HERE = f"{MOUNT}/ocirun/hello"


def _planned(resources: dict[str, Any], host: Host | None = None) -> Plan:
    config = cases.config()
    section: Any = config.setdefault("linux", {})
    section["resources"] = resources
    return plan(config, host or cases.a_host(), cases.options())


def _writes(resources: dict[str, Any], where: str = HERE) -> list[tuple[object, ...]]:
    """What is written there: the words, and whether a refusal matters."""
    found: list[tuple[object, ...]] = []
    for step in _planned(resources).steps:
        if step.verb == "set_cgroup" and step.args[0] == where:
            words = step.args[1]
            assert isinstance(words, tuple)
            found.append((*words, step.args[2]))
    return found


@pytest.mark.parametrize(
    ("resources", "writes"),
    [
        ({"memory": {"limit": 1000}}, [("memory.max", "1000", 1)]),
        (
            {"memory": {"limit": 1000, "swap": 1500}},
            [("memory.max", "1000", 1), ("memory.swap.max", "500", 1)],
        ),
        ({"memory": {"limit": 1000, "swap": 1000}}, [("memory.max", "1000", 1), ("memory.swap.max", "0", 0)]),
        ({"memory": {"limit": 1000, "swap": -1}}, [("memory.max", "1000", 1), ("memory.swap.max", "max", 0)]),
        ({"memory": {"limit": -1}}, [("memory.max", "max", 0), ("memory.swap.max", "max", 0)]),
        ({"memory": {"limit": 0, "swap": 0, "reservation": 7}}, [("memory.low", "7", 1)]),
        ({"cpu": {"shares": 1024}}, [("cpu.weight", "100", 1)]),
        ({"cpu": {"shares": 0, "quota": 0, "period": 0}}, []),
        ({"cpu": {"shares": 1024, "idle": 1}}, [("cpu.idle", "1", 1)]),
        ({"cpu": {"quota": 5000, "period": 10000}}, [("cpu.max", "5000 10000", 1)]),
        ({"cpu": {"quota": 5000}}, [("cpu.max", "5000", 1)]),
        ({"cpu": {"quota": -1}}, [("cpu.max", "max", 0)]),
        ({"cpu": {"period": 20000}}, [("cpu.max", "max 20000", 1)]),
        ({"cpu": {"burst": 70}}, [("cpu.max.burst", "70", 1)]),
        (
            {"cpu": {"quota": 100, "burst": 70}},
            [("cpu.max.burst", "70", 0), ("cpu.max", "100", 1), ("cpu.max.burst", "70", 1)],
        ),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, [("cpuset.cpus", "0-1", 1), ("cpuset.mems", "0", 1)]),
        ({"pids": {"limit": -1}}, [("pids.max", "max", 0)]),
        ({"pids": {"limit": 0}}, [("pids.max", "1", 1)]),
        ({"pids": {"limit": 5}}, [("pids.max", "5", 1)]),
        ({"blockIO": {"weight": 10}}, [("io.bfq.weight", "10", "io.weight", "1", 1)]),
        (
            {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 9}]}},
            [("io.max", "8:1 wiops=9", 1)],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
            [("hugetlb.2MB.rsvd.max", "4", 0), ("hugetlb.2MB.max", "4", 1)],
        ),
        ({"rdma": {"m": {"hcaObjects": 3}}}, [("rdma.max", "m hca_object=3", 1)]),
        (
            {"pids": {"limit": 5}, "unified": {"pids.max": "6", "cgroup.max.depth": "2"}},
            [("pids.max", "5", 1), ("pids.max", "6", 1), ("cgroup.max.depth", "2", 1)],
        ),
        ({"memory": {"disableOOMKiller": False, "useHierarchy": True}}, []),
    ],
)
def test_a_member_becomes_files(resources: dict[str, Any], writes: list[tuple[object, ...]]) -> None:
    assert _writes(resources) == writes


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (1024, 100), (512, 59), (262144, 10000), (999999, 10000)]
)
def test_shares_follow_the_curve(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


def test_the_weights_of_devices_fill_the_range() -> None:
    assert (weight_of_io(10), weight_of_io(1000)) == (1, 10000)


def test_controllers_are_enabled_in_every_cgroup_above_and_not_in_its_own() -> None:
    resources = {"pids": {"limit": 5}, "rdma": {"a": {"hcaHandles": 1}}}
    wanted = [("cgroup.subtree_control", f"+{name}", 1) for name in ("pids", "rdma")]
    assert _writes(resources, MOUNT) == wanted
    assert _writes(resources, f"{MOUNT}/ocirun") == wanted
    assert _writes(resources) == [("pids.max", "5", 1), ("rdma.max", "a hca_handle=1", 1)]


def test_what_counts_only_is_enabled_where_the_host_has_it() -> None:
    host = cases.a_host(controllers=frozenset(("hugetlb", "memory", "cpu")))
    made = _planned({}, host).steps[0]
    assert (made.verb, made.args[-1]) == ("make_cgroup", "cpu memory")


@pytest.mark.parametrize(
    ("part", "member", "value"),
    [
        ("memory", "disableOOMKiller", True),
        ("memory", "swappiness", 0),
        ("memory", "swappiness", 100),
        ("cpu", "realtimeRuntime", 5),
        ("blockIO", "leafWeight", 10),
        ("network", "classID", 1),
        ("unified", "cgroup.procs", "1"),
        ("unified", "cgroup.freeze", "1"),
    ],
)
def test_what_cgroup2_cannot_do_is_refused_at_its_place(part: str, member: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        _planned({part: {member: value}})
    assert [fault.pointer for fault in caught.value.faults] == [f"/linux/resources/{part}/{member}"]


@pytest.mark.parametrize("member", ["kernel", "kernelTCP"])
def test_what_the_kernel_has_given_up_is_warned_of(member: str) -> None:
    pointers = [fault.pointer for fault in _planned({"memory": {member: 9}}).warnings]
    assert pointers == [f"/linux/resources/memory/{member}"]


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"memory": {"limit": 9}}, "memory/limit"),
        ({"cpu": {"shares": 512}}, "cpu/shares"),
        ({"cpu": {"cpus": "0"}}, "cpu/cpus"),
        ({"unified": {"misc.max": "9"}}, "unified/misc.max"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, "hugepageLimits/0"),
    ],
)
def test_a_limit_needs_its_controller(resources: dict[str, Any], pointer: str) -> None:
    with pytest.raises(HostError) as caught:
        _planned(resources, cases.a_host(controllers=frozenset()))
    assert caught.value.pointer == f"/linux/resources/{pointer}"
    assert "cgroup.controllers" in caught.value.hint


@pytest.mark.parametrize(
    "resources",
    [{"memory": {"limit": -1, "swap": -1}}, {"pids": {"limit": -1}}, {"cpu": {"quota": -1, "idle": 0}}],
)
def test_no_limit_needs_no_controller(resources: dict[str, Any]) -> None:
    assert _planned(resources, cases.a_host(controllers=frozenset())).warnings == ()


def test_a_rate_that_is_absent_is_no_limit() -> None:
    resources = {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}}
    assert ("io.max", "8:0 rbps=max", 1) in _writes(resources)


def _perform(planned: Plan, where: Path, note: Callable[[str, str], None] | None = None) -> None:
    """Writes to files of a plain directory what the plan writes to those of the container's cgroup."""
    for step in planned.steps:
        if step.verb == "set_cgroup" and step.args[0] == HERE:
            words = step.args[1]
            assert isinstance(words, tuple)
            texts = [str(word) for word in words]
            set_cgroup(str(where), texts, needed=bool(step.args[2]), pointer=step.pointer, note=note)


@pytest.mark.parametrize("swap", [1000, -1])
def test_without_accounting_of_swap_none_and_any_are_left_unsaid(tmp_path: Path, swap: int) -> None:
    (tmp_path / "memory.max").touch()
    _perform(_planned({"memory": {"limit": 1000, "swap": swap}}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["memory.max"]
    assert (tmp_path / "memory.max").read_text() == "1000"


def test_without_accounting_of_swap_a_limit_of_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "memory.max").touch()
    with pytest.raises(DriverError, match="this kernel does not account for swap") as caught:
        _perform(_planned({"memory": {"limit": 1000, "swap": 1500}}), tmp_path)
    assert caught.value.pointer == "/linux/resources/memory/swap"


def test_what_no_machine_of_ours_has_is_written_in_a_simulated_cgroup(tmp_path: Path) -> None:
    """rdma takes a line for each device; misc comes by the name of its file."""
    wanted: dict[str, Any] = {
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}, "mlx4_0": {"hcaObjects": 1000}},
        "unified": {"misc.max": "sev_es 2"},
    }
    controllers = frozenset(("rdma", "misc"))
    written: list[tuple[str, str]] = []

    def note(path: str, value: str) -> None:
        written.append((path, value))

    for file in ("rdma.max", "misc.max"):
        (tmp_path / file).touch()
    _perform(_planned(wanted, cases.a_host(controllers=controllers)), tmp_path, note)
    assert [(path.rpartition("/")[2], value) for path, value in written] == [
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=4"),
        ("rdma.max", "mlx4_0 hca_object=1000"),
        ("misc.max", "sev_es 2"),
    ]
    assert (tmp_path / "misc.max").read_text() == "sev_es 2"
