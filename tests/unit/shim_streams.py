"""What the tests of the shim's streams share: the loop run until something is true, a client that reads."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from ocirun_shim.loop import Loop
from ocirun_shim.stdio import Stdio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: A pipe holds this much, and so does a FIFO (pipe(7)).
PIPE = 65536
PATIENCE = 20.0
EXIT_AFTER_WRITING = "import os, sys; os.write(1, b'x' * int(sys.argv[1]))"


class Runner:
    """The real loop, run until something is true, and counting how often it woke up."""

    def __init__(self) -> None:
        self.loop = Loop()

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Runs the loop until ``condition``; fails the test when it does not come true."""
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            self.run(0.005)

    def until_blocked(self, stdio: Stdio) -> None:
        """Runs the loop until the streams of a process that has its own hold something that nobody takes."""
        self.until(lambda: not stdio.rests)

    def run(self, seconds: float) -> None:
        """Runs the loop for so long."""
        timer = self.loop.call_at(self.loop.now() + seconds, self.loop.stop)
        self.loop.run()
        timer.cancel()


class Reader(threading.Thread):
    """A client that reads a FIFO to its end, as containerd does, in a thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.data = bytearray()
        self.start()

    def run(self) -> None:
        with self.path.open("rb", buffering=0) as fifo:  # waits for a writer, as Go's fifo package does
            while chunk := fifo.read(1 << 20):
                self.data += chunk

    def all(self) -> bytes:
        """What came, once the end has come."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the FIFO never ended"
        return bytes(self.data)


@pytest.fixture
def runner() -> Iterator[Runner]:
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    runner = Runner()
    yield runner
    assert runner.loop._watches == {}, "a watch was left"
    runner.loop.close()
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def wakeups(monkeypatch: pytest.MonkeyPatch, runner: Runner) -> list[int]:
    """The descriptors for which the loop called anybody, in order."""
    seen: list[int] = []
    deliver = Loop._deliver

    def counting(loop: Loop, fd: int, events: int) -> None:
        seen.append(fd)
        deliver(loop, fd, events)

    monkeypatch.setattr(Loop, "_deliver", counting)
    return seen


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Asked for first: the test closes what it opened, and so does the code."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = set(os.listdir("/proc/self/fd"))
    assert len(after) == len(before), f"leaked: {sorted(after - before)}"


@pytest.fixture
def fifos(tmp_path: Path) -> dict[str, str]:
    paths = {name: str(tmp_path / name) for name in ("stdin", "stdout", "stderr")}
    for path in paths.values():
        os.mkfifo(path, 0o700)
    return paths


def spawn(stdio: Stdio, *argv: str) -> subprocess.Popen[bytes]:
    assert stdio.child is not None
    stdin, stdout, stderr = stdio.child
    process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr)
    stdio.started()
    return process


def python(stdio: Stdio, code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return spawn(stdio, sys.executable, "-I", "-S", "-c", code, *arguments)


def pattern(size: int) -> bytes:
    return b"".join(struct.pack("<I", number) for number in range(size // 4 + 1))[:size]
