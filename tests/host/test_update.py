"""The command update: what it changes, what it leaves, and that a part of it never stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.host import execs, observe
from tests.host.limits import CONTROLLERS, MIB, file, files, limited, need, settable, update

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime
    from tests.host.view import View

#: A device that no default rule allows; whether there is a driver does not matter.
OTHER = (10, 229)
TRYING = "while true; do dd if=/dev/other count=0 2>&1 | grep -c permitted; done"


@pytest.fixture
def controllers(view: View) -> None:
    """Skips where a controller is not on cgroup2."""
    need(view, *CONTROLLERS)


def _changed(container: Container, *flags: str) -> None:
    container.runtime.call("update", *flags, container.id).ok()


# -- what is not named stays


@pytest.mark.usefixtures("controllers")
def test_memory_and_swap_together_stay_what_they_are(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, memory={"limit": 64 * MIB, "swap": 96 * MIB}))
    _changed(container, "--memory", f"{32 * MIB}")
    assert files(container, "memory.max", "memory.swap.max") == {
        "memory.max": f"{32 * MIB}",
        "memory.swap.max": f"{64 * MIB}",
    }


@pytest.mark.usefixtures("controllers")
def test_memory_above_memory_and_swap_together_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, memory={"limit": 64 * MIB, "swap": 96 * MIB}))
    before = settable(container)
    result = runtime.call("update", "--memory", f"{128 * MIB}", container.id).refused()
    assert settable(container) == before
    if runtime.name == "ocirun":
        result.refused("/linux/resources/memory/limit", f"above {96 * MIB}", "-1 for any")


@pytest.mark.usefixtures("controllers")
def test_a_limit_of_swap_counts_from_that_of_memory(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, memory={"limit": 64 * MIB}))
    _changed(container, "--memory-swap", f"{80 * MIB}")
    assert files(container, "memory.max", "memory.swap.max") == {
        "memory.max": f"{64 * MIB}",
        "memory.swap.max": f"{16 * MIB}",
    }


@pytest.mark.usefixtures("controllers")
def test_no_limit_of_memory_is_none_of_swap(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, memory={"limit": 64 * MIB, "swap": 96 * MIB}))
    _changed(container, "--memory", "-1")
    expected = {"memory.max": "max", "memory.swap.max": "max"}
    assert files(container, *expected) == expected


@pytest.mark.usefixtures("controllers")
def test_a_limit_of_swap_without_one_of_memory_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle))
    result = runtime.call("update", "--memory-swap", f"{80 * MIB}", container.id).refused()
    assert file(container, "memory.swap.max") == "max"
    if runtime.name == "ocirun":
        result.refused("/linux/resources/memory/swap", "needs a memory limit")


@pytest.mark.usefixtures("controllers")
def test_a_period_alone_keeps_the_quota(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, cpu={"quota": 20000, "period": 100000}))
    _changed(container, "--cpu-period", "50000")
    assert file(container, "cpu.max") == "20000 50000"


@pytest.mark.usefixtures("controllers")
def test_a_quota_alone_keeps_the_period(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, cpu={"quota": 20000, "period": 50000}))
    _changed(container, "--cpu-quota", "30000")
    assert file(container, "cpu.max") == "30000 50000"


# -- quota and burst, in whatever order the kernel takes them


@pytest.mark.usefixtures("controllers")
@pytest.mark.parametrize(("quota", "burst"), [(90000, 60000), (10000, 5000), (90000, 0), (-1, 0)])
def test_quota_and_burst_rise_and_fall_together(
    ocirun: Runtime, bundle: Bundle, quota: int, burst: int
) -> None:
    container = ocirun.running(limited(bundle, cpu={"quota": 40000, "burst": 30000}))
    _changed(container, "--cpu-quota", f"{quota}", "--cpu-burst", f"{burst}")
    most = f"{quota}" if quota > 0 else "max"
    expected = {"cpu.max": f"{most} 100000", "cpu.max.burst": f"{burst}"}
    assert files(container, *expected) == expected


@pytest.mark.usefixtures("controllers")
@pytest.mark.parametrize(
    ("flag", "value", "texts"),
    [
        ("--cpu-quota", 20000, ("cpu/quota", "below the burst 30000", "0 for none")),
        ("--cpu-burst", 50000, ("cpu/burst", "above the quota 40000")),
        ("--cpu-rt-period", 1000, ("cpu/realtimePeriod", "no counterpart in cgroup2")),
        ("--cpu-share", -7, ("cpu/shares", "-7")),
        ("--blkio-weight", 5, ("blockIO/weight", "from 10 to 1000")),
    ],
)
def test_what_contradicts_is_told_before_anything_is_written(
    ocirun: Runtime, bundle: Bundle, flag: str, value: int, texts: tuple[str, ...]
) -> None:
    container = ocirun.running(limited(bundle, cpu={"quota": 40000, "burst": 30000}))
    before = settable(container)
    ocirun.call("update", "--pids-limit", "7", flag, f"{value}", container.id).refused(*texts)
    assert settable(container) == before


def test_kernel_memory_is_ignored_with_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle))
    result = runtime.call("update", "--kernel-memory", f"{MIB}", container.id).ok()
    assert "ignored" in result.stderr


@pytest.mark.usefixtures("controllers")
@pytest.mark.parametrize("size", ["48m", "48M", "48MB", "48MiB", "0.046875g", "50331648"])
def test_a_size_is_written_as_people_write_it(ocirun: Runtime, bundle: Bundle, size: str) -> None:
    container = ocirun.running(limited(bundle))
    _changed(container, "--memory", size)
    assert file(container, "memory.max") == f"{48 * MIB}"


# -- all or nothing


@pytest.mark.usefixtures("controllers")
def test_what_was_written_before_a_refusal_is_taken_back(runtime: Runtime, bundle: Bundle) -> None:
    own: dict[str, Json] = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 8 * MIB},
        "cpu": {"shares": 512, "quota": 40000, "period": 50000},
        "pids": {"limit": 20},
    }
    container = runtime.running(limited(bundle, **own))
    before = settable(container)
    wanted: Json = {
        "memory": {"limit": 32 * MIB, "swap": 40 * MIB, "reservation": 4 * MIB},
        "cpu": {"shares": 1024, "quota": 90000, "period": 100000, "burst": 70000},
        "pids": {"limit": 30},
        "unified": {"memory.high": f"{30 * MIB}", "memory.nothing": "1"},
    }
    result = update(container, wanted).refused()
    assert settable(container) == before
    if runtime.name == "ocirun":
        result.refused("/linux/resources/unified/memory.nothing")


@pytest.mark.usefixtures("controllers")
def test_a_weight_that_idleness_has_forgotten_comes_back(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(limited(bundle, cpu={"shares": 512}))
    update(container, {"cpu": {"idle": 1}, "unified": {"memory.nothing": "1"}}).refused()
    assert files(container, "cpu.idle", "cpu.weight") == {"cpu.idle": "0", "cpu.weight": "59"}


def test_a_file_that_the_kernel_refuses_leaves_the_others(ocirun: Runtime, bundle: Bundle) -> None:
    """On any host: these are files of the core."""
    container = ocirun.running(limited(bundle))
    names = ("cgroup.max.depth", "cgroup.max.descendants")
    before = files(container, *names)
    wanted: dict[str, Json] = {"cgroup.max.depth": "7", "cgroup.max.descendants": "9", "cgroup.nothing": "1"}
    update(container, {"unified": wanted}).refused("/linux/resources/unified/cgroup.nothing")
    assert files(container, *names) == before
    update(container, {"unified": {name: wanted[name] for name in names}}).ok()
    assert files(container, *names) == {name: wanted[name] for name in names}


# -- rules of devices


def _rules(*allowed: tuple[int, int]) -> Json:
    return {
        "devices": [
            {"allow": False, "access": "rwm"},
            *(
                cast("Json", {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"})
                for major, minor in allowed
            ),
        ]
    }


def _is_denied(container: Container) -> bool:
    return "permitted" in execs.execute(container, "dd", "if=/dev/other", "count=0").stderr


@pytest.fixture
def trying(bundle: Bundle) -> Bundle:
    """A bundle with a device that its rules deny."""
    return bundle.device("/dev/other", "c", *OTHER, 0o666)


def test_rules_of_devices_are_replaced(runtime: Runtime, trying: Bundle) -> None:
    container = runtime.running(trying.sleeping())
    assert _is_denied(container)
    update(container, _rules(OTHER)).ok()
    assert not _is_denied(container)
    update(container, _rules()).ok()
    assert _is_denied(container)


def test_an_update_without_rules_leaves_them(runtime: Runtime, trying: Bundle) -> None:
    container = runtime.running(trying.allow_device("c", *OTHER, "rw").sleeping())
    update(container, {"unified": {"cgroup.max.depth": "7"}}).ok()
    assert not _is_denied(container)


def test_at_no_moment_both_rules_or_none_count(ocirun: Runtime, trying: Bundle) -> None:
    """Who tries all the time is always allowed what both rules allow: nothing lies between the two."""
    container = ocirun.running(trying.allow_device("c", *OTHER, "rw").sh(TRYING))
    observe.eventually(lambda: len(container.output.split()) > 5, "it tries")
    for number in range(12):
        update(container, _rules(OTHER, (1, 11) if number % 2 else (1, 12))).ok()
    tried = len(container.output.split())
    observe.eventually(lambda: len(container.output.split()) > tried, "it tries on")
    assert set(container.output.split()) == {"0"}


def test_rules_do_not_outlive_the_container_in_a_cgroup_that_stays(
    ocirun: Runtime, trying: Bundle, view: View
) -> None:
    """The next container in it would be denied what the first one was."""
    where = view.cgroup2 / ocirun.scratch.name
    where.mkdir()
    trying.put(f"/{where.name}", "linux", "cgroupsPath")
    ocirun.running(trying.sleeping()).delete("--force").ok()
    second = ocirun.running(trying.allow_device("c", *OTHER, "rw").sleeping())
    assert not _is_denied(second)
    second.delete("--force").ok()
    where.rmdir()
