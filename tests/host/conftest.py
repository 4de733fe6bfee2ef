"""The fixtures of the host tests: a private view of the host, a runtime, a bundle, the count of leftovers."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import peers
from tests import launchers
from tests.host import kernel, leftovers, observe, serving, shims
from tests.host.bundles import BUSYBOX, Bundle
from tests.host.deviations import deviation, leaving
from tests.host.runtimes import NAMES, OCIRUN, Runtime
from tests.host.view import View, private_view

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.host.serving import Serving

HERE = Path(__file__).parent
#: A test that hangs is a test that fails; one that only waits for its turn of a busy machine is none.
SECONDS, SLOW_SECONDS = 300, 900
SKIPPED = pytest.StashKey[bool]()
#: Not /tmp, which is nodev on many machines.
BASE = "/var/tmp"  # noqa: S108 - a new directory of mkdtemp


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the host tests: a time limit, root needed, and the known deviations of the peers."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        if item.get_closest_marker("timeout") is None:
            slow = item.get_closest_marker("slow")
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS if slow else SECONDS))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="host tests need root"))
        name, runtime = _name_and_runtime(item)
        why = deviation(name, runtime)
        if why:
            item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {why}", strict=True))
        if runtime != "ocirun":  # an oracle: a race of its own tells nothing of ours
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers that a test was skipped: it cannot leave what it is known to leave."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.stash[SKIPPED] = True
    return report


def _name_and_runtime(item: pytest.Item) -> tuple[str, str]:
    """The name of the test without the runtime among its parameters, and the runtime."""
    found = re.search(r"\[(\w+?)(?:-(.*))?\]$", item.name)
    if not found or found[1] not in NAMES:
        return item.name, "ocirun"
    return item.name[: found.start()] + (f"[{found[2]}]" if found[2] else ""), found[1]


@pytest.fixture(scope="package", autouse=True)
def view() -> Iterator[View]:
    """The view of the host in which all these tests run."""
    if os.geteuid() != 0:
        pytest.skip("host tests need root")
    kernel.become_subreaper()
    with private_view() as view:
        yield view


@pytest.fixture(scope="package")
def busybox(view: View) -> Iterator[Path]:
    """A copy of busybox that containers may spoil: their roots link to it."""
    if not BUSYBOX.exists():
        pytest.fail(f"{BUSYBOX} is missing: apt-get install busybox-static")
    directory = tempfile.mkdtemp(prefix="ocirun-busybox-", dir=BASE)
    yield Path(shutil.copy2(BUSYBOX, directory))
    shutil.rmtree(directory)


@pytest.fixture
def images(scratch: Path) -> Path:
    """A directory for the images of a checkpoint, that is not there yet."""
    return scratch / "images"


@pytest.fixture(autouse=True)
def scratch(view: View, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The directory of one test; fails the test when it leaves anything behind, here or anywhere else."""
    directory = Path(tempfile.mkdtemp(prefix="oh-", dir=BASE))
    directory.chmod(0o755)
    (directory / "tmp").mkdir(mode=0o1777)
    (directory / "state").mkdir(mode=0o755)
    before = leftovers.take(directory, view.cgroup2)
    yield directory
    known = leaving(*_name_and_runtime(request.node))
    grace = leftovers.SHORT_GRACE if known else leftovers.GRACE
    found = leftovers.settled(before, directory, view.cgroup2, grace)
    if found:
        leftovers.remove(before, directory, view.cgroup2)
    shutil.rmtree(directory, ignore_errors=bool(found))
    if known and not found and not request.node.stash.get(SKIPPED, False):
        pytest.fail(f"left nothing behind, though it is known to: {known}")
    if found and not known:
        pytest.fail("left behind: " + "; ".join(f"{name}: {', '.join(what)}" for name, what in found.items()))


@pytest.fixture
def bundles(scratch: Path, busybox: Path) -> Callable[[str], Bundle]:
    """Makes bundles by name, for tests that need more than one."""

    def make(name: str) -> Bundle:
        (scratch / name).mkdir()
        return Bundle(scratch / name, busybox)

    return make


@pytest.fixture
def bundle(bundles: Callable[[str], Bundle]) -> Bundle:
    """A bundle with the default config."""
    return bundles("bundle")


def _program(name: str) -> Path:
    if name == "ocirun" and launchers.asked_for() == "exec":
        return launchers.by_exec()
    if name == "ocirun":
        if not OCIRUN.exists():
            pytest.fail(f"{OCIRUN} is missing: make setup")
        return OCIRUN
    program = peers.peer(name)
    if program is None:
        if os.environ.get("OCIRUN_REQUIRE_PEERS") == "1":
            pytest.fail(f"{name} is required: {peers.reason(name)}")
        pytest.skip(peers.reason(name))
    return program


def _runtime(name: str, scratch: Path) -> Iterator[Runtime]:
    runtime = Runtime(name, _program(name), scratch)
    yield runtime
    runtime.clean_up()


@pytest.fixture(params=NAMES)
def runtime(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Runtime]:
    """Each runtime in turn."""
    yield from _runtime(request.param, scratch)


@pytest.fixture
def ocirun(scratch: Path) -> Iterator[Runtime]:
    """ocirun, for what the peers do not do."""
    yield from _runtime("ocirun", scratch)


@pytest.fixture
def ocirun_outside(ocirun: Runtime, view: View) -> Runtime:
    """ocirun in the host's own view, whatever its cgroup layout is."""
    ocirun.prefix = ("nsenter", f"--mount=/proc/{os.getpid()}/fd/{view.host}", "--")
    return ocirun


@pytest.fixture
def own_namespaces() -> dict[str, str]:
    """The namespaces of the test process."""
    return {
        kind: observe.namespace("self", kind)
        for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user")
    }


@pytest.fixture
def ours(scratch: Path) -> Iterator[shims.Shims]:
    """Shims of ocirun on a /run of this test."""
    if not shims.SHIM.exists():
        pytest.fail(f"{shims.SHIM} is missing: make setup")
    with shims.own_run():
        yield shims.Shims(scratch)


@pytest.fixture
def served(ours: shims.Shims, busybox: Path) -> Iterator[Serving]:
    """Shims that serve."""
    yield from serving.serving(ours, busybox)


@pytest.fixture
def fds() -> Iterator[dict[str, int]]:
    """Our ends of the streams of a container."""
    opened: dict[str, int] = {}
    yield opened
    for fd in opened.values():
        os.close(fd)
