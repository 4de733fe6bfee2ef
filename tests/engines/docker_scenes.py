"""Containers that ``docker`` runs, the same way whichever runtime is below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.docker import ROOT
from tests.engines.command_scenes import CommandScene

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.docker import Docker

#: Our shim by its name; our command line, which dockerd was told of; dockerd's own choice.
RUNTIMES = {"ocirun": "io.containerd.ocirun.v2", "cli": "ocirun", "runc": "runc"}
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task/moby"
#: Where shims and runtimes keep what belongs to a container.
TOPS = (BUNDLES, f"{ROOT}/exec/runtime-runc/moby")


class DockerScene(CommandScene["Docker"]):
    """A dockerd, a runtime in it, and the containers of one test."""

    tool = "docker"

    def __init__(self, engine: Docker, runtime: str) -> None:
        super().__init__(engine, RUNTIMES[runtime])

    def arguments(self, *flags: str) -> tuple[str, ...]:
        """``docker run`` for our runtime."""
        return ("run", "--runtime", self.runtime, "--name", self.new_name(), *flags)

    def docker(self, *args: str) -> str:
        """What a command of docker prints; it must succeed."""
        return self.told(*args)

    def config(self, name: str) -> Path:
        """The config.json that dockerd wrote for a container."""
        return self.engine.path(f"{BUNDLES}/{self.inspect(name, '.Id')}/config.json")
