"""The two ends of a terminal, as an engine and as a person at the keyboard hold them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.host.runtimes import Runtime

PATIENCE = 30.0
#: A script that waits for a key to interrupt it: the shell looks for the signal after each sleep.
CAUGHT = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"


class ConsoleSocket:
    """The socket that --console-socket names; the runtime sends one master through it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._socket.settimeout(PATIENCE)
        self._masters: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        for master in self._masters:
            os.close(master)

    def receive(self) -> int:
        """The master, closed with the socket."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(PATIENCE)
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
        assert len(descriptors) == 1, f"{len(descriptors)} descriptors instead of one"
        self._masters += descriptors
        return descriptors[0]


def read_until(master: int, text: str, patience: float = PATIENCE) -> str:
    """What the terminal says, up to ``text`` or its end; raises AssertionError when neither comes in time."""
    said = b""
    deadline = time.monotonic() + patience
    while text.encode() not in said:
        ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"the terminal said only {said!r}"
        try:
            part = os.read(master, 4096)
        except OSError:  # EIO: the other end is closed
            part = b""
        if not part:
            break
        said += part
    return said.decode(errors="replace").replace("\r\n", "\n")


def read_all(master: int) -> str:
    """What the terminal says until its other end is closed."""
    return read_until(master, "\0 never said")


def size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal."""
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_size(fd: int, rows: int, columns: int) -> None:
    """Changes rows and columns of a terminal."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def controlling_terminal() -> None:
    """For preexec_fn, in a new session: makes standard input the controlling terminal."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Keyboard:
    """A person at a terminal who calls ``runtime`` there."""

    def __init__(self, runtime: Runtime, words: Sequence[str], rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        set_size(self.master, rows, columns)
        self.process = subprocess.Popen(
            runtime.command(*words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=runtime.environment,
            start_new_session=True,
            preexec_fn=controlling_terminal,  # noqa: PLW1509 - it makes one ioctl(2)
        )
        os.close(slave)

    def finish(self) -> tuple[int, str]:
        """The exit status, and all that was said meanwhile."""
        said = read_all(self.master)
        code = self.process.wait(PATIENCE)
        os.close(self.master)
        return code, said
