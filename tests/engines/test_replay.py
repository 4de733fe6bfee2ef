"""The config that an engine writes for a plain container, given to ``ocirun run`` and ``validate`` as it is.

The engine's own container lives meanwhile, so the root file system and everything else the config names is
there; only its cgroup is taken, so the second one gets another.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, cast

import pytest

from conformance.private_view import TIMEOUT, eventually
from tests.engines.scenes import OCIRUN

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.private_view import PrivateView
    from tests.engines.docker_scenes import DockerScene
    from tests.engines.podman_scenes import PodmanScene
    from tests.engines.scenes import Scene


def _replayed(view: PrivateView, config: Path, rootfs: str = "") -> None:
    """Validates and runs a config; ``rootfs`` is where a relative root is, from the view."""
    document = cast("dict[str, dict[str, object]]", json.loads(config.read_text()))
    cgroup = document["linux"].pop("cgroupsPath")
    assert isinstance(cgroup, str)
    document["linux"]["cgroupsPath"] = f"{cgroup}-replayed"
    if rootfs:
        document["root"]["path"] = rootfs
    bundle = view.scratch / "replayed"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(document))
    told = view.run(str(OCIRUN), "validate", "--bundle", str(bundle)).ok()
    assert (told.stdout, told.stderr) == (f"{bundle}/config.json: no fault\n", "")
    root = ("--root", "/run/ocirun-replayed")
    process, result = view.popen(str(OCIRUN), *root, "run", "--bundle", str(bundle), "again")
    eventually(lambda: result.stdout == "up\n" or process.poll() is not None, "the program is up")
    view.run(str(OCIRUN), *root, "kill", "again", str(int(signal.SIGTERM))).ok()
    assert process.wait(TIMEOUT) == 3, result.stderr
    assert (result.stdout, result.stderr) == ("up\nbye\n", "")


@pytest.mark.parametrize("scene", ["cli"], indirect=True)
def test_the_config_of_containerd_is_run_as_it_is(scene: Scene) -> None:
    task = scene.start().says("up")
    bundle = scene.bundle(task.id)
    inside = f"/run/containerd/io.containerd.runtime.v2.task/{scene.containerd.namespace}/{task.id}/rootfs"
    _replayed(scene.containerd, bundle / "config.json", inside)


@pytest.mark.parametrize("docker", ["ocirun"], indirect=True)
@pytest.mark.parametrize("flags", [(), ("--publish", "8081:80", "--init=false", "--volume", "/kept")])
def test_the_config_of_docker_is_run_as_it_is(docker: DockerScene, flags: tuple[str, ...]) -> None:
    name = docker.start(flags=flags)
    docker.says(name, "up")
    _replayed(docker.engine, docker.config(name))


@pytest.mark.parametrize("podman", ["cli"], indirect=True)
def test_the_config_of_podman_is_run_as_it_is(podman: PodmanScene) -> None:
    name = podman.start()
    podman.says(name, "up")
    _replayed(podman.engine, podman.config(name))
