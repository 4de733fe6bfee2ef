"""The fixtures of the scenes: one engine for each process of pytest, and each runtime in turn."""

from __future__ import annotations

import os
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines import docker_scenes, podman_scenes, stages
from tests.engines.deviations import deviation, race
from tests.engines.docker_scenes import DockerScene
from tests.engines.podman_scenes import PodmanScene
from tests.engines.scenes import RUNTIMES, Scene
from tests.engines.stages import Stage, name_and_runtime, played
from tests.host.terminals import set_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.containerd import Containerd
    from conformance.docker import Docker
    from conformance.podman import Podman

HERE = Path(__file__).parent
#: A test that hangs is a test that fails.
SECONDS = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the scenes: a time limit, root needed, and the known deviations of the oracle."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.timeout(SECONDS))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="the scenes need root"))
        name, runtime = name_and_runtime(item)
        why = deviation(name, runtime)
        if why:
            item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {why}", strict=True))
        if runtime in ("runc", "cli"):  # the shim is runc's: a race of its own tells nothing of ours
            item.add_marker(pytest.mark.flaky(reruns=2))
        why = race(name, runtime)
        if why:
            item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {why}", strict=False))


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
def stage() -> Iterator[Stage[Containerd]]:
    """sid's containerd."""
    stage = Stage(lambda: stages.containerd("sid"))
    yield stage
    stage.close()


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def older_stage(request: pytest.FixtureRequest) -> Iterator[Stage[Containerd]]:
    """The containerd of an older suite."""
    stage = Stage(lambda: stages.containerd(request.param))
    yield stage
    stage.close()


@pytest.fixture(params=RUNTIMES)
def scene(request: pytest.FixtureRequest, stage: Stage[Containerd]) -> Iterator[Scene]:
    """Each runtime in turn."""
    yield from played(stage, request, Scene)


@pytest.fixture(params=RUNTIMES)
def older_scene(request: pytest.FixtureRequest, older_stage: Stage[Containerd]) -> Iterator[Scene]:
    """Each runtime in turn, below an older containerd."""
    yield from played(older_stage, request, Scene)


@pytest.fixture(scope="session")
def docker_stage() -> Iterator[Stage[Docker]]:
    """sid's dockerd."""
    stage = Stage(stages.docker, docker_scenes.TOPS)
    yield stage
    stage.close()


@pytest.fixture(params=docker_scenes.RUNTIMES)
def docker(request: pytest.FixtureRequest, docker_stage: Stage[Docker]) -> Iterator[DockerScene]:
    """Each runtime in turn, below dockerd."""
    yield from played(docker_stage, request, DockerScene)


@pytest.fixture(scope="session")
def podman_stage() -> Iterator[Stage[Podman]]:
    """sid's Podman."""
    stage = Stage(stages.podman, podman_scenes.TOPS)
    yield stage
    stage.close()


@pytest.fixture(params=podman_scenes.RUNTIMES)
def podman(request: pytest.FixtureRequest, podman_stage: Stage[Podman]) -> Iterator[PodmanScene]:
    """Each runtime in turn, below Podman."""
    yield from played(podman_stage, request, PodmanScene)
