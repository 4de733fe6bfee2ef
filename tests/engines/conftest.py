"""The fixtures of the scenes: one containerd for each process of pytest, a runtime, what is left over."""

from __future__ import annotations

import os
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import containerd as environment
from conformance import engines, peers
from tests.engines import leftovers
from tests.engines.deviations import deviation, leaving, perhaps_leaving, race
from tests.engines.scenes import RUNTIMES, Scene
from tests.host.terminals import set_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.containerd import Containerd

HERE = Path(__file__).parent
#: A test that hangs is a test that fails.
SECONDS = 120
SHIM = Path(sys.executable).parent / "containerd-shim-ocirun-v2"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the scenes: a time limit, root needed, and the known deviations of the oracle."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.timeout(SECONDS))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="the scenes need root"))
        name, runtime = _name_and_runtime(item)
        why = deviation(name, runtime)
        if why:
            item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {why}", strict=True))
        why = race(name, runtime)
        if why:
            item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {why}", strict=False))


def _name_and_runtime(item: pytest.Item) -> tuple[str, str]:
    """The name of the test without the runtime among its parameters, and the runtime."""
    name, _, rest = item.name.rstrip("]").partition("[")
    parameters = rest.split("-")
    (runtime,) = [one for one in parameters if one in RUNTIMES] or ["ocirun"]
    others = "-".join(one for one in parameters if one != runtime)
    return f"{name}[{others}]" if others else name, runtime


class Stage:
    """The containerd of one suite while it is clean; after a test that left something there is a new one."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self._current: Containerd | None = None

    def containerd(self) -> Containerd:
        """The one there is, or a new one; skips or fails the test when it cannot be had."""
        if self._current is None:
            engine = engines.engine(self.suite)
            if engine is None or peers.peer("runc") is None:
                _cannot(engines.reason(self.suite) or peers.reason("runc"))
                raise AssertionError
            self._current = environment.Containerd(engine, environment.programs()).__enter__()
        return self._current

    def close(self) -> None:
        """Ends the one there is."""
        if self._current is not None:
            self._current.__exit__(None, None, None)
            self._current = None


def _cannot(reason: str) -> None:
    if os.environ.get("OCIRUN_REQUIRE_PEERS") == "1":
        pytest.fail(f"containerd and runc are required: {reason}")
    pytest.skip(reason)


def _played(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene; fails the test when it leaves anything behind, and gives the next one a clean stage."""
    if request.param == "ocirun" and not SHIM.exists():
        pytest.fail(f"{SHIM} is missing: make setup")
    containerd = stage.containerd()
    before = leftovers.take(containerd)
    scene = Scene(containerd, request.param)
    found: dict[str, list[str]] = {"everything": ["it could not be counted"]}
    name = _name_and_runtime(request.node)
    known, possible = leaving(*name), perhaps_leaving(*name)
    grace = leftovers.SHORT_GRACE if known or possible else leftovers.GRACE
    try:
        yield scene
        found = _left(scene, before, grace)
    finally:
        if found:
            stage.close()
    if known and not found:
        pytest.fail(f"left nothing behind, though it is known to: {known}")
    if found and not known and not possible:
        pytest.fail("left behind: " + "; ".join(f"{name}: {', '.join(what)}" for name, what in found.items()))


def _left(scene: Scene, before: leftovers.Traces, grace: float) -> dict[str, list[str]]:
    """What remains after the clean-up, which itself fails where containerd hangs."""
    try:
        if not scene.containerd.runs:
            scene.containerd.start()
        scene.clean_up()
    except (AssertionError, environment.EnvironmentFaultError) as error:
        return {"everything, as it could not be cleaned up": [str(error)]}
    return leftovers.settled(before, scene.containerd, grace)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Master and slave of a terminal with 33 rows and 77 columns, which changes no byte itself."""
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[0] = attributes[1] = attributes[3] = 0  # of input, output and the line discipline
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    set_size(slave, 33, 77)
    yield master, slave
    for fd in (master, slave):
        os.close(fd)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """sid's containerd."""
    stage = Stage("sid")
    yield stage
    stage.close()


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def older_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The containerd of an older suite."""
    stage = Stage(request.param)
    yield stage
    stage.close()


@pytest.fixture(params=RUNTIMES)
def scene(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Scene]:
    """Each runtime in turn."""
    yield from _played(stage, request)


@pytest.fixture(params=RUNTIMES)
def older_scene(request: pytest.FixtureRequest, older_stage: Stage) -> Iterator[Scene]:
    """Each runtime in turn, below an older containerd."""
    yield from _played(older_stage, request)
