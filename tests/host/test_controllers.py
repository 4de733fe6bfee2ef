"""Controllers that not every machine has on cgroup2: cpuset, weights of I/O, rdma, misc.

User-mode Linux has none of them: they are seen below a stock kernel (make proof).
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.limits import file, limited, need, settable, update
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime
    from tests.host.view import View

#: crun has no code for it.
WITH_RDMA = pytest.mark.parametrize("runtime", ["ocirun", "runc"], indirect=True)
WEIGHT, OWN_WEIGHT = 500, 1 + (500 - 10) * 9999 // 990
#: Nobody else's kernel is told what to do.
IN_A_MACHINE_OF_OURS = Path("/job/script").exists()


# -- processors and nodes


@pytest.fixture
def cpuset(view: View) -> None:
    """Skips where cgroup2 has no cpuset."""
    need(view, "cpuset")


@pytest.mark.usefixtures("cpuset")
def test_an_update_moves_a_container_to_other_processors(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(limited(bundle, cpu={"cpus": "0"}))
    assert observe.status(container.pid)["Cpus_allowed_list"] == "0"
    runtime.call("update", "--cpuset-cpus", "1", "--cpuset-mems", "0", container.id).ok()
    assert (file(container, "cpuset.cpus"), file(container, "cpuset.mems")) == ("1", "0")
    assert observe.status(container.pid)["Cpus_allowed_list"] == "1"


@pytest.mark.usefixtures("cpuset")
def test_a_processor_that_is_not_there_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    refused = runtime.attempt(limited(bundle, cpu={"cpus": "4000"})).refused()
    if runtime.name == "ocirun":
        refused.refused("/linux/resources/cpu/cpus", "cpuset.cpus", "here there are 0")


@pytest.mark.usefixtures("cpuset")
def test_an_impossible_update_of_processors_changes_nothing(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(limited(bundle, cpu={"cpus": "0", "shares": 512}))
    before = settable(container)
    wanted: Json = {"cpu": {"shares": 2048, "mems": "0", "cpus": "4000"}, "pids": {"limit": 7}}
    update(container, wanted).refused("/linux/resources/cpu/cpus")
    update(container, {"cpu": {"cpus": "0"}, "unified": {"cpuset.mems": "900"}}).refused("cpuset.mems")
    assert settable(container) == before


# -- weights of I/O


@pytest.fixture(params=["without", "with"])
def bfq(request: pytest.FixtureRequest, view: View) -> bool:
    """Whether the kernel has the scheduler BFQ, which only a machine of ours is asked to load."""
    need(view, "io")
    wanted = request.param == "with"
    if wanted and IN_A_MACHINE_OF_OURS:
        subprocess.run(("modprobe", "-q", "bfq"), check=False)
    probe = view.cgroup2 / new_id()
    probe.mkdir()
    there = {path.name for path in probe.glob("io.*weight")}
    probe.rmdir()
    if not there or (wanted and "io.bfq.weight" not in there):
        pytest.skip("this kernel weighs no I/O")
    return "io.bfq.weight" in there


@pytest.fixture
def disk() -> Path:
    """A disk in /sys/block."""
    for path in sorted(Path("/sys/block").iterdir()):
        if path.name.startswith(("vd", "nvme", "ubd", "sd")):
            return path
    pytest.skip("this kernel weighs no I/O")


def _weight(container: Container, name: str, key: str) -> str:
    """The weight of ``key`` in a file with a line for each device."""
    lines = dict(line.split(" ", 1) for line in file(container, name).splitlines())
    return lines.get(key, "")


def test_a_weight_is_bfqs_or_that_of_the_controller(runtime: Runtime, bundle: Bundle, bfq: bool) -> None:
    container = runtime.create(limited(bundle, blockIO={"weight": WEIGHT}))
    if bfq:
        assert _weight(container, "io.bfq.weight", "default") == f"{WEIGHT}"
    else:
        assert _weight(container, "io.weight", "default") == f"{OWN_WEIGHT}"


def _served(disk: Path, view: View, scheduler: str) -> None:
    """Has a disk of our own machine go by weights: BFQ's, or those of the controller's model of costs."""
    if not IN_A_MACHINE_OF_OURS:
        pytest.skip("this kernel weighs no I/O")
    (disk / "queue/scheduler").write_text(scheduler)
    number = (disk / "dev").read_text().strip()
    state = "0" if scheduler == "bfq" else "1"
    (view.cgroup2 / "io.cost.qos").write_text(f"{number} enable={state} ctrl=auto")


def test_a_weight_of_a_device_is_that_of_who_serves_it(
    ocirun: Runtime, bundle: Bundle, view: View, bfq: bool, disk: Path
) -> None:
    _served(disk, view, "bfq" if bfq else "none")
    number = (disk / "dev").read_text().strip()
    major, minor = map(int, number.split(":"))
    weights: Json = [{"major": major, "minor": minor, "weight": WEIGHT}]
    container = ocirun.create(limited(bundle, blockIO={"weightDevice": weights}))
    own = ("io.bfq.weight", WEIGHT) if bfq else ("io.weight", OWN_WEIGHT)
    assert _weight(container, own[0], number) == f"{own[1]}"
    before = settable(container)
    weights = [{"major": major, "minor": minor, "weight": 30}]
    wanted: Json = {"blockIO": {"weight": 20, "weightDevice": weights}, "unified": {"io.nothing": "1"}}
    update(container, wanted).refused("/linux/resources/unified/io.nothing")
    assert settable(container) == before


def test_a_weight_of_a_device_whose_scheduler_is_not_bfq(
    ocirun: Runtime, bundle: Bundle, view: View, bfq: bool, disk: Path
) -> None:
    """BFQ's file refuses that, which the controller's then does not."""
    _served(disk, view, "none")
    number = (disk / "dev").read_text().strip()
    major, minor = map(int, number.split(":"))
    weights: Json = [{"major": major, "minor": minor, "weight": WEIGHT}]
    container = ocirun.create(limited(bundle, blockIO={"weightDevice": weights}))
    assert _weight(container, "io.weight", number) == f"{OWN_WEIGHT}"
    assert not bfq or _weight(container, "io.bfq.weight", number) == ""


# -- rdma and misc: no machine of ours has such a device, so it is the kernel's refusal that is seen


@WITH_RDMA
def test_an_rdma_device_that_is_not_there_is_refused(runtime: Runtime, bundle: Bundle, view: View) -> None:
    need(view, "rdma")
    refused = runtime.attempt(limited(bundle, rdma={"mlx5_1": {"hcaHandles": 3}})).refused()
    if runtime.name == "ocirun":
        refused.refused("/linux/resources/rdma/mlx5_1", "rdma.max", "there is no such device")


def test_a_resource_of_misc_that_is_not_there_is_refused(
    runtime: Runtime, bundle: Bundle, view: View
) -> None:
    """By the kernel, so that its file was there: the controller was enabled for it."""
    need(view, "misc")
    refused = runtime.attempt(limited(bundle, unified={"misc.max": "sev_nothing 5"})).refused()
    if runtime.name == "ocirun":
        refused.refused("/linux/resources/unified/misc.max", "EINVAL")


def test_a_controller_is_enabled_for_a_file_of_its_own(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    need(view, "cpuset")
    container = ocirun.create(limited(bundle, unified={"cpuset.cpus.partition": "member"}))
    assert "cpuset" in file(container, "cgroup.controllers").split()
    assert file(container, "cpuset.cpus.partition") == "member"
