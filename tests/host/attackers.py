"""Who attacks a container from another one that shares a directory with it, and what they must not reach."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: What a race may take, and how often it has to come to an end one way and the other before.
SECONDS = 60.0
ENOUGH = 4


def compiled(name: str, directory: Path) -> Path:
    """The program of ``name``.c beside this file, static."""
    program = directory / name
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    return program


@contextlib.contextmanager
def exchanging(scratch: Path, *paths: Path) -> Generator[subprocess.Popen[bytes]]:
    """A process that exchanges the first of ``paths`` for the second, the third for the fourth, and so on."""
    process = subprocess.Popen([compiled("swap", scratch), *paths], stderr=subprocess.PIPE)
    try:
        yield process
        assert process.poll() is None, f"the attacker gave up: {process.communicate()[1]!r}"
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def standing_still(process: subprocess.Popen[bytes]) -> Generator[None]:
    """Stops a process meanwhile."""
    process.send_signal(signal.SIGSTOP)
    observe.eventually(lambda: observe.state_letter(process.pid) == "T", "the attacker stands still")
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Creates:
    """Creates of one bundle, again and again while somebody attacks; counts what became of them."""

    def __init__(self, runtime: Runtime, bundle: Bundle, *flags: str) -> None:
        self.made = 0
        self.refused: list[str] = []
        self._runtime = runtime
        self._bundle = bundle.write()
        self._flags = flags
        self._until = time.monotonic() + SECONDS

    @property
    def enough(self) -> bool:
        """Whether both outcomes were seen often enough, or the time is over."""
        return self.over or (self.made >= ENOUGH and len(self.refused) >= ENOUGH)

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._until

    @contextlib.contextmanager
    def one(self) -> Generator[int]:
        """One more: the pid of its init, 0 when it was refused; it is deleted afterwards."""
        runtime, ident, pid_file = self._runtime, new_id(), self._runtime.file("pid")
        words = ("--pid-file", str(pid_file), "--bundle", str(self._bundle.path), *self._flags, ident)
        result = runtime.call("create", *words)
        if result.code:
            self.refused.append(result.stderr)
            yield 0
            return
        self.made += 1
        try:
            yield int(pid_file.read_text())
        finally:
            runtime.call("delete", "--force", ident).ok()


def bare(pid: int) -> list[str]:
    """Where a process sees a whole procfs or sysfs that is not covered as the default config says."""
    mounts = observe.mounts(pid)
    seen = {mount.point: mount.options for mount in mounts}
    wanted = {
        "proc": ("/sys", "/bus", "/fs", "/irq", "/keys", "/timer_list"),
        "sysfs": ("/firmware",),
    }
    return [
        f"{mount.point}{below}"
        for mount in mounts
        if mount.root == "/" and mount.kind in wanted
        for below in wanted[mount.kind]
        if f"{mount.point}{below}" not in seen and observe.inside(pid, f"{mount.point}{below}").exists()
    ]
