"""A private view of this host: namespaces of their own for what an engine and its containers do.

Everything runs below one process (conformance.inside), in private mount, pid and net namespaces: /run is a
tmpfs of its own, and /sys/fs/cgroup shows cgroup2.  Files of the host are seen at their own paths.  Nothing
of it touches this host, nothing survives it; the cgroups that stay behind are removed at the end.
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

from conformance import inside, peers
from conformance.image import write_image
from conformance.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

TIMEOUT = 60.0

_SYSTEM = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_numbers = itertools.count(1)


class EnvironmentFaultError(Exception):
    """The environment cannot be had, or did not do in time what it was told; the message says what."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc of the environment shows it."""

    pid: int
    parent: int
    state: str
    name: str
    command: tuple[str, ...]


class PrivateView:
    """A context manager; while it is open, commands can be run inside.

    ``programs`` come first in the PATH there.  ``name`` is used by nobody else, and the cgroups of its
    containers are to be below the one of that name.  ``scratch`` is a directory of the host for logs and
    outputs.
    """

    def __init__(self, programs: tuple[Path, ...] = ()) -> None:
        self.name = f"oe{os.getpid()}-{next(_numbers)}"
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/var/tmp"))
        self.environment = {
            "PATH": ":".join(map(str, (self.scratch / "bin", *programs, _SYSTEM))),
            "TMPDIR": "/run/tmp",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        #: The host's number of process 1 of the environment; 0 before and after.
        self.pid = 0
        self._first: subprocess.Popen[bytes] | None = None
        #: The root of its cgroups, which is reached by it also when process 1 is gone.
        self._cgroups = -1
        self._calls = itertools.count(1)
        self._commands: list[subprocess.Popen[bytes]] = []
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._open()
            self.furnish()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def furnish(self) -> None:
        """Starts what the view is there for; raises EnvironmentFaultError."""

    def _open(self) -> None:
        errors = self.scratch / "inside.err"
        with errors.open("wb") as stderr:
            self._first = subprocess.Popen(
                inside.private(),
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

    def _close(self) -> None:
        """Ends everything inside at once, and removes what is outside: cgroups, the scratch directory."""
        if self._first is not None:
            for stream in (self._first.stdin, self._first.stdout):
                if stream is not None:
                    stream.close()
            ended(self._first)
            if self._cgroups >= 0:
                remove_cgroup(f"/proc/self/fd/{self._cgroups}/{self.name}")
                os.close(self._cgroups)
                self._cgroups = -1
        for daemon in self._daemons:
            ended(daemon)
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

    def image(self) -> Path:
        """The archive of the image ``IMAGE``, for ``load`` and ``import``."""
        archive = self.scratch / "image.tar"
        if not archive.exists():
            write_image(archive)
        return archive

    def install(self) -> None:
        """Makes /usr/local/bin a directory of the view's own, with the programs of this checkout in it."""
        self.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/bin").ok()
        for name in ("ocirun", "containerd-shim-ocirun-v2"):
            program = Path(sys.executable).parent / name
            self.run("ln", "-s", str(program), f"/usr/local/bin/{name}").ok()

    def provide(self, name: str, program: Path) -> None:
        """Puts a program into the PATH under another name."""
        (self.scratch / "bin" / name).symlink_to(program)

    # -- daemons and commands --------------------------------------------------------------------------------

    def serve(self, *command: str, log: Path, listens: str) -> subprocess.Popen[bytes]:
        """Starts a daemon and returns when its socket takes connections; raises EnvironmentFaultError."""
        with log.open("ab") as output:
            daemon = subprocess.Popen(
                self.inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd="/",
            )
        self._daemons.append(daemon)
        name = command[0]
        eventually(lambda: self._listens(listens) or daemon.poll() is not None, f"{name} listens")
        if daemon.poll() is not None:
            raise EnvironmentFaultError(f"{name} ends at once: {log.read_text()[-2000:]}")
        return daemon

    def _listens(self, path: str) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.path(path)))
            except OSError:
                return False
        return True

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
        words = self.inside(*command)
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

    def kill(self, pid: int, signum: int = signal.SIGKILL) -> None:
        """Sends a signal to a process that the environment numbers ``pid``."""
        self.run(
            "busybox", "kill", f"-{int(signum)}", str(pid)
        ).ok()  # /bin/kill is no part of a small Debian

    def inside(self, *command: str) -> tuple[str, ...]:
        """The words that run a command inside."""
        return ("nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--", *command)


def _process(directory: Path) -> Process:
    head, _, tail = (directory / "stat").read_text().rpartition(") ")
    state, parent = tail.split()[:2]
    words = (directory / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    name = head.partition("(")[2]
    return Process(int(directory.name), int(parent), state, name, tuple(words[:-1]))


def children(pid: int) -> list[int]:
    """The children of a process, as the host numbers them."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def ended(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process, and helps when it does not end by itself."""
    try:
        process.wait(TIMEOUT / 2)
    except subprocess.TimeoutExpired:
        for child in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a command of ``popen`` with all of its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def remove_cgroup(top: str) -> None:
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
    """Where the programs of this checkout and the peers are; raises EnvironmentFaultError without peers."""
    runc = peers.peer("runc")
    if runc is None:
        raise EnvironmentFaultError(peers.reason("runc"))
    return Path(sys.executable).parent, runc.parent


def play(view: PrivateView, arguments: list[str]) -> int:
    """Runs a command inside, or a shell, where we are; gives its exit status."""
    words = ("nsenter", f"--target={view.pid}", "--mount", "--pid", "--net", "--wd=.", "--")
    command = arguments or [os.environ.get("SHELL", "/bin/sh")]
    return subprocess.run((*words, *command), env=view.environment, check=False).returncode
