"""Processors, memory nodes and I/O of a container whose cgroup systemd makes: its unit, and its files.

User-mode Linux lacks them: they are seen below a stock kernel where systemd is process 1 (make proof).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.limits import limited, need, update
from tests.host.runtimes import new_id
from tests.host.test_controllers import OWN_WEIGHT, WEIGHT, disk
from tests.host.units import by_systemd, files, is_loaded, need_systemd, scoped, shown, systemctl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime
    from tests.host.view import View

__all__ = ["disk"]

CPUSET = {"cpuset.cpus": "", "cpuset.mems": ""}
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _by_systemd(request: pytest.FixtureRequest, view: View) -> None:
    need_systemd()
    need(view, "cpuset", "io")
    by_systemd(request)


@pytest.fixture
def unit(bundle: Bundle) -> str:
    """The name of the scope of the bundle."""
    return scoped(bundle, new_id())


def _allowed(container: Container, unit: str) -> tuple[str, ...]:
    """The processors and nodes of the unit, of its cgroup, and of init."""
    status = observe.status(container.pid)
    properties = shown(unit, "AllowedCPUs", "AllowedMemoryNodes")
    return (
        properties["AllowedCPUs"], properties["AllowedMemoryNodes"], *files(unit, CPUSET).values(),
        status["Cpus_allowed_list"], status["Mems_allowed_list"],
    )  # fmt: skip


def _reload(unit: str) -> None:
    """Has systemd forget what it had not been told, and write the files once more."""
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", unit, "TasksMax=500")


def test_processors_and_nodes_are_those_of_the_unit(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    container = runtime.running(limited(bundle, cpu={"cpus": "1", "mems": "0"}))
    assert _allowed(container, unit) == ("1", "0", "1", "0", "1", "0")
    _reload(unit)
    assert _allowed(container, unit) == ("1", "0", "1", "0", "1", "0")


def test_an_update_of_processors_is_known_to_systemd(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    container = runtime.running(limited(bundle, cpu={"cpus": "0-1"}))
    assert shown(unit, "AllowedCPUs") == {"AllowedCPUs": "0-1"}
    runtime.call("update", "--cpuset-cpus", "1", "--cpuset-mems", "0", container.id).ok()
    _reload(unit)
    assert _allowed(container, unit) == ("1", "0", "1", "0", "1", "0")


def test_a_processor_that_is_not_there_is_refused(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    """systemd itself takes it, and says nothing of the kernel's refusal."""
    ocirun.attempt(limited(bundle, cpu={"cpus": "4000"})).refused(
        "/linux/resources/cpu/cpus", "cpuset.cpus", "here there are 0-1"
    )
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


def test_an_impossible_update_of_processors_changes_nothing(
    ocirun: Runtime, bundle: Bundle, unit: str
) -> None:
    container = ocirun.running(limited(bundle, cpu={"cpus": "1", "mems": "0"}))
    before = _allowed(container, unit)
    wanted: Json = {"cpu": {"cpus": "0"}, "unified": {"cpuset.mems": "900"}}
    update(container, wanted).refused("cpuset.mems")
    assert _allowed(container, unit) == before
    _reload(unit)
    assert _allowed(container, unit) == before


def test_rates_and_the_weight_of_io_survive_a_reload(
    ocirun: Runtime, bundle: Bundle, unit: str, disk: Path
) -> None:
    number = (disk / "dev").read_text().strip()
    major, minor = map(int, number.split(":"))
    rates: Json = [{"major": major, "minor": minor, "rate": MIB}]
    io: Json = {"weight": WEIGHT, "throttleReadBpsDevice": rates, "throttleWriteIOPSDevice": rates}
    ocirun.running(limited(bundle, blockIO=io))
    line = f"{number} rbps={MIB} wbps=max riops=max wiops={MIB}"
    assert files(unit, {"io.max": ""}) == {"io.max": line}
    names = ("IOReadBandwidthMax", "IOWriteIOPSMax", "IOWeight")
    before = shown(unit, *names)
    node = f"/dev/block/{number} {MIB}"
    assert before == dict(zip(names, (node, node, str(OWN_WEIGHT)), strict=True))
    _reload(unit)
    assert files(unit, {"io.max": ""}) == {"io.max": line}
