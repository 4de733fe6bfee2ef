"""Namespaces that exist, of users and of time: what is planned for them, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ocirun.errors import ConfigError
from ocirun.planner import plan
from ocirun.planner.exec import plan_exec
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun_spec.types import Config, IDMapping

    from ocirun.plan.model import Step


def config_of(uids: list[IDMapping], gids: list[IDMapping]) -> Config:
    """The bundle with a new user namespace, with these mappings."""
    config = cases.config("user-namespace")
    assert "linux" in config
    config["linux"]["uidMappings"], config["linux"]["gidMappings"] = uids, gids
    return config


def one(inside: int, outside: int, size: int) -> IDMapping:
    return {"containerID": inside, "hostID": outside, "size": size}


def planned(config: Config) -> list[Step]:
    return list(plan(config, cases.a_host(), cases.options()).steps)


def verbs(steps: list[Step]) -> list[str]:
    return [step.verb for step in steps]


@pytest.mark.parametrize(
    ("mappings", "rule"),
    [
        ([], "must be given for a new user namespace"),
        ([one(1, 1000, 9)], "must map the id 0 of the container, who makes its mounts"),
        ([one(0, 0, 1), *[one(n, 100000 + n, 1) for n in range(1, 400)]], "is longer than the kernel takes"),
    ],
)
def test_mappings_that_make_no_container_are_refused(mappings: list[IDMapping], rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(config_of(mappings, mappings))

    assert [fault.pointer for fault in caught.value.faults] == ["/linux/uidMappings", "/linux/gidMappings"]
    assert all(fault.rule.startswith(rule) for fault in caught.value.faults)


def test_one_that_is_joined_needs_no_mappings_and_ignores_them() -> None:
    config = config_of([one(0, 7, 1)], [])
    assert "linux" in config
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "user", "path": "/run/ns/user"}]
    del config["linux"]["timeOffsets"], config["hostname"]

    assert "set_id_maps" not in verbs(planned(config))


def test_in_a_user_namespace_all_capabilities_are_there_to_be_given() -> None:
    config = cases.config("user-namespace")
    poor = cases.a_host(capabilities=1 << 21)

    assert not plan(config, poor, cases.options()).warnings
    assert plan(cases.config(), poor, cases.options()).warnings


def test_a_process_does_not_join_a_cgroup_namespace_that_the_container_shares() -> None:
    config, process = cases.process("exec/user-namespace")
    assert "linux" in config
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "user"}]
    steps = list(plan_exec(config, process, cases.a_host(), cases.exec_options()).steps)

    assert "become_root" in verbs(steps)
    assert not {"join_cgroup_namespace", "open_namespace"} & set(verbs(steps))


def test_what_only_few_ask_for_costs_the_others_nothing() -> None:
    extra = {
        "open_proc",
        "open_namespace",
        "join_namespace",
        "set_id_maps",
        "make_time_namespace",
        "become_root",
    }

    assert not extra & set(verbs(planned(cases.config())))
