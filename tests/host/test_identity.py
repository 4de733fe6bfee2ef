"""Who the program is: user, groups, capabilities, privileges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.bundles import DEFAULT_CAPABILITIES

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: Numbers of <linux/capability.h>.
NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_KILL": 5,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SYS_ADMIN": 21,
    "CAP_AUDIT_WRITE": 29,
}
SETS = {
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "effective": "CapEff",
    "bounding": "CapBnd",
    "ambient": "CapAmb",
}


def mask(*names: str) -> int:
    """The set of capabilities as the kernel prints it."""
    return sum(1 << NUMBERS[name] for name in names)


def capability_sets(pid: int) -> dict[str, int]:
    """The five sets of a process."""
    status = observe.status(pid)
    return {name: int(status[line], 16) for name, line in SETS.items()}


def test_user_and_group_are_the_configured_ones(runtime: Runtime, bundle: Bundle) -> None:
    status = observe.status(runtime.running(bundle.user(1000, 1001).sleeping()).pid)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4


def test_additional_groups_are_set(runtime: Runtime, bundle: Bundle) -> None:
    status = observe.status(runtime.running(bundle.user(1000, 1001, 5, 2000).sleeping()).pid)
    assert {int(gid) for gid in status["Groups"].split()} - {1001} == {5, 2000}


def test_groups_of_the_caller_are_cleared(runtime: Runtime, bundle: Bundle) -> None:
    runtime.prefix = ("setpriv", "--groups=4,20,24", "--")
    status = observe.status(runtime.running(bundle.user(1000, 1000).sleeping()).pid)
    assert set(status["Groups"].split()) - {"1000"} == set()


def test_the_umask_is_the_configured_one(runtime: Runtime, bundle: Bundle) -> None:
    status = observe.status(runtime.running(bundle.user(0, 0, umask=0o027).sleeping()).pid)
    assert status["Umask"] == "0027"


def test_without_a_configured_umask_it_is_0022(runtime: Runtime, bundle: Bundle) -> None:
    status = observe.status(runtime.running(bundle.sleeping()).pid)
    assert status["Umask"] == "0022"


def test_without_a_configured_umask_it_is_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    """config.md#posix-platform-user: if unspecified, it should not be changed from the calling process'."""
    runtime.prefix = ("sh", "-c", 'umask 027; exec "$@"', "sh")
    assert observe.status(runtime.running(bundle.sleeping()).pid)["Umask"] == "0027"


def test_the_default_capabilities_are_exactly_the_configured_ones(runtime: Runtime, bundle: Bundle) -> None:
    given = mask(*DEFAULT_CAPABILITIES)
    assert capability_sets(runtime.running(bundle.sleeping()).pid) == {
        "bounding": given, "effective": given, "permitted": given, "inheritable": 0, "ambient": 0,
    }  # fmt: skip


def test_the_five_sets_are_set_apart_from_each_other(runtime: Runtime, bundle: Bundle) -> None:
    bundle.user(1000, 1000).capabilities(
        bounding=["CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"],
        permitted=["CAP_KILL", "CAP_CHOWN"],
        effective=["CAP_KILL"],
        inheritable=["CAP_KILL", "CAP_CHOWN"],
        ambient=["CAP_KILL"],
    )
    # The sets after execve(2) of a file without capabilities by a user who is not root (capabilities(7)).
    assert capability_sets(runtime.running(bundle.sleeping()).pid) == {
        "bounding": mask("CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"),
        "permitted": mask("CAP_KILL"),
        "effective": mask("CAP_KILL"),
        "inheritable": mask("CAP_KILL", "CAP_CHOWN"),
        "ambient": mask("CAP_KILL"),
    }


def test_a_user_other_than_root_has_no_capabilities_unless_ambient(runtime: Runtime, bundle: Bundle) -> None:
    assert capability_sets(runtime.running(bundle.user(1000, 1000).sleeping()).pid) == {
        "bounding": mask(*DEFAULT_CAPABILITIES),
        "effective": 0,
        "permitted": 0,
        "inheritable": 0,
        "ambient": 0,
    }


def test_empty_sets_leave_no_capability_at_all(runtime: Runtime, bundle: Bundle) -> None:
    bundle.capabilities(bounding=[], effective=[], permitted=[], inheritable=[], ambient=[])
    assert set(capability_sets(runtime.running(bundle.sleeping()).pid).values()) == {0}


def test_without_a_capabilities_member_there_is_no_capability(runtime: Runtime, bundle: Bundle) -> None:
    sets = capability_sets(runtime.running(bundle.drop("process", "capabilities").sleeping()).pid)
    assert set(sets.values()) == {0}


def test_an_unknown_capability_is_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    names = ["CAP_KILL", "CAP_TIME_TRAVEL"]
    result = runtime.run(bundle.capabilities(bounding=names, effective=names, permitted=names).sh("exit 3"))
    assert result.code == 3
    assert "CAP_TIME_TRAVEL" in result.stderr


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges_is_as_configured(runtime: Runtime, bundle: Bundle, *, wanted: bool) -> None:
    bundle.put(wanted, "process", "noNewPrivileges")
    assert observe.status(runtime.running(bundle.sleeping()).pid)["NoNewPrivs"] == str(int(wanted))


def test_no_new_privileges_is_off_when_it_is_not_configured(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop("process", "noNewPrivileges")
    assert observe.status(runtime.running(bundle.sleeping()).pid)["NoNewPrivs"] == "0"


def test_an_oom_score_that_is_not_configured_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    with open(f"/proc/{container.pid}/oom_score_adj") as theirs, open("/proc/self/oom_score_adj") as ours:
        assert theirs.read() == ours.read()
