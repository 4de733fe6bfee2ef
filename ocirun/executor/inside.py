"""Looks at the root file system of a container through an init that waits for us.  Cold.

Whoever controls that file system may make any look at it hang (FUSE, a dead server), so a child of ours looks
and has a limited time.  Nothing in it is executed and only regular files
and directories are opened; see ocirun.walk.
"""

from __future__ import annotations

import os
import stat
import time

from ocirun.child import Child
from ocirun.files import read_file
from ocirun.waiting import Wait
from ocirun.walk import SEARCH, Identity, Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import TypeAlias

    from ocirun.waiting import Task

    #: A stable code ("": that of the error stays) and the sentence that tells the cause.
    Finding: TypeAlias = tuple[str, str]

NOTHING = ("", "")
_PATIENCE, _SHORT = 10.0, 0.2
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
    child = Child(lambda to: _tell(to, lambda: ask(Inside(pid, top, cwd))))
    try:
        said = yield from child.hear(time.monotonic() + _PATIENCE)
        child.kill()
        yield Wait(reads=(child.pidfd,), until=time.monotonic() + _SHORT)
    finally:
        child.finish()
    code, _, words = said.decode("utf-8", "replace").partition("\0")
    return code, words


def _tell(to: _socket.socket, find: Callable[[], Finding]) -> None:
    code, words = find()
    to.sendall(f"{code}\0{words}".encode("utf-8", "replace"))
