"""Mounts with other owners: whose mapping it is, and what cannot have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.planner import plan
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step

ONE = [{"containerID": 0, "hostID": 1000, "size": 1}]
OWN = {"uidMappings": ONE, "gidMappings": ONE}


def mounts(*entries: dict[str, Any]) -> Sequence[Step]:
    config: Any = cases.config()
    config["mounts"] = [{"destination": "/m", "source": "/s", **entry} for entry in entries]
    return plan(config, cases.a_host(), cases.options()).steps


def refused(entry: dict[str, Any]) -> tuple[str, str]:
    """The pointer and rule of the one fault."""
    with pytest.raises(ConfigError) as caught:
        mounts(entry)
    (fault,) = caught.value.faults
    return fault.pointer, str(fault)


def test_equal_mappings_are_made_once() -> None:
    steps = mounts({"options": ["bind", "idmap"], **OWN}, {"options": ["bind"], **OWN})

    assert [step.verb for step in steps].count("make_mapping") == 1
    assert [step.args[:2] for step in steps if step.verb == "map_ids"] == [
        ("mount.0", "mapping.0"),
        ("mount.1", "mapping.0"),
    ]


def test_an_empty_list_is_no_mapping() -> None:
    assert "map_ids" not in {
        step.verb for step in mounts({"options": ["bind"], "uidMappings": [], "gidMappings": []})
    }


@pytest.mark.parametrize(
    ("entry", "place", "rule"),
    [
        ({"type": "proc", "options": ["idmap"]}, "/type", "has no owners to map"),
        ({"type": "cgroup2", "options": []}, "/type", "has no owners to map"),
        ({"type": "tmpfs", "options": ["tmpcopyup"]}, "/options/0", "beside a mapping of ids is not built"),
        ({"type": "tmpfs", "options": ["remount", "idmap"]}, "", "cannot map what is mounted already"),
        ({"options": ["bind", "idmap=uids=0-1-1;gids=0-1-1"]}, "/options/1", "cannot stand beside"),
    ],
)
def test_what_has_no_mapping_of_its_own(entry: dict[str, Any], place: str, rule: str) -> None:
    pointer, told = refused({**entry, **OWN})

    assert pointer == f"/mounts/0{place}"
    assert rule in told


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("uids=0-1-1", "must map gids as well"),
        ("gids=0-1-1;", "must be uids="),
        ("uids=0-1;gids=0-1-1", "must be uids="),
        ("uids=0-1-1#;gids=0-1-1", "must be uids="),
        ("uids=0-x-1;gids=0-1-1", "must be uids="),
        ("uids=0--1-1;gids=0-1-1", "must be uids="),
        ("users=0-1-1;uids=0-1-1;gids=0-1-1", "must be uids="),
        ("uids=0-1-1;gids=@0-1-1", "is not in one range of /linux/gidMappings"),
    ],
)
def test_a_mapping_that_no_option_can_bring(word: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mounts({"options": ["bind", f"idmap={word}"]})

    assert {fault.pointer for fault in caught.value.faults} == {"/mounts/0/options/1"}
    assert any(rule in str(fault) for fault in caught.value.faults)


def test_a_mapping_longer_than_a_page_is_refused() -> None:
    many = [{"containerID": number, "hostID": number * 4000000, "size": 1} for number in range(300)]

    pointer, told = refused({"options": ["bind"], "uidMappings": many, "gidMappings": ONE})

    assert (pointer, "longer mappings" in told) == ("/mounts/0", True)


@pytest.mark.parametrize("entry", [{"options": ["bind", "idmap"]}, {"type": "tmpfs"}])
def test_who_is_not_root_maps_nothing(entry: dict[str, Any]) -> None:
    config: Any = cases.config("of-a-user")
    config["mounts"] = [{"destination": "/m", "source": "/s", **entry, **OWN}]
    with pytest.raises(HostError) as caught:
        plan(config, cases.a_users_host(), cases.options())

    assert caught.value.pointer == "/mounts/0"
    assert "by root of the host alone" in str(caught.value)
