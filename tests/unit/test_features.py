"""What features claims: all of it is planned without a fault, and what scope refuses is not claimed."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from ocirun_spec.types import Hooks

from ocirun.features import features
from ocirun.planner import plan
from ocirun.planner.mount_options import IDMAPS, LINKS, known_words
from ocirun.planner.scope import REFUSED
from tests.golden import cases
from tests.property.test_config_agreement import official, official_validator
from tests.unit.test_planner_scope import ASKS, SCHEMA, asking, refusal

#: Switch of the features -> the member of the config that it tells of.
SWITCHES = {
    "seccomp": "/linux/seccomp",
    "apparmor": "/process/apparmorProfile",
    "selinux": "/process/selinuxLabel",
    "intelRdt": "/linux/intelRdt",
    "netDevices": "/linux/netDevices",
    "mountExtensions": "/mounts/0/uidMappings",
}


def _linux() -> dict[str, Any]:
    return cast("dict[str, Any]", features()["linux"])


def test_the_structure_is_that_of_the_official_schema() -> None:
    judge: Any = official_validator(official(), "features-schema.json")
    assert list(judge.iter_errors(features())) == []
    assert [*judge.iter_errors({**features(), "hooks": 3})]


def test_the_cgroups_are_those_that_are_observed() -> None:
    """tests/host/test_cgroups.py, test_systemd.py, test_users_scopes.py and test_controllers.py."""
    assert _linux()["cgroup"] == {
        "v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True,
    }  # fmt: skip


@pytest.mark.parametrize("name", SWITCHES)
def test_what_is_refused_is_not_claimed_and_what_is_built_is(name: str) -> None:
    place, _, member = SWITCHES[name].replace("/0/", "/*/").rpartition("/")
    switch = _linux()[name].get("idmap", _linux()[name])["enabled"]
    assert switch is (member not in REFUSED.get(place, {}))
    if not switch:
        pointer = SWITCHES[name]
        assert pointer in {fault.pointer for fault in refusal(asking(pointer, ASKS[pointer])).faults}


@pytest.mark.parametrize("member", ["modes", "flags"])
def test_every_memory_policy_is_planned(member: str) -> None:
    known: list[str] = _linux()["memoryPolicy"][member]
    assert sorted(known) == sorted(_named(member))
    for word in known:
        policy: dict[str, Any] = {"mode": "MPOL_BIND", "nodes": "0", "flags": []}
        policy |= {"mode": word} if member == "modes" else {"flags": [word]}
        assert plan(asking("/linux/memoryPolicy", policy), cases.a_host(), cases.options()).steps


def _named(member: str) -> list[str]:
    """The words of our schema."""
    definitions = json.loads(SCHEMA.read_text())["definitions"]
    if member == "flags":
        return cast("list[str]", definitions["MemoryPolicyFlag"]["enum"])
    return cast("list[str]", definitions["MemoryPolicy"]["properties"]["mode"]["enum"])


@pytest.mark.parametrize("option", known_words())
def test_every_mount_option_is_planned(option: str) -> None:
    assert option in cast("list[str]", features()["mountOptions"])
    mount: dict[str, Any] = {"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": [option]}
    if option in ("bind", "rbind", *LINKS):
        mount |= {"type": "bind", "source": "/src", "options": ["bind", option]}
    if option in IDMAPS:
        mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
        mount |= {"uidMappings": mapping, "gidMappings": mapping}
    assert plan(asking("/mounts", [mount]), cases.a_host(), cases.options()).steps


def test_no_option_of_a_file_system_is_told() -> None:
    of_a_file_system = {
        "size",
        "mode",
        "uid",
        "gid",
        "newinstance",
        "ptmxmode",
        "hidepid",
        "lowerdir",
        "nr_inodes",
    }
    told = cast("list[str]", features()["mountOptions"])
    assert sorted(told) == sorted(known_words())
    assert not of_a_file_system & {word.partition("=")[0] for word in told}


def test_every_namespace_and_capability_is_planned() -> None:
    namespaces = [{"type": name} for name in _linux()["namespaces"]]
    config: Any = asking("/linux/namespaces", namespaces)
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    assert plan(config, cases.a_host(), cases.options()).steps
    sets = {"bounding": _linux()["capabilities"]}
    planned = plan(asking("/process/capabilities", sets), cases.a_host(), cases.options())
    assert planned.warnings == ()


@pytest.mark.parametrize("kind", cast("list[str]", features()["hooks"]))
def test_every_hook_is_planned_and_all_are_told(kind: str) -> None:
    hook: Any = [{"path": "/bin/true"}]
    config = cases.config()
    config["hooks"] = cast("Any", {kind: hook})
    assert plan(config, cases.a_host(), cases.options()).steps
    assert cast("list[str]", features()["hooks"]) == [*Hooks.__annotations__]
