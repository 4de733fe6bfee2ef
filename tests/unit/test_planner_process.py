"""The process and its surroundings: identity, capabilities, environment, terminal, cgroup, devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.host import find_cgroup2, release
from ocirun.plan.table import TABLE
from ocirun.planner import plan
from ocirun.planner.draft import short
from ocirun.planner.scheduling import mask
from ocirun.planner.security import CAPABILITIES
from ocirun.reach import Reach
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun_spec.types import Config, DeviceRule, Process

    from ocirun.host import Host
    from ocirun.plan.model import Argument, Plan

CHOWN, KILL, NET_RAW = 1 << 0, 1 << 5, 1 << 13


def with_process(process: Process, *, host: Host | None = None) -> Plan:
    """The plan of the default bundle with members of the process replaced."""
    config = cases.config()
    assert "process" in config
    config["process"].update(process)
    return plan(config, host or cases.a_host(), cases.options())


def arguments(planned: Plan, verb: str) -> list[dict[str, Argument]]:
    """The arguments by name of every step with this verb."""
    names = [name for name, _ in next(row for row in TABLE if row.name == verb).args]
    return [dict(zip(names, step.args, strict=True)) for step in planned.steps if step.verb == verb]


def faults(config: Config) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan(config, cases.a_host(), cases.options())
    return [fault.pointer for fault in caught.value.faults]


def process_faults(process: Process) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        with_process(process)
    return [fault.pointer for fault in caught.value.faults]


BASE: Process = {"args": ["sh"], "cwd": "/"}


def test_the_last_of_two_equal_names_stands_in_the_environment() -> None:
    planned = with_process({**BASE, "env": ["A=1", "PATH=/a", "A=2", "PATH=/b", "HOME="]})

    assert arguments(planned, "exec")[0]["env"] == ("A=2", "PATH=/b")
    assert arguments(planned, "find_program")[0]["search"] == "/b"
    assert arguments(planned, "find_home") == [{"uid": 0}]


def test_a_home_that_is_given_is_not_looked_up() -> None:
    assert arguments(with_process({**BASE, "env": ["HOME=/h"]}), "find_home") == []


def test_without_a_path_the_program_is_searched_nowhere() -> None:
    assert arguments(with_process({**BASE, "env": []}), "find_program")[0]["search"] == ""


@pytest.mark.parametrize(
    ("process", "pointer"),
    [
        ({**BASE, "env": ["A=1", "B"]}, "/process/env/1"),
        ({**BASE, "env": ["=x"]}, "/process/env/0"),
        ({**BASE, "args": []}, "/process/args"),
        ({**BASE, "args": [""]}, "/process/args/0"),
        ({**BASE, "cwd": "a"}, "/process/cwd"),
        ({**BASE, "user": {"uid": 0xFFFFFFFF, "gid": 0}}, "/process/user/uid"),
        ({**BASE, "user": {"uid": 0, "gid": 0xFFFFFFFF}}, "/process/user/gid"),
        (
            {**BASE, "user": {"uid": 0, "gid": 0, "additionalGids": [1, 0xFFFFFFFF]}},
            "/process/user/additionalGids/1",
        ),
        ({**BASE, "user": {"uid": 0, "gid": 0, "umask": 0o1000}}, "/process/user/umask"),
        ({**BASE, "rlimits": [{"type": "RLIMIT_MOON", "soft": 0, "hard": 0}]}, "/process/rlimits/0/type"),
        ({**BASE, "rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}, "/process/rlimits/0/soft"),
        ({**BASE, "terminal": True, "consoleSize": {"width": 70000, "height": 1}}, "/process/consoleSize"),
    ],
)
def test_a_bad_value_is_named(process: Process, pointer: str) -> None:
    assert process_faults(process) == [pointer]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_the_kernel_cannot_take_is_named(text: str) -> None:
    config = cases.config()
    config["hostname"] = text

    assert faults(config) == ["/hostname"]


def test_a_working_directory_below_the_root_is_made_and_entered() -> None:
    planned = with_process({**BASE, "cwd": "/srv/here"})

    assert arguments(planned, "make_directory") == [{"path": "/srv/here", "mode": 0o755}]
    assert arguments(planned, "enter_cwd") == [{"path": "/srv/here"}]
    assert arguments(with_process(BASE), "make_directory") == []


# -- identity
# ----------------------------------------------------------------------------------------------------


def test_groups_are_set_also_to_none() -> None:
    assert arguments(with_process({**BASE, "user": {"uid": 7, "gid": 8}}), "set_groups") == [{"groups": ()}]


def test_the_user_is_root_where_the_config_names_none() -> None:
    assert arguments(cases.planned("minimal"), "set_ids") == [{"uid": 0, "gid": 0}]


def test_a_umask_that_is_not_given_is_the_callers() -> None:
    given = with_process({**BASE, "user": {"uid": 0, "gid": 0, "umask": 0}})

    assert arguments(with_process(BASE), "set_umask") == [{"mask": -1}]
    assert arguments(given, "set_umask") == [{"mask": 0}]


def test_limits_may_be_infinite() -> None:
    infinite = 0xFFFFFFFFFFFFFFFF
    planned = with_process({**BASE, "rlimits": [{"type": "RLIMIT_AS", "soft": infinite, "hard": infinite}]})

    assert arguments(planned, "set_rlimit") == [{"resource": 9, "soft": infinite, "hard": infinite}]


# -- capabilities
# ------------------------------------------------------------------------------------------------


def test_what_cannot_be_granted_is_warned_of_and_left_out() -> None:
    planned = cases.planned("capabilities")

    assert arguments(planned, "drop_bounding") == [{"keep": CHOWN | NET_RAW}]
    assert arguments(planned, "set_capabilities") == [
        {"effective": CHOWN, "permitted": CHOWN | NET_RAW, "inheritable": NET_RAW}
    ]
    assert arguments(planned, "raise_ambient") == [{"capabilities": NET_RAW}]
    assert [
        (fault.pointer.removeprefix("/process/capabilities/"), fault.value) for fault in planned.warnings
    ] == [
        ("bounding/2", '"CAP_NO_SUCH"'),
        ("effective/1", '"CAP_KILL"'),
        ("ambient/1", '"CAP_CHOWN"'),
    ]


def test_what_the_host_lacks_is_left_out() -> None:
    host = cases.a_host(capabilities=cases.ALL_CAPABILITIES & ~KILL)
    sets: Process = {
        **BASE,
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"]},
    }

    planned = with_process(sets, host=host)

    assert arguments(planned, "drop_bounding") == [{"keep": 0}]
    assert arguments(planned, "set_capabilities")[0]["permitted"] == CHOWN
    assert len(planned.warnings) == 2


def test_without_capabilities_there_are_none() -> None:
    planned = cases.planned("no-capabilities")

    assert arguments(planned, "drop_bounding") == [{"keep": 0}]
    assert arguments(planned, "set_capabilities") == [{"effective": 0, "permitted": 0, "inheritable": 0}]


def test_there_are_forty_one_capabilities() -> None:
    assert len(set(CAPABILITIES)) == 41
    assert (CAPABILITIES.index("CAP_SYS_ADMIN"), CAPABILITIES.index("CAP_CHECKPOINT_RESTORE")) == (21, 40)


# -- terminal
# ----------------------------------------------------------------------------------------------------


def test_a_terminal_needs_somebody_to_hold_it() -> None:
    config = cases.config("terminal")
    with pytest.raises(ConfigError) as caught:
        plan(config, cases.a_host(), cases.options(console_socket=False))

    assert [fault.pointer for fault in caught.value.faults] == ["/process/terminal"]


def test_a_terminal_has_the_size_of_the_config() -> None:
    (console,) = arguments(cases.planned("terminal"), "make_console")

    assert (console["columns"], console["rows"]) == (80, 24)


def test_a_terminal_belongs_to_the_user_and_pipes_are_given_to_it() -> None:
    user: Process = {**BASE, "user": {"uid": 7, "gid": 8}}

    assert arguments(with_process({**user, "terminal": True}), "take_terminal")[0]["owner"] == 7
    assert arguments(with_process({**user, "terminal": True}), "own_stdio") == []
    assert arguments(with_process(user), "own_stdio") == [{"uid": 7}]


# -- cgroup and devices
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "place", "parents"),
    [
        ("", "/ocirun/hello", 1),
        ("/a/b", "/a/b", 0),
        ("//a/./b/", "/a/b", 0),
        ("a/b", "/ocirun/a/b", 2),
        ("/a:b:c", "/a:b:c", 0),
    ],
)
def test_a_cgroup_is_where_the_config_says_or_below_ours(path: str, place: str, parents: int) -> None:
    config = cases.config()
    assert "linux" in config
    config["linux"]["cgroupsPath"] = path

    planned = plan(config, cases.a_host(), cases.options())

    assert arguments(planned, "make_cgroup") == [
        {"mount": "/sys/fs/cgroup", "path": place, "parents": parents, "controllers": "cpu io memory pids"}
    ]


def test_a_cgroup_that_is_named_has_nothing_to_do_with_where_the_caller_is() -> None:
    """Root of a user namespace, in a leaf of the cgroup namespace that is his: containerd below rootlesskit.

    Nobody is moved out of the leaf; and what is above the container may be his, or not.
    """
    config = cases.config()
    assert "linux" in config
    config["linux"] |= {"cgroupsPath": "/a/b", "resources": {"pids": {"limit": 7}}}
    reach = Reach(cgroup="/leaf", crowded=True, controllers=frozenset(("memory", "pids")))

    planned = plan(config, cases.a_host(controllers=reach.controllers, reach=reach), cases.options())

    assert arguments(planned, "vacate_cgroup") == []
    assert [step["controllers"] for step in arguments(planned, "make_cgroup")] == ["memory pids"]
    mount, pids = "/sys/fs/cgroup", ("cgroup.subtree_control", "+pids")
    assert arguments(planned, "set_cgroup") == [
        {"path": mount, "writes": pids, "needed": 0},
        {"path": f"{mount}/a", "writes": pids, "needed": 0},
        {"path": f"{mount}/a/b", "writes": ("pids.max", "7"), "needed": 1},
    ]


@pytest.mark.parametrize(
    ("mount", "namespaces", "uid", "owners"),
    [
        ({}, "cgroup user", 0, [100000]),
        ({}, "cgroup user", 1000, [101000]),
        ({"destination": "/sys/fs/./cgroup/"}, "cgroup user", 7, [100007]),
        ({}, "cgroup user", 70000, []),
        ({}, "cgroup", 1000, [1000]),
        ({}, "cgroup", 0, []),
        ({}, "user", 0, []),
        ({"options": ["nosuid", "ro"]}, "cgroup user", 0, []),
        ({"options": ["rro"]}, "cgroup user", 0, []),
        ({"source": "other"}, "cgroup user", 0, []),
        ({"destination": "/cgroup"}, "cgroup user", 0, []),
    ],
)
def test_a_cgroup_is_not_given_away_unasked(
    mount: dict[str, Any], namespaces: str, uid: int, owners: list[int]
) -> None:
    config = cases.config("owned-cgroup")
    found: Any = config
    found["mounts"][-1] = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", **mount}
    found["process"]["user"]["uid"] = uid
    kept = {"pid", "mount", *namespaces.split()}
    found["linux"]["namespaces"] = [one for one in found["linux"]["namespaces"] if one["type"] in kept]
    if "user" not in namespaces:
        del found["linux"]["uidMappings"], found["linux"]["gidMappings"]
    found.pop("hostname", None)

    planned = plan(config, cases.a_host(), cases.options())

    assert [step["owner"] for step in arguments(planned, "own_cgroup")] == owners


@pytest.mark.parametrize("path", ["/a/../b", "..", "/", "/.", "."])
def test_a_cgroup_that_is_not_below_the_root_is_wrong(path: str) -> None:
    config = cases.config()
    assert "linux" in config
    config["linux"]["cgroupsPath"] = path

    assert faults(config) == ["/linux/cgroupsPath"]


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (cases.a_host(cgroup_mount=""), "cgroup2 is not mounted"),
        (cases.a_host(capabilities=0), "this process has no CAP_SYS_ADMIN"),
        (cases.a_host(kernel=(5, 14)), "the kernel is 5.14"),
    ],
)
def test_what_the_host_cannot_do_is_told_with_a_way_out(host: Host, what: str) -> None:
    with pytest.raises(HostError) as caught:
        plan(cases.config("minimal"), host, cases.options())

    assert caught.value.message == what
    assert caught.value.hint


def test_default_devices_are_made_unless_dev_is_bound() -> None:
    assert [step["path"] for step in arguments(cases.planned("default"), "make_device")] == [
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
    ]
    assert arguments(cases.planned("bound-dev"), "make_device") == []
    assert arguments(cases.planned("bound-dev"), "make_symlink") == []


@pytest.mark.parametrize(
    ("rule", "member"),
    [
        ({"allow": True, "type": "p"}, "type"),
        ({"allow": True, "access": "rx"}, "access"),
        ({"allow": True, "major": -2}, "major"),
        ({"allow": True, "minor": 1 << 32}, "minor"),
    ],
)
def test_a_bad_device_rule_is_named(rule: DeviceRule, member: str) -> None:
    config = cases.config()
    assert "linux" in config
    config["linux"]["resources"] = {"devices": [rule]}

    assert faults(config) == [f"/linux/resources/devices/0/{member}"]


def test_a_host_name_needs_a_namespace_of_its_own() -> None:
    config = cases.config("few-namespaces")
    config["hostname"] = "other"

    assert faults(config) == ["/hostname"]


def test_the_keyring_is_new_unless_the_caller_keeps_it() -> None:
    kept = plan(cases.config(), cases.a_host(), cases.options(new_keyring=False))

    assert arguments(kept, "join_keyring") == []
    assert arguments(cases.planned("default"), "join_keyring") == [{"name": "_ses.default"}]


def test_equal_configs_give_equal_plans() -> None:
    assert cases.planned("binds").steps == cases.planned("binds").steps


# -- texts
# -------------------------------------------------------------------------------------------------------


def test_values_in_errors_are_short_json() -> None:
    values: list[object] = [None, True, "a", "a" * 99, {"a": 1}, {}, [1], [], 7]

    assert [short(value) for value in values] == (
        ["", "true", '"a"', '"' + "a" * 57 + '…"', "{…}", "{}", "[…]", "[]", "7"]
    )


@pytest.mark.parametrize(
    ("text", "numbers"), [("6.18.4-x", (6, 18)), ("5.15", (5, 15)), ("7", (7, 0)), ("6.1rc2", (6, 1))]
)
def test_a_release_is_two_numbers(text: str, numbers: tuple[int, int]) -> None:
    assert release(text) == numbers


def test_cgroup2_is_found_wherever_it_is_mounted() -> None:
    lines = [
        b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755",
        b"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        b"41 31 0:38 / /mnt/my\\040cgroups rw shared:7 - cgroup2 cgroup2 rw",
    ]

    assert find_cgroup2(b"\n".join(lines)) == "/mnt/my cgroups"
    assert find_cgroup2(b"\n".join(lines[:2])) == ""


# -- when and where it runs ----------------------------------------------------------------------------------


def test_a_policy_that_no_kernel_has_is_refused_on_every_host() -> None:
    with pytest.raises(ConfigError) as caught:
        with_process({**BASE, "scheduler": {"policy": "SCHED_ISO"}})

    (fault,) = caught.value.faults
    assert (fault.pointer, fault.value) == ("/process/scheduler/policy", '"SCHED_ISO"')
    assert fault.rule == "is a policy that no kernel has"
    assert caught.value.code == "config-unsupported"


def test_a_scheduler_has_zero_for_what_is_not_given() -> None:
    planned = with_process({**BASE, "scheduler": {"policy": "SCHED_BATCH", "nice": -3}})

    assert arguments(planned, "set_scheduler") == [
        {"policy": 3, "flags": 0, "nice": -3, "priority": 0, "runtime": 0, "deadline": 0, "period": 0}
    ]


def test_the_affinity_for_execs_is_none_of_inits() -> None:
    planned = with_process({**BASE, "execCPUAffinity": {"initial": "0", "final": "0"}})

    assert arguments(planned, "set_affinity") == [{"cpus": b"\xff" * 1024}]
    assert arguments(planned, "set_initial_affinity") == []


@pytest.mark.parametrize(
    ("listed", "bits"),
    [("", 0), ("0", 1), ("0-2", 7), (" 1, 3-4", 0b11010), ("63-64", 3 << 63), ("2-2", 4)],
)
def test_a_list_is_a_mask_of_whole_words(listed: str, bits: int) -> None:
    made = mask(listed)

    assert int.from_bytes(made, "little") == bits
    assert len(made) == 8 * -(-bits.bit_length() // 64)


def test_a_label_has_no_effect_on_a_host_without_selinux() -> None:
    process: Process = {**BASE, "selinuxLabel": "system_u:system_r:container_t:s0"}
    planned = with_process(process, host=cases.a_host(selinux=False))

    (warning,) = planned.warnings
    assert (warning.pointer, warning.rule) == (
        "/process/selinuxLabel", "has no effect: this host has no SELinux",
    )  # fmt: skip
    assert arguments(planned, "set_selinux") == arguments(planned, "label_keyring") == []
    labelled = {"proc": "proc", "label": "system_u:system_r:container_t:s0"}
    assert arguments(with_process(process), "set_selinux") == [labelled]
    assert arguments(with_process(process), "label_keyring") == [labelled]


def test_a_keyring_of_the_caller_keeps_its_label() -> None:
    config = cases.config()
    assert "process" in config
    config["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0"
    kept = plan(config, cases.a_host(), cases.options(new_keyring=False))
    assert arguments(kept, "label_keyring") == []
