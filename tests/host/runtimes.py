"""Driving a runtime from its command line, the same way whichever it is."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from conformance import result
from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Bundle

NAMES = ("ocirun", "runc", "crun")
OCIRUN = Path(sys.executable).parent / "ocirun"
TIMEOUT = 30.0

#: Every container id of this process starts so: what is left over can be told from what others do.
ID_PREFIX = f"oh{os.getpid()}-"

_numbers = itertools.count(1)


def new_id() -> str:
    """A container id that no other test uses."""
    return f"{ID_PREFIX}{next(_numbers)}"


class Result(result.Result):
    """A command that has returned; a container it has started may still write to its output."""

    __slots__ = ()

    def refused(self, *texts: str) -> Result:
        """The result itself; fails the test unless the exit status is 1 and stderr holds all ``texts``."""
        assert self.code == 1, f"exit status {self.code}: {self.stderr}"
        for text in texts:
            assert text in self.stderr, f"{text!r} is not in {self.stderr!r}"
        return self


class Container:
    """A container that ``create`` or a detached ``run`` has made."""

    def __init__(self, runtime: Runtime, ident: str, bundle: Bundle, result: Result, pid_file: Path) -> None:
        self.runtime = runtime
        self.id = ident
        self.bundle = bundle
        self.result = result
        self.pid_file = pid_file
        self.pid = int(pid_file.read_text())
        #: Detached processes beside init, which came to us.
        self.executed: list[int] = []
        self.deleted = False

    @property
    def output(self) -> str:
        """What the container has written so far."""
        return self.result.stdout

    def start(self) -> Container:
        """Starts the program and waits until it is what the process executes."""
        before = observe.words(self.pid, "cmdline")
        self.runtime.call("start", self.id).ok()
        observe.eventually(lambda: self._left(before), f"{self.id} runs something else than {before}")
        return self

    def _left(self, before: list[str]) -> bool:
        # while execve is at it there are no words, and descriptors that it still has to close
        return not observe.alive(self.pid) or observe.words(self.pid, "cmdline") not in ([], before)

    def kill(self, signum: str = "KILL") -> Result:
        """Sends a signal."""
        return self.runtime.call("kill", self.id, signum)

    def wait(self) -> None:
        """Waits until the process of the container has ended; it stays a zombie."""
        observe.eventually(lambda: not observe.alive(self.pid), f"{self.id} ends")

    def exit_status(self) -> int:
        """Waits for the end and reaps, as an engine's shim would: the code, or 128+n after a signal."""
        self.wait()
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def end_executed(self) -> None:
        """Kills and reaps what was executed: an init does not end before all in its pid namespace are reaped
        (pid_namespaces(7)), and these are our children by now."""
        while self.executed:
            pid = self.executed.pop()
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def delete(self, *flags: str) -> Result:
        """Deletes the container."""
        self.end_executed()
        result = self.runtime.call("delete", *flags, self.id)
        self.deleted = result.code == 0
        return result


class Runtime:
    """A runtime with a state directory of its own below ``scratch``."""

    def __init__(self, name: str, program: Path, scratch: Path) -> None:
        self.name = name
        self.program = program
        self.prefix: tuple[str, ...] = ()
        #: Flags of the program itself, before the command.
        self.flags: tuple[str, ...] = ()
        self.scratch = scratch
        self.root = scratch / "state"
        self.containers: list[Container] = []
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "TMPDIR": str(scratch / "tmp"),
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        self._calls = itertools.count(1)

    def command(self, *args: str) -> list[str]:
        """The whole command line for ``args``."""
        return [*self.prefix, str(self.program), "--root", str(self.root), *self.flags, *args]

    def file(self, name: str) -> Path:
        """A path for a new file of the test's own, outside what is searched for leftovers."""
        return self.scratch / f"{name}.{next(self._calls)}"

    def popen(
        self, *args: str, stdin: int | IO[bytes] = subprocess.DEVNULL
    ) -> tuple[subprocess.Popen[bytes], Result]:
        """Starts a command and does not wait; the Result's code is -1, its files are the real ones."""
        out, err = self.file("out"), self.file("err")
        command = self.command(*args)
        # Files, not pipes: a container that outlives the command would hold a pipe open, and us at its end.
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, env=self.environment, cwd=self.scratch
            )
        return process, Result(tuple(command), -1, out, err)

    def call(
        self, *args: str, stdin: int | IO[bytes] = subprocess.DEVNULL, timeout: float = TIMEOUT
    ) -> Result:
        """Runs a command to its end."""
        process, result = self.popen(*args, stdin=stdin)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            message = f"{' '.join(result.command)} did not return within {timeout} s: {result.stderr}"
            raise AssertionError(message) from None
        return Result(result.command, code, result.out, result.err)

    def run(self, bundle: Bundle, *flags: str, ident: str = "") -> Result:
        """Runs a bundle in the foreground to its end; nothing may remain of it."""
        return self.call("run", *flags, "--bundle", str(bundle.write().path), ident or new_id())

    def attempt(self, bundle: Bundle, *flags: str, ident: str = "") -> Result:
        """A ``create`` that is expected to fail; nothing may remain of it."""
        return self.call("create", *flags, "--bundle", str(bundle.write().path), ident or new_id())

    def create(self, bundle: Bundle, *flags: str, ident: str = "") -> Container:
        """Creates a container, which is deleted by force after the test."""
        return self._make("create", bundle, flags, ident or new_id())

    def detach(self, bundle: Bundle, *flags: str, ident: str = "") -> Container:
        """Runs a bundle detached, deleted by force after the test."""
        return self._make("run", bundle, ("--detach", *flags), ident or new_id())

    def _make(self, command: str, bundle: Bundle, flags: tuple[str, ...], ident: str) -> Container:
        pid_file = self.file("pid")
        path = str(bundle.write().path)
        result = self.call(command, *flags, "--pid-file", str(pid_file), "--bundle", path, ident).ok()
        container = Container(self, ident, bundle, result, pid_file)
        self.containers.append(container)
        return container

    def running(self, bundle: Bundle, *flags: str) -> Container:
        """Creates and starts a container whose program is running when this returns."""
        return self.create(bundle, *flags).start()

    def clean_up(self) -> None:
        """Deletes by force what ``create`` and ``detach`` have made, as far as the test has not."""
        for container in self.containers:
            if not container.deleted:
                container.delete("--force")
