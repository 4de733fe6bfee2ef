"""A real dockerd beside a containerd, in a private view of this host.

Its bridge, its published ports and its overlays are those of the view: everything works as on a host of one's
own, and all is gone with the view.  /usr/local/bin is the view's own as well, with our programs in it.

``python -m conformance.docker [COMMAND...]`` runs a command beside it, or a shell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Final

from conformance import engines
from conformance.containerd import Containerd
from conformance.private_view import TIMEOUT, ended, play, programs
from conformance.result import Result

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.engines import Engine

SOCKET = "/run/docker.sock"
ROOT = "/run/docker"
#: The flags by which dockerd is told of our command line.
RUNTIME = ("--add-runtime", "ocirun=/usr/local/bin/ocirun")
#: The programs of iptables that dockerd executes: one program under several names.
_IPTABLES = tuple(f"{name}{rest}" for name in ("iptables", "ip6tables") for rest in ("", "-save", "-restore"))


class Docker(Containerd):
    """dockerd with the image loaded and our command line for a runtime.

    The cgroups of its containers are below ``name``, so that the view can remove them.
    """

    def __init__(self, engine: Engine, docker: engines.Docker, programs: tuple[Path, ...] = ()) -> None:
        super().__init__(engine, (*programs, docker.programs))
        self.docker_log: Final = self.scratch / "dockerd.log"
        self.environment |= {"XTABLES_LIBDIR": str(docker.xtables), "DOCKER_HOST": f"unix://{SOCKET}"}
        self._iptables = docker.programs / "xtables-nft-multi"
        self._dockerd: subprocess.Popen[bytes] | None = None

    def furnish(self) -> None:
        """Starts containerd and dockerd, and loads the image; raises EnvironmentFaultError."""
        for name in _IPTABLES:
            self.provide(name, self._iptables)
        self.run("ip", "link", "set", "lo", "up").ok()
        self.install()
        self.start_containerd()
        self.start_dockerd(*RUNTIME)
        self.docker("load", "--input", str(self.image())).ok()

    def start_dockerd(self, *flags: str) -> None:
        """Starts dockerd and returns when it listens; raises EnvironmentFaultError."""
        config = {
            "data-root": f"{ROOT}/data",
            "exec-root": f"{ROOT}/exec",
            "pidfile": f"{ROOT}/pid",
            "cgroup-parent": f"/{self.name}/docker",
            "features": {"containerd-snapshotter": False},
        }
        file = self.scratch / "daemon.json"
        file.write_text(json.dumps(config))
        sockets = ("--host", f"unix://{SOCKET}", "--containerd", self.socket)
        words = ("dockerd", "--config-file", str(file), *sockets, *flags)
        self._dockerd = self.serve(*words, log=self.docker_log, listens=SOCKET)

    def restart_dockerd(self, *flags: str) -> None:
        """Ends dockerd, and the containers with it, and starts it with other flags."""
        if self._dockerd is not None:
            self.run("sh", "-c", f"kill $(cat {ROOT}/pid)").ok()
            ended(self._dockerd)
        self.start_dockerd(*flags)

    def docker(
        self, *args: str, stdin: int | IO[bytes] = subprocess.DEVNULL, timeout: float = TIMEOUT
    ) -> Result:
        """Runs ``docker`` to its end."""
        return self.run("docker", *args, stdin=stdin, timeout=timeout)


def main(arguments: list[str]) -> int:
    """Runs a command, or a shell, with dockerd beside it; gives its exit status."""
    engine = engines.engine()
    if engine is None:
        sys.stderr.write(f"{engines.reason()}\n")
        return 1
    with Docker(engine, engines.docker(), programs()) as docker:
        sys.stderr.write(f"image scene, log {docker.docker_log}\n")
        return play(docker, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
