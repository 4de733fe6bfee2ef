"""What is not built is refused by name, and nothing of the specification is overlooked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.host import legacy_controllers
from ocirun.planner import plan
from ocirun.planner.scope import NOT_PLANNED, REFUSED, neutral
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun_spec.types import Config

    from ocirun.host import Host

SCHEMA = Path(__file__).parents[2] / "spec/ocirun_spec/config-schema.json"

#: Something to ask for, for each member that is refused.
ASKS: dict[str, object] = {
    "/vm": {"kernel": {"path": "/k"}},
    "/solaris": {"milestone": "m"},
    "/windows": {"layerFolders": ["a"]},
    "/zos": {"namespaces": [{"type": "ipc"}]},
    "/freebsd": {"jail": {"parent": "p"}},
    "/process/commandLine": "cmd",
    "/process/user/username": "me",
}


def child(here: dict[str, object] | list[object], part: str) -> dict[str, object]:
    """The object at ``part`` of an object, where it is made if missing, or of a list."""
    found = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    return cast("dict[str, object]", found)


def asking(pointer: str, value: object) -> Config:
    """The default config with ``value`` at ``pointer``."""
    config = cases.config()
    here = cast("dict[str, object]", config)
    *way, last = pointer.split("/")[1:]
    for part in way:
        here = child(here, part)
    here[last] = value
    return config


def refusal(config: Config, host: Host | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        plan(config, host or cases.a_host(), cases.options())
    return caught.value


@pytest.mark.parametrize("pointer", ASKS)
def test_a_member_that_is_not_built_is_refused_by_name(pointer: str) -> None:
    error = refusal(asking(pointer, ASKS[pointer]))

    assert error.code == "config-unsupported"
    assert [fault.pointer for fault in error.faults] == [pointer]


def test_a_label_of_mounts_is_warned_of_where_nothing_has_a_label() -> None:
    config = asking("/linux/mountLabel", "label")
    planned = plan(config, cases.a_host(selinux=False), cases.options())

    assert [fault.pointer for fault in planned.warnings] == ["/linux/mountLabel"]
    config = asking("/vm", {"kernel": {"path": "/k"}})
    assert "linux" in config
    config["linux"]["mountLabel"] = "label"
    assert [fault.pointer for fault in refusal(config, cases.a_host(selinux=False)).faults] == ["/vm"]


@pytest.mark.parametrize("label", ['a"b', "a" * 201])
def test_a_label_that_mount_cannot_take(label: str) -> None:
    (fault,) = refusal(asking("/linux/mountLabel", label)).faults

    assert fault.pointer == "/linux/mountLabel"
    assert "must be a label of SELinux" in str(fault)


def test_queues_are_not_labelled_and_it_is_told() -> None:
    planned = plan(asking("/linux/mountLabel", "label"), cases.a_host(), cases.options())
    places = [
        number for number, one in enumerate(cases.config().get("mounts", [])) if one.get("type") == "mqueue"
    ]

    assert [fault.pointer for fault in planned.warnings] == [f"/mounts/{places[0]}/type"]


def test_every_refused_member_is_tried() -> None:
    refused = {f"{place}/{name}".replace("*", "0") for place, names in REFUSED.items() for name in names}

    assert refused <= ASKS.keys()


@pytest.mark.parametrize("option", ["nofail", "loop", "loop=/dev/loop0"])
def test_a_mount_option_that_is_not_built_is_refused_by_its_place(option: str) -> None:
    error = refusal(asking("/mounts/0/options", ["nosuid", option]))

    assert [(fault.pointer, fault.value) for fault in error.faults] == [
        ("/mounts/0/options/1", f'"{option}"')
    ]
    assert error.code == "config-unsupported"


def test_without_a_mount_namespace_nothing_is_built() -> None:
    error = refusal(asking("/linux/namespaces", [{"type": "pid"}]))

    assert "/linux/namespaces" in [fault.pointer for fault in error.faults]


def test_without_a_process_nothing_is_executed_and_who_waits_has_no_rights() -> None:
    config = cases.config()
    config.pop("process")
    steps = plan(config, cases.a_host(), cases.options()).steps

    assert steps[-1].verb == "await_start"
    assert not {"exec", "find_program", "find_home"} & {step.verb for step in steps}
    assert [step.args for step in steps if step.verb == "set_capabilities"] == [(0, 0, 0)]


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/hooks", {"prestart": []}),
        ("/linux/resources/memory", {}),
        ("/linux/resources/memory", {"disableOOMKiller": False}),
        ("/linux/resources/hugepageLimits", []),
        ("/linux/seccomp", {}),
        ("/linux/sysctl", {}),
        ("/linux/devices", []),
        ("/process/apparmorProfile", ""),
        ("/linux/rootfsPropagation", "slave"),
        ("/annotations", {"org.example": "x"}),
    ],
)
def test_a_member_that_asks_for_nothing_is_fine(pointer: str, value: object) -> None:
    assert plan(asking(pointer, value), cases.a_host(), cases.options()).warnings == ()


def test_zero_is_a_number_that_asks() -> None:
    nothing: list[object] = [None, False, "", [], {}, {"a": []}]
    something: list[object] = [0, True, "a", [0], {"a": 0}]

    assert [neutral(value) for value in nothing] == [True] * len(nothing)
    assert [neutral(value) for value in something] == [False] * len(something)


def test_a_profile_of_apparmor_needs_a_host_with_it() -> None:
    host = cases.a_host(apparmor=False)

    with pytest.raises(HostError) as caught:
        plan(asking("/process/apparmorProfile", "docker-default"), host, cases.options())

    assert caught.value.pointer == "/process/apparmorProfile"
    assert caught.value.message == "this host has no AppArmor"
    unconfined = plan(asking("/process/apparmorProfile", "unconfined"), host, cases.options())
    assert "set_apparmor" not in [step.verb for step in unconfined.steps]


def test_a_profile_of_apparmor_has_no_space_in_its_name() -> None:
    faults = refusal(asking("/process/apparmorProfile", "a b")).faults
    assert [fault.pointer for fault in faults] == ["/process/apparmorProfile"]


@pytest.mark.parametrize(
    ("legacy", "told"),
    [
        (frozenset(("pids", "cpu")), "it is on cgroup v1"),
        (frozenset(("cpu",)), "neither there nor on cgroup v1"),
    ],
)
def test_a_limit_without_its_controller_is_the_hosts_fault_and_says_where_it_is(
    legacy: frozenset[str], told: str
) -> None:
    host = cases.a_host(
        hybrid=True,
        cgroup_mount="/sys/fs/cgroup/unified",
        controllers=frozenset(("hugetlb",)),
        legacy=legacy,
    )

    with pytest.raises(HostError) as caught:
        plan(asking("/linux/resources/pids/limit", 5), host, cases.options())

    assert caught.value.pointer == "/linux/resources/pids/limit"
    assert caught.value.message == "the pids controller is not on cgroup2"
    assert told in caught.value.hint


def test_the_controllers_of_cgroup_v1_have_the_names_of_cgroup2() -> None:
    text = "9:name=systemd:/\n7:blkio:/x\n4:memory:/a:b\n1:cpu,cpuacct:/\n0::/\n"
    assert legacy_controllers(text) == {"io", "memory", "cpu", "cpuacct"}


def test_all_that_is_wrong_is_told_at_once_and_wrong_comes_before_not_built() -> None:
    config = asking("/windows", {"layerFolders": ["a"]})
    assert "process" in config
    assert "linux" in config
    config["process"]["cwd"] = "here"
    config["linux"]["maskedPaths"] = ["there"]

    error = refusal(config)

    assert sorted(fault.pointer for fault in error.faults) == [
        "/linux/maskedPaths/0",
        "/process/cwd",
        "/windows",
    ]
    assert error.code == "config-invalid"


# -- nothing is overlooked
# -------------------------------------------------------------------------------------


class Watched(dict[str, object]):
    """An object of the config that notes which of its members are read."""

    def __init__(self, members: dict[str, object], place: str, read: set[str]) -> None:
        super().__init__({name: watched(value, f"{place}/{name}", read) for name, value in members.items()})
        self.place = place
        self.seen = read

    def __getitem__(self, name: str) -> object:
        self.seen.add(f"{self.place}/{name}")
        return super().__getitem__(name)

    def get(self, name: str, default: object = None) -> object:
        self.seen.add(f"{self.place}/{name}")
        return super().get(name, default)


def watched(value: object, place: str, read: set[str]) -> object:
    if isinstance(value, dict):
        return Watched(cast("dict[str, object]", value), place, read)
    if isinstance(value, list):
        return [watched(entry, f"{place}/*", read) for entry in cast("list[object]", value)]
    return value


def members_read() -> set[str]:
    """The members that planning the golden bundles reads."""
    read: set[str] = set()
    for name in cases.NAMES:
        config = cast("Config", watched(cases.config(name), "", read))
        plan(config, cases.a_host(), cases.options_of(name))
    return read


def members_of_the_schema() -> Iterator[str]:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    yield from _members(schema, schema, "")


def _members(schema: dict[str, object], root: dict[str, object], place: str) -> Iterator[str]:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        definitions = cast("dict[str, dict[str, object]]", root["definitions"])
        yield from _members(definitions[reference.rpartition("/")[2]], root, place)
    for name, child in cast("dict[str, dict[str, object]]", schema.get("properties", {})).items():
        yield f"{place}/{name}"
        yield from _members(child, root, f"{place}/{name}")
    items = schema.get("items")
    if isinstance(items, dict):
        yield from _members(cast("dict[str, object]", items), root, f"{place}/*")


def test_every_member_of_the_schema_is_planned_or_refused() -> None:
    settled = {f"{place}/{name}" for place, names in REFUSED.items() for name in names}
    settled |= NOT_PLANNED.keys()
    read = members_read()

    overlooked = [
        member
        for member in members_of_the_schema()
        if member not in read and not any(member == one or member.startswith(f"{one}/") for one in settled)
    ]

    assert overlooked == []


def test_the_table_names_only_members_of_the_schema() -> None:
    settled = {f"{place}/{name}" for place, names in REFUSED.items() for name in names}
    settled |= NOT_PLANNED.keys()

    assert settled <= set(members_of_the_schema())
