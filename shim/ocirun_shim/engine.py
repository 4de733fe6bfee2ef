"""Which version of the shim API the containerd that started us speaks: 1.7 refuses more than 2."""

from __future__ import annotations

import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 2.0
_LONGEST = 4096
_NOTE = 256  # less than PIPE_BUF: one write is one note

File = tuple[int, int, int]


class Versions:
    """The version for each containerd program, by device, inode and time of its file.

    The child that found out tells the zygote by a pipe, so that `containerd --version` runs once.
    """

    __slots__ = ("known", "reader", "writer")

    def __init__(self) -> None:
        self.known: dict[File, int] = {}
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def of(self, program: str) -> int:
        """3 for containerd 2 and newer, 2 for anything else, as every containerd accepts it."""
        try:
            status = os.stat(program)
        except OSError:
            return 2
        file = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if file not in self.known:
            self.known[file] = 3 if is_containerd_2(_ask(program)) else 2
            self._tell(file)
        return self.known[file]

    def _tell(self, file: File) -> None:
        try:
            os.write(self.writer, " ".join(map(str, (*file, self.known[file]))).encode().ljust(_NOTE))
        except OSError:
            return  # the zygote is gone, or behind with reading: the next child finds out again

    def learn(self) -> None:
        """Takes in what children have found out."""
        try:
            while note := os.read(self.reader, _NOTE):
                device, inode, changed, version = map(int, note.split())
                self.known[device, inode, changed] = version
        except BlockingIOError:
            return


def is_containerd_2(answer: bytes) -> bool:
    """Whether a containerd of version 2 or newer printed this: "containerd MODULE [v]VERSION …"."""
    words = answer.split()
    if len(words) < 3 or words[0] != b"containerd":
        return False
    major = words[2].removeprefix(b"v").partition(b".")[0]
    return major.isdigit() and int(major) >= 2


def _ask(program: str) -> bytes:
    """What ``program --version`` prints within two seconds; b"" where it cannot be run."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    environment: Mapping[str, str] = {"PATH": os.defpath}
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        pid = os.posix_spawn(
            program, [program, "--version"], environment, file_actions=actions, setsigdef=[signal.SIGPIPE]
        )
    except OSError:
        os.close(reader)
        return b""
    finally:
        os.close(writer)
    try:
        return _read_until(reader, time.monotonic() + _SECONDS)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)  # a zombie by now, if it is well
        os.waitpid(pid, 0)


def _read_until(fd: int, until: float) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    answer = b""
    while len(answer) < _LONGEST and poll.poll(max(0.0, until - time.monotonic()) * 1000):
        piece = os.read(fd, _LONGEST)
        if not piece:
            break
        answer += piece
    return answer
