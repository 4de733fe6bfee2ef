"""A real containerd in a private view of this host: nothing of it touches the host, nothing survives it.

``python -m conformance.containerd [COMMAND...]`` runs a command in such an environment, or a shell.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING

from conformance import engines
from conformance.image import IMAGE
from conformance.private_view import TIMEOUT, PrivateView, children, ended, play, programs
from conformance.result import Result

if TYPE_CHECKING:
    from pathlib import Path

STATE = "/run/containerd"
SOCKET = f"{STATE}/containerd.sock"

#: Not needed here, and of these the last makes a directory in /opt.
_DISABLED = (
    "io.containerd.grpc.v1.cri io.containerd.cri.v1.runtime io.containerd.cri.v1.images"
    " io.containerd.nri.v1.nri io.containerd.snapshotter.v1.aufs io.containerd.snapshotter.v1.btrfs"
    " io.containerd.snapshotter.v1.devmapper io.containerd.snapshotter.v1.zfs io.containerd.internal.v1.opt"
).split()


class Containerd(PrivateView):
    """containerd of one Debian suite, with the shims of ``programs`` in its PATH before its own.

    Inside, it runs and its image is imported.  ``namespace`` is containerd's, and the parent of the
    containers' cgroups.
    """

    def __init__(self, engine: engines.Engine, programs: tuple[Path, ...] = ()) -> None:
        super().__init__((*programs, engine.programs))
        self.engine = engine
        self.namespace = self.name
        self.socket = SOCKET
        self.log = self.scratch / "containerd.log"
        self.environment["CONTAINERD_NAMESPACE"] = self.namespace
        self._daemon: subprocess.Popen[bytes] | None = None

    def furnish(self) -> None:
        """Starts containerd and imports the image; raises EnvironmentFaultError."""
        self.start_containerd()
        # Not through the transfer service of 2.x, which unpacks for overlayfs only.
        self.ctr("images", "import", "--local", "--snapshotter", "native", str(self.image())).ok()

    def start_containerd(self) -> None:
        """Writes the configuration and starts containerd; raises EnvironmentFaultError."""
        self.provide("ctr", self.engine.ctr)
        (self.scratch / "config.toml").write_text(_config(self.engine.version))
        self.start()

    def start(self) -> None:
        """Starts containerd and returns when it listens; raises EnvironmentFaultError."""
        config = str(self.scratch / "config.toml")
        words = ("containerd", "--config", config, "--log-level", "info")
        self._daemon = self.serve(*words, log=self.log, listens=SOCKET)

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Sends containerd a signal, SIGKILL being one of them, and waits for its end."""
        if self._daemon is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.daemon, signum)
        ended(self._daemon)
        self._daemon = None

    def restart(self, signum: int = signal.SIGTERM) -> None:
        """Ends containerd with a signal and starts it again; the containers live on."""
        self.stop(signum)
        self.start()

    @property
    def runs(self) -> bool:
        """Whether containerd is there."""
        return self._daemon is not None and self._daemon.poll() is None

    @property
    def daemon(self) -> int:
        """Containerd's process as the host numbers it; raises ProcessLookupError when it does not run."""
        found = [] if self._daemon is None else children(self._daemon.pid)
        if not found:
            raise ProcessLookupError("containerd does not run")
        return found[0]

    def ctr(
        self, *args: str, stdin: int | IO[bytes] = subprocess.DEVNULL, timeout: float = TIMEOUT
    ) -> Result:
        """Runs ``ctr`` to its end."""
        return self.run("ctr", *args, stdin=stdin, timeout=timeout)


def _config(version: tuple[int, ...]) -> str:
    disabled = ", ".join(f'"{name}"' for name in _DISABLED)
    return (
        f"version = {3 if version >= (2,) else 2}\n"
        f'root = "{STATE}/root"\nstate = "{STATE}"\ndisabled_plugins = [{disabled}]\n'
        f'[grpc]\n  address = "{SOCKET}"\n'
    )


def main(arguments: list[str]) -> int:
    """Runs a command, or a shell, with containerd beside it; gives its exit status."""
    engine = engines.engine()
    if engine is None:
        sys.stderr.write(f"{engines.reason()}\n")
        return 1
    with Containerd(engine, programs()) as containerd:
        sys.stderr.write(f"containerd {engine.suite}, image {IMAGE}, log {containerd.log}\n")
        return play(containerd, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
