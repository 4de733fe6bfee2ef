"""A real containerd in namespaces of its own: nothing of it touches this host, nothing survives it.

Everything runs below one process (conformance.inside), in private mount, pid and net namespaces: /run is a
tmpfs of its own, with all of containerd in it, and /sys/fs/cgroup shows cgroup2.  Files of the host are seen
at their own paths.  What the containers' cgroups leave behind is removed at the end.

``python -m conformance.containerd [COMMAND...]`` runs a command in such an environment, or a shell.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from conformance import engines, inside, peers
from conformance.image import IMAGE, write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

TIMEOUT = 30.0
STATE = "/run/containerd"
SOCKET = f"{STATE}/containerd.sock"

#: Not needed here, and of these the last makes a directory in /opt.
_DISABLED = (
    "io.containerd.grpc.v1.cri io.containerd.cri.v1.runtime io.containerd.cri.v1.images"
    " io.containerd.nri.v1.nri io.containerd.snapshotter.v1.aufs io.containerd.snapshotter.v1.btrfs"
    " io.containerd.snapshotter.v1.devmapper io.containerd.snapshotter.v1.zfs io.containerd.internal.v1.opt"
).split()

_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
_numbers = itertools.count(1)


class EnvironmentFaultError(Exception):
    """The environment cannot be had, or did not do in time what it was told; the message says what."""


@dataclass(frozen=True, slots=True)
class Result:
    """A command that has returned; what it has started may still write to its output."""

    command: tuple[str, ...]
    code: int
    out: Path
    err: Path

    @property
    def stdout(self) -> str:
        """What has been written to standard output so far."""
        return self.out.read_text(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        """What has been written to standard error so far."""
        return self.err.read_text(errors="surrogateescape")

    def ok(self) -> Result:
        """The result itself; raises AssertionError when the exit status is not 0."""
        if self.code != 0:
            raise AssertionError(f"{' '.join(self.command)}: exit status {self.code}: {self.stderr}")
        return self


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc of the environment shows it."""

    pid: int
    parent: int
    state: str
    name: str
    command: tuple[str, ...]


