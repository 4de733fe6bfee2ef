"""Containers that ``podman`` runs as root, the same way whichever runtime is below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance import peers
from conformance.podman import ROOT
from tests.engines.command_scenes import CommandScene

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.podman import Podman

#: Our command line, as the README has it; the oracle.
RUNTIMES = {"cli": "/usr/local/bin/ocirun", "runc": "runc"}
#: Where runtimes keep what belongs to a container; what Podman keeps goes with its container.
TOPS = ("/run/ocirun", "/run/runc")


class PodmanScene(CommandScene["Podman"]):
    """A Podman, a runtime for it, and the containers of one test."""

    tool = "podman"
    at_once = ("--time", "0")

    def __init__(self, engine: Podman, runtime: str) -> None:
        super().__init__(engine, str(peers.peer("runc")) if runtime == "runc" else RUNTIMES[runtime])

    def arguments(self, *flags: str) -> tuple[str, ...]:
        """``podman run`` for our runtime, without the limit of processes that Podman gives everybody: no
        cgroup2 of the host has the controller.  For runc of before 1.4 no limit is 0."""
        limit = ("--pids-limit", "0" if self.runtime.endswith("/runc") else "-1")
        parent = ("--cgroup-parent", f"/{self.engine.name}")
        common = (*limit, *parent, "--name", self.new_name())
        return ("--runtime", self.runtime, "run", *common, *flags)

    def podman(self, *args: str) -> str:
        """What a command of podman prints; it must succeed."""
        return self.told(*args)

    def config(self, name: str) -> Path:
        """The config.json that Podman wrote for a container."""
        ident = self.inspect(name, ".Id")
        return self.engine.path(f"{ROOT}/data/overlay-containers/{ident}/userdata/config.json")
