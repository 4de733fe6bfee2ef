"""Looks at the root file system of a container through an init that waits for us.  Cold.

Whoever controls that file system may make any look at it hang (FUSE, a dead server), so a child of ours looks
and has a limited time; it tells what it found over a pipe.  Nothing in it is executed and only regular files
and directories are opened; see ocirun.walk.
"""

from __future__ import annotations

import os
import stat
import time

from ocirun.files import read_file
from ocirun.waiting import Wait
from ocirun.walk import SEARCH, Identity, Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import TypeAlias

    from ocirun.waiting import Task

    #: A stable code ("": that of the error stays) and the sentence that tells the cause.
    Finding: TypeAlias = tuple[str, str]
else:
    import _signal

NOTHING = ("", "")
_PATIENCE, _SHORT = 10.0, 0.2
#: PIPE_BUF: what is written in one piece is read in one (pipe(7)).
_LONGEST = 4096
_HEAD = 1 << 16


class Inside:
    """The view of process ``pid``: paths in its root, relative ones from its working directory."""

    __slots__ = ("_pid", "_root", "_top", "cwd", "who")

    def __init__(self, pid: int | str, top: str = "", cwd: str = "/") -> None:
        """``top`` is where its root will be as long as it has not entered it."""
        self._pid = pid
        self._top = top or f"/proc/{pid}/root"
        self._root = os.open(self._top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.who = Identity(pid)
        self.cwd = cwd

    def close(self) -> None:
        """Lets go of the root."""
        os.close(self._root)

    def walk(self, path: str) -> Walk:
        """Where ``path`` leads."""
        return Walk(self._root, path if path[:1] == "/" else f"{self.cwd}/{path}", self.who)

    def head(self, walk: Walk) -> bytes:
        """How the regular file of ``walk`` begins."""
        fd = walk.reopen(os.O_NOCTTY)
        try:
            return os.read(fd, _HEAD)
        finally:
            os.close(fd)

    def noexec(self, walk: Walk) -> str:
        """The mount point of the file when nothing may be executed there, else ""; as the container sees
        it."""
        if not os.fstatvfs(walk.fd).f_flag & os.ST_NOEXEC:
            return ""
        info = read_file(f"/proc/self/fdinfo/{walk.fd}").split()
        number = info[info.index(b"mnt_id:") + 1]
        rows = (row.split() for row in read_file(f"/proc/{self._pid}/mountinfo").split(b"\n"))
        point = next((row[4] for row in rows if row[:1] == [number]), b"its mount point")
        return point.decode("utf-8", "surrogateescape")

    def runs(self, walk: Walk) -> bool:
        """Whether ``walk`` has come to a file that this process may execute, as far as its mode tells."""
        return walk.fd >= 0 and stat.S_ISREG(walk.facts().st_mode) and self.who.may(SEARCH, walk.facts())

    def is_program(self, path: str) -> bool:
        """Whether ``path`` is such a file."""
        walk = self.walk(path)
        try:
            return self.runs(walk)
        finally:
            walk.close()


def look_inside(pid: int, ask: Callable[[Inside], Finding], top: str = "", cwd: str = "/") -> Task[Finding]:
    """What ``ask`` finds in the view of process ``pid``; ``NOTHING`` where it cannot look, or not in time."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    child = os.fork()  # noqa: TID251 - the child stays outside and looks; what enters is the helper
    if not child:
        _tell(writer, lambda: ask(Inside(pid, top, cwd)))
    os.close(writer)
    pidfd = os.pidfd_open(child)
    try:
        ready = yield Wait(reads=(reader,), until=time.monotonic() + _PATIENCE)
        said = os.read(reader, _LONGEST) if ready else b""
        if not ready:
            _signal.pidfd_send_signal(pidfd, 9)
        yield Wait(reads=(pidfd,), until=time.monotonic() + _SHORT)
    finally:
        _end(pidfd)
        os.close(reader)
    code, _, words = said.decode("utf-8", "replace").partition("\0")
    return code, words


def _tell(writer: int, find: Callable[[], Finding]) -> None:
    """The child: one write, so that whoever reads has all or nothing; it never returns."""
    try:
        code, words = find()
        os.write(writer, f"{code}\0{words}".encode("utf-8", "replace")[:_LONGEST])
    finally:  # a look that fails finds nothing
        os._exit(0)


def _end(pidfd: int) -> None:
    try:
        _signal.pidfd_send_signal(pidfd, 9)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):  # somebody who reaps all children was faster
        return
    finally:
        os.close(pidfd)