class Containerd:
    """containerd of one Debian suite, with the shims of ``programs`` in its PATH before its own.

    A context manager: it runs inside, and its image is imported.  ``scratch`` is a directory of the host for
    logs and outputs, ``namespace`` containerd's namespace, and the parent of the containers' cgroups.
    """

    def __init__(self, engine: engines.Engine, programs: tuple[Path, ...] = ()) -> None:
        self.engine = engine
        self.namespace = f"oe{os.getpid()}-{next(_numbers)}"
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{self.namespace}-", dir="/var/tmp"))
        self.log = self.scratch / "containerd.log"
        self.environment = {
            "PATH": ":".join(map(str, (*programs, self.scratch / "bin", engine.programs, _SYSTEM))),
            "TMPDIR": "/run/tmp",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "CONTAINERD_NAMESPACE": self.namespace,
        }
        #: The host's number of process 1 of the environment; 0 before and after.
        self.pid = 0
        self._first: subprocess.Popen[bytes] | None = None
        #: The root of its cgroups, which is reached by it also when process 1 is gone.
        self._cgroups = -1
        self._daemon: subprocess.Popen[bytes] | None = None
        self._calls = itertools.count(1)
        self._commands: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._open()
            self.start()
            # Not through the transfer service of 2.x, which unpacks for overlayfs only.
            self.ctr("images", "import", "--local", "--snapshotter", "native", str(self._image())).ok()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    # -- the environment -------------------------------------------------------------------------------------

    def _open(self) -> None:
        words = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--"]
        errors = self.scratch / "inside.err"
        with errors.open("wb") as stderr:
            self._first = subprocess.Popen(
                (*words, sys.executable, "-I", "-S", inside.__file__),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self.environment,
            )
        answer = self._first.stdout
        assert answer is not None
        ready, _, _ = select.select([answer], [], [], TIMEOUT)
        line = answer.readline() if ready else b""
        if not line:
            raise EnvironmentFaultError(f"no private namespaces: {errors.read_text().strip() or 'it hangs'}")
        self.pid = int(line)
        self._cgroups = os.open(self.path(inside.CGROUP), os.O_PATH)
        (self.scratch / "bin").mkdir()
        (self.scratch / "bin/ctr").symlink_to(self.engine.ctr)
        config = self.scratch / "config.toml"
        config.write_text(_config(self.engine.version))

    def _close(self) -> None:
        """Ends everything inside at once, and removes what is outside: cgroups, the scratch directory."""
        if self._first is not None:
            for stream in (self._first.stdin, self._first.stdout):
                if stream is not None:
                    stream.close()
            _ended(self._first)
            if self._cgroups >= 0:
                _remove_cgroup(f"/proc/self/fd/{self._cgroups}/{self.namespace}")
                os.close(self._cgroups)
                self._cgroups = -1
        if self._daemon is not None:
            _ended(self._daemon)
        self.end_commands()
        self.pid = 0
        shutil.rmtree(self.scratch, ignore_errors=True)

    def path(self, path: str) -> Path:
        """A file of the environment, as the host reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def processes(self) -> list[Process]:
        """Every process of the environment, numbered as it numbers them."""
        found: list[Process] = []
        for directory in self.path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found.append(_process(directory))
        return sorted(found, key=lambda process: process.pid)

    # -- containerd ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts containerd and returns when it listens; raises EnvironmentFaultError."""
        config = str(self.scratch / "config.toml")
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                self._inside("containerd", "--config", config, "--log-level", "info"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd="/",
            )
        daemon = self._daemon
        eventually(lambda: self._listens() or daemon.poll() is not None, "containerd listens", TIMEOUT / 3)
        if daemon.poll() is not None:
            raise EnvironmentFaultError(f"containerd ends at once: {self.log.read_text()[-2000:]}")

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Sends containerd a signal, SIGKILL being one of them, and waits for its end."""
        if self._daemon is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.daemon, signum)
        _ended(self._daemon)
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
        children = [] if self._daemon is None else _children(self._daemon.pid)
        if not children:
            raise ProcessLookupError("containerd does not run")
        return children[0]

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.path(SOCKET)))
            except OSError:
                return False
        return True

    # -- commands --------------------------------------------------------------------------------------------

    def popen(
        self,
        *command: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        terminal: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[subprocess.Popen[bytes], Result]:
        """Starts a command inside and does not wait; the Result's code is -1, its files are the real ones.

        With ``terminal`` that is its controlling terminal and its standard streams.  The command leads a
        process group, so that ``end`` reaches all of it.
        """
        number = next(self._calls)
        out, err = self.scratch / f"{number}.out", self.scratch / f"{number}.err"
        words = self._inside(*command)
        # Files, not pipes: whatever outlives the command would hold a pipe open, and us at its end.
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                words if terminal is None else ("setsid", "--ctty", *words),
                stdin=stdin if terminal is None else terminal,
                stdout=stdout if terminal is None else terminal,
                stderr=stderr if terminal is None else terminal,
                env={**self.environment, **(environment or {})},
                start_new_session=terminal is None,
            )
        self._commands.append(process)
        return process, Result(command, -1, out, err)

    def run(
        self,
        *command: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        timeout: float = TIMEOUT,
    ) -> Result:
        """Runs a command inside to its end; raises AssertionError when it has none within ``timeout`` s."""
        process, result = self.popen(*command, stdin=stdin)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            end(process)
            raise AssertionError(
                f"{' '.join(command)} did not return within {timeout} s: {result.stderr}"
            ) from None
        return Result(command, code, result.out, result.err)

    def end_commands(self) -> None:
        """Kills what ``popen`` has started and still runs."""
        for process in self._commands:
            if process.poll() is None:
                end(process)
        self._commands.clear()

    def ctr(
        self, *args: str, stdin: int | IO[bytes] = subprocess.DEVNULL, timeout: float = TIMEOUT
    ) -> Result:
        """Runs ``ctr`` to its end."""
        return self.run("ctr", *args, stdin=stdin, timeout=timeout)

    def kill(self, pid: int, signum: int = signal.SIGKILL) -> None:
        """Sends a signal to a process that the environment numbers ``pid``."""
        self.run(
            "busybox", "kill", f"-{int(signum)}", str(pid)
        ).ok()  # /bin/kill is no part of a small Debian

    def _inside(self, *command: str) -> tuple[str, ...]:
        return ("nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--", *command)

    # -- the image -------------------------------------------------------------------------------------------

    def _image(self) -> Path:
        archive = self.scratch / "image.tar"
        write_image(archive)
        return archive


def _config(version: tuple[int, ...]) -> str:
    disabled = ", ".join(f'"{name}"' for name in _DISABLED)
    return (
        f"version = {3 if version >= (2,) else 2}\n"
        f'root = "{STATE}/root"\nstate = "{STATE}"\ndisabled_plugins = [{disabled}]\n'
        f'[grpc]\n  address = "{SOCKET}"\n'
    )


def _process(directory: Path) -> Process:
    head, _, tail = (directory / "stat").read_text().rpartition(") ")
    state, parent = tail.split()[:2]
    words = (directory / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    name = head.partition("(")[2]
    return Process(int(directory.name), int(parent), state, name, tuple(words[:-1]))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process, and helps when it does not end by itself."""
    try:
        process.wait(TIMEOUT / 2)
    except subprocess.TimeoutExpired:
        for child in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a command of ``popen`` with all of its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _remove_cgroup(top: str) -> None:
    """Removes a cgroup and all below, which the end of the last process has just emptied, or will."""

    def gone() -> bool:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        return not os.path.exists(top)

    eventually(gone, f"the cgroups of {top} are empty")


def eventually(what: Callable[[], bool], meaning: str, patience: float = TIMEOUT) -> None:
    """Waits until ``what()`` holds; raises EnvironmentFaultError with ``meaning`` after ``patience`` s."""
    deadline = time.monotonic() + patience
    while not what():
        if time.monotonic() > deadline:
            raise EnvironmentFaultError(f"not in time: {meaning}")
        time.sleep(0.005)


def programs() -> tuple[Path, ...]:
    """Where the shim of this checkout and the peers' runc are; raises EnvironmentFaultError without runc."""
    runc = peers.peer("runc")
    if runc is None:
        raise EnvironmentFaultError(peers.reason("runc"))
    return Path(sys.executable).parent, runc.parent


def main(arguments: list[str]) -> int:
    """Runs a command, or a shell, with containerd beside it; gives its exit status."""
    engine = engines.engine()
    if engine is None:
        sys.stderr.write(f"{engines.reason()}\n")
        return 1
    with Containerd(engine, programs()) as containerd:
        sys.stderr.write(f"containerd {engine.suite}, image {IMAGE}, log {containerd.log}\n")
        words = ("nsenter", f"--target={containerd.pid}", "--mount", "--pid", "--net", "--wd=.", "--")
        command = arguments or [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run((*words, *command), env=containerd.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
