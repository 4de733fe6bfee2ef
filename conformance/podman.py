"""A real Podman in a private view of this host, as root, with its monitor conmon and its network.

Its configuration is given by environment variables: nothing in /etc is read.

``python -m conformance.podman [COMMAND...]`` runs a command beside it, or a shell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO, TYPE_CHECKING

from conformance import engines
from conformance.private_view import TIMEOUT, PrivateView, play, programs
from conformance.result import Result

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "/run/podman"


class Podman(PrivateView):
    """Podman with the image loaded."""

    def __init__(self, podman: engines.Podman, programs: tuple[Path, ...] = ()) -> None:
        super().__init__((*programs, podman.programs))
        self._programs = podman.programs
        home = self.scratch / "home"
        self.environment |= {
            "HOME": str(home),
            "CONTAINERS_CONF": str(self.scratch / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.scratch / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.scratch / "registries.conf"),
        }

    def furnish(self) -> None:
        """Writes the configuration and loads the image; raises EnvironmentFaultError."""
        policy = self.scratch / "home/.config/containers/policy.json"
        policy.parent.mkdir(parents=True)
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        (self.scratch / "registries.conf").write_text("")
        (self.scratch / "containers.conf").write_text(_engine(self._programs))
        (self.scratch / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{ROOT}/data"\nrunroot = "{ROOT}/run"\n'
        )
        self.run("ip", "link", "set", "lo", "up").ok()
        self.install()
        self.podman("load", "--input", str(self.image())).ok()

    def podman(
        self, *args: str, stdin: int | IO[bytes] = subprocess.DEVNULL, timeout: float = TIMEOUT
    ) -> Result:
        """Runs ``podman`` to its end."""
        return self.run("podman", *args, stdin=stdin, timeout=timeout)


def _engine(programs: Path) -> str:
    """containers.conf(5)."""
    return (
        f'[engine]\nconmon_path = ["{programs}/conmon"]\nhelper_binaries_dir = ["{programs}"]\n'
        'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        '[network]\nfirewall_driver = "none"\n'
    )


def main(arguments: list[str]) -> int:
    """Runs a command, or a shell, with Podman at hand; gives its exit status."""
    with Podman(engines.podman(), programs()) as podman:
        return play(podman, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
