"""Names of scopes and slices, and limits as properties of systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.planner import plan
from ocirun.planner.draft import Systemd
from ocirun.planner.scope_limits import mask
from ocirun.planner.systemd import expanded
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun.plan.model import Plan, Step


def _planned(
    path: str = "",
    *,
    annotations: dict[str, str] | None = None,
    resources: dict[str, Any] | None = None,
    systemd: Systemd | None = None,
) -> Plan:
    config = cases.config()
    section: Any = config.setdefault("linux", {})
    section |= {"cgroupsPath": path, "resources": resources or {}}
    config["annotations"] = annotations or {}
    options = cases.options()
    options.systemd = systemd or Systemd(version=257)
    return plan(config, cases.a_host(), options)


def _scope(planned: Plan) -> Step:
    return next(step for step in planned.steps if step.verb == "make_scope")


def _properties(planned: Plan) -> dict[str, str]:
    words = _scope(planned).args[5]
    assert isinstance(words, tuple)
    texts = [str(word) for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _faults(path: str = "", annotations: dict[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        _planned(path, annotations=annotations)
    return [(fault.pointer, fault.rule) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("wanted", "unit", "path"),
    [
        ("system.slice:docker:1", "docker-1.scope", "/system.slice/docker-1.scope"),
        ("a-b-c.slice:p:n", "p-n.scope", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        ("-.slice:p:n", "p-n.scope", "/p-n.scope"),
        (":p:n", "p-n.scope", "/system.slice/p-n.scope"),
        ("", "ocirun-hello.scope", "/system.slice/ocirun-hello.scope"),
    ],
)
def test_a_path_names_slice_and_scope(wanted: str, unit: str, path: str) -> None:
    scope = _scope(_planned(wanted))
    assert scope.args[:5] == ("/sys/fs/cgroup", path, "", unit, 0)


def test_the_scope_of_a_user_is_below_his_manager() -> None:
    root = "/user.slice/user-1.slice/user@1.service"
    scope = _scope(_planned(systemd=Systemd(user=True, root=root, version=257)))
    assert scope.args[1:5] == (f"{root}/user.slice/ocirun-hello.scope", "", "ocirun-hello.scope", 1)
    assert "DevicePolicy" not in str(scope.args[5])  # such a manager may load no device program


def test_a_users_manager_gives_the_controllers_that_it_has() -> None:
    """Whatever the root of the host has: systemd takes the properties of the others and does nothing."""
    root = "/user.slice/user-1.slice/user@1.service"
    his = Systemd(user=True, root=root, version=257, controllers=frozenset(("memory", "pids")))
    planned = _planned(resources={"memory": {"limit": 1 << 20}, "pids": {"limit": 7}}, systemd=his)
    assert _scope(planned).args[1] == f"{root}/user.slice/ocirun-hello.scope"
    with pytest.raises(HostError, match=f"{root} offers memory pids") as caught:
        _planned(resources={"cpu": {"shares": 512}}, systemd=his)
    assert caught.value.pointer == "/linux/resources/cpu/shares"
    assert "Delegate=cpu memory pids" in caught.value.hint


def test_init_can_be_born_below_the_scope() -> None:
    planned = _planned("system.slice:p:n", annotations={"run.oci.systemd.subgroup": "container"})
    opened = next(step for step in planned.steps if step.verb == "open_cgroup")
    assert opened.args[0] == "/sys/fs/cgroup/system.slice/p-n.scope/container"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/a/path", 'must be "slice:prefix:name" where systemd makes the cgroups'),
        ("one:two", 'must be "slice:prefix:name" where systemd makes the cgroups'),
        ("a.slice:b:c:d", 'must be "slice:prefix:name" where systemd makes the cgroups'),
        ("a.slice:b:", 'must be "slice:prefix:name" where systemd makes the cgroups'),
        ("a:b:c", '"a" is no slice'),
        ("a--b.slice:b:c", '"a--b.slice" is no slice'),
        ("-a.slice:b:c", '"-a.slice" is no slice'),
        ("../x.slice:b:c", '"../x.slice" is no slice'),
        ("a.slice:b:c/d", '"b-c/d.scope" is no name of a unit'),
        ("a.slice:b:" + "x" * 300, f'"b-{"x" * 300}.scope" is no name of a unit'),
    ],
)
def test_a_malformed_path_is_a_fault(path: str, rule: str) -> None:
    assert _faults(path) == [("/linux/cgroupsPath", rule)]


def test_the_name_of_a_scope_needs_systemd() -> None:
    config = cases.config()
    config.setdefault("linux", {})["cgroupsPath"] = "system.slice:docker:1"
    with pytest.raises(ConfigError, match="--systemd-cgroup") as caught:
        plan(config, cases.a_host(), cases.options())
    assert caught.value.pointer == "/linux/cgroupsPath"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", "uint64 5")),
        ("TimeoutStopSec", "5", ("TimeoutStopUSec", "uint64 5000000")),
        ("TimeoutStopSec", "uint32 5", ("TimeoutStopUSec", "uint64 5000000")),
        ("TimeoutStopSec", "0.5", ("TimeoutStopUSec", "uint64 500000")),
        ("CollectMode", "'inactive-or-failed'", ("CollectMode", "'inactive-or-failed'")),
        ("DefaultDependencies", "true", ("DefaultDependencies", "true")),
        ("Something", "@a(st) [('/x', 5)]", ("Something", "@a(st) [('/x', 5)]")),
    ],
)
def test_annotations_are_properties(name: str, text: str, expected: tuple[str, str]) -> None:
    planned = _planned(annotations={f"org.systemd.property.{name}": text})
    assert expected in _properties(planned).items()


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("TimeoutStopUSec", "5", "has the type i, TimeoutStopUSec wants t"),
        ("TimeoutStopUSec", "uint64", "has no value"),
        ("TimeoutStopSec", "'5'", "must be a number of seconds"),
        ("TimeoutStopSec", "-5", "must be a number of seconds"),
        ("CollectMode", "inactive", "has no value: 'inactive'"),
        ("CollectMode", "true", "has the type b, CollectMode wants s"),
        ("PIDs", "[uint32 1]", "is a property by which the runtime holds the container"),
        ("Slice", "'x.slice'", "is a property by which the runtime holds the container"),
        ("a/b", "1", "is no property of a unit: their names have letters alone"),
        ("", "1", "is no property of a unit: their names have letters alone"),
    ],
)
def test_a_bad_property_is_a_fault_at_its_annotation(name: str, text: str, rule: str) -> None:
    key = f"org.systemd.property.{name}"
    assert _faults(annotations={key: text}) == [(f"/annotations/{key.replace('/', '~1')}", rule)]


@pytest.mark.parametrize("inner", ["..", "a/../b", "a//b", "."])
def test_the_inner_cgroup_stays_below_the_scope(inner: str) -> None:
    faults = _faults(annotations={"run.oci.systemd.subgroup": inner})
    assert faults == [("/annotations/run.oci.systemd.subgroup", "must name a cgroup below the scope")]


@pytest.mark.parametrize(
    ("resources", "properties"),
    [
        ({"memory": {"limit": 1000}}, {"MemoryMax": "uint64 1000"}),
        ({"memory": {"limit": -1}}, {"MemoryMax": f"uint64 {(1 << 64) - 1}"}),
        ({"memory": {"limit": 1000, "swap": 1500}}, {"MemorySwapMax": "uint64 500"}),
        ({"memory": {"reservation": 7}}, {"MemoryLow": "uint64 7"}),
        ({"cpu": {"shares": 512}}, {"CPUWeight": "uint64 59"}),
        ({"cpu": {"idle": 1}}, {"CPUWeight": "uint64 0"}),
        (
            {"cpu": {"quota": 33333, "period": 100000}},
            {"CPUQuotaPerSecUSec": "uint64 340000", "CPUQuotaPeriodUSec": "uint64 100000"},
        ),
        ({"cpu": {"quota": 5000}}, {"CPUQuotaPerSecUSec": "uint64 50000"}),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": f"uint64 {(1 << 64) - 1}"}),
        (
            {"cpu": {"cpus": "0-2,9", "mems": "1"}},
            {"AllowedCPUs": "@ay [7, 2]", "AllowedMemoryNodes": "@ay [2]"},
        ),
        ({"pids": {"limit": 0}}, {"TasksMax": "uint64 1"}),
        ({"pids": {"limit": -1}}, {"TasksMax": f"uint64 {(1 << 64) - 1}"}),
        ({"blockIO": {"weight": 300}}, {"IOWeight": "uint64 2930"}),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}},
            {"IODeviceWeight": "@a(st) [('/dev/block/8:0', 4950)]"},
        ),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [
                        {"major": 8, "minor": 0, "rate": 5},
                        {"major": 8, "minor": 16, "rate": 6},
                    ]
                }
            },
            {"IOReadBandwidthMax": "@a(st) [('/dev/block/8:0', 5), ('/dev/block/8:16', 6)]"},
        ),
        ({"unified": {"memory.high": "2M", "memory.min": "7"}}, {"MemoryHigh": "uint64 2097152"}),
    ],
)
def test_limits_are_properties(resources: dict[str, Any], properties: dict[str, str]) -> None:
    assert properties.items() <= _properties(_planned(resources=resources)).items()


@pytest.mark.parametrize(
    ("resources", "version"),
    [
        ({"cpu": {"idle": 1}}, 250),
        ({"unified": {"memory.high": "2 M"}}, 257),
        ({"unified": {"cpu.max": "fast"}}, 257),
        ({"unified": {"cpuset.cpus": "0-"}}, 257),
        ({"unified": {"memory.oom.group": "1"}}, 257),
    ],
)
def test_what_systemd_cannot_say_is_left_to_the_file(resources: dict[str, Any], version: int) -> None:
    told = _properties(_planned(resources=resources, systemd=Systemd(version=version)))
    assert told.keys() == _properties(_planned()).keys()


def _devices(*rules: dict[str, Any]) -> tuple[str, str]:
    told = _properties(_planned(resources={"devices": list(rules)}))
    return told["DevicePolicy"], told.get("DeviceAllow", "")


def test_systemd_lets_every_device_pass_that_is_allowed() -> None:
    nothing: dict[str, Any] = {"allow": False, "access": "rwm"}
    policy, allowed = _devices(
        nothing,
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "b", "major": 8, "access": "r"},
        {"allow": True, "type": "c", "minor": 3},
        {"allow": True, "major": 7, "minor": 1, "access": "m"},
    )
    assert policy == "'strict'"
    for one in ("('/dev/char/10:229', 'rw')", "('block-8', 'r')", "('char-*', 'rwm')"):
        assert one in allowed
    assert "('/dev/char/7:1', 'm'), ('/dev/block/7:1', 'm')" in allowed
    assert "('/dev/char/1:3', 'rwm')" in allowed  # /dev/null, which every container has


def test_who_may_use_all_devices_is_not_held_by_systemd() -> None:
    everything: dict[str, Any] = {"allow": True, "access": "rwm"}
    assert _devices({"allow": False, "access": "rwm"}, everything) == ("'auto'", "")
    assert _devices(everything, {"allow": False, "type": "c", "major": 1, "minor": 9}) == ("'auto'", "")
    assert _devices(everything, {"allow": False, "access": "rwm"})[0] == "'strict'"


def test_few_processes_are_a_limit_when_stage_is_gone() -> None:
    planned = _planned(resources={"pids": {"limit": 2}})
    verbs = [step.verb for step in planned.steps]
    assert verbs.index("limit_processes") == verbs.index("clone_init") + 1
    steps = [step for step in planned.steps if "pids.max" in str(step.args) or step.verb == "limit_processes"]
    assert [step.args[1] for step in steps] == [("pids.max", "max"), "2"]
    many = _planned(resources={"pids": {"limit": 20}})
    assert "limit_processes" not in [step.verb for step in many.steps]


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0", b"\x01"),
        ("0-3,7", b"\x8f"),
        ("9", b"\x00\x02"),
        ("", b""),
        ("x", b""),
        ("3-1", b""),
        ("0-", b""),
        ("9999", b""),
    ],
)
def test_a_list_is_a_mask(text: str, octets: bytes) -> None:
    assert mask(text) == octets


@pytest.mark.parametrize("name", ["", ".slice", "a", "a.scope", "a/b.slice", "a-.slice", "é.slice"])
def test_what_is_no_slice(name: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        expanded(name)
