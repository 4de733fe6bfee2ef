"""Who was killed for want of memory, told by the cgroup of a container (cgroup-v2.rst, memory.events)."""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_shim.loop import Loop

#: The kernel counts here what it killed; ``oom`` beside it counts allocations that failed as well.
_KEY = b"oom_kill "
_LONGEST = 4096


class MemoryWatch:
    """Calls ``tell`` when a process of ``cgroup`` was killed, until ``close``.

    ``killed`` is how many are known already, -1 for all that there are now.  Where the cgroup has no memory
    controller nothing is ever told.
    """

    __slots__ = ("_fd", "_tell", "_watch", "killed")

    def __init__(self, loop: Loop, cgroup: str, tell: Callable[[], None], killed: int = -1) -> None:
        self._tell = tell
        self._watch = None
        try:
            self._fd = os.open(f"{cgroup}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self.killed = max(self._count(), 0) if killed < 0 else killed
        if self._fd >= 0:
            # cgroup2 tells of a change by EPOLLPRI, and of EPOLLERR together with it
            self._watch = loop.watch(self._fd, select.EPOLLPRI, lambda _events: self.look())

    def look(self) -> None:
        """Tells what has not been told; once for all that were killed since the last look.

        Whoever publishes an exit looks first: the kernel may have killed whose end we see before it tells us.
        """
        count = self._count()
        if count < 0:  # the cgroup was removed, of which epoll would tell for ever
            self.close()
        elif count > self.killed:
            self.killed = count
            self._tell()

    def close(self) -> None:
        """Tells nothing any more; may be repeated."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _count(self) -> int:
        """How many have been killed; -1 where nobody counts."""
        if self._fd < 0:
            return -1
        try:
            text = os.pread(self._fd, _LONGEST, 0)
        except OSError:
            return -1
        found = [line[len(_KEY) :] for line in text.splitlines() if line.startswith(_KEY)]
        return int(found[0]) if found else -1
