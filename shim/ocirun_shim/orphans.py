"""Reaps what the shim was left with as the subreaper of its containers (prctl(2), PR_SET_CHILD_SUBREAPER).

A process whose parent has died becomes ours where its pid namespace has no init of its own to take it.  Never
waits for "any child": that would take the status of an init away, or stop at its zombie for ever.  A zombie
that nobody of ours waits for is left for one more look, as a helper or a hook that has just ended is about to
be reaped by whoever started it.
"""

from __future__ import annotations

import os
import select
import _signal as signal
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_shim.loop import Loop, Timer

_PAUSE = 5.0


class Orphans:
    """Looks for orphans some time after a child has ended; ``known`` gives the pids that are waited for."""

    __slots__ = ("_known", "_loop", "_read", "_seen", "_timer", "_watch", "_write")

    def __init__(self, loop: Loop, known: Callable[[], set[int]]) -> None:
        self._loop = loop
        self._known = known
        self._seen: set[int] = set()
        self._timer: Timer | None = None
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._watch = loop.watch(self._read.fileno(), select.EPOLLIN, lambda _events: self._signalled())

    def _signalled(self) -> None:
        """A child ended; many that end together are looked at once."""
        self._read.recv(4096)
        if self._timer is None:
            self._timer = self._loop.call_at(self._loop.now() + _PAUSE, self._look)

    def _look(self) -> None:
        self._timer = None
        found = zombies() - self._known()
        for pid in found & self._seen:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        self._seen = found - self._seen
        if self._seen:
            self._timer = self._loop.call_at(self._loop.now() + _PAUSE, self._look)

    def close(self) -> None:
        """Gives the signal back."""
        self._watch.close()
        signal.set_wakeup_fd(-1)
        self._read.close()
        self._write.close()


def zombies() -> set[int]:
    """The children of ours that have ended and were not reaped (proc_pid_task_children(5))."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                pids = [int(word) for word in file.read().split()]
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN: they stay until we end
            continue
        found.update(pid for pid in pids if _is_zombie(pid))
    return found


def _is_zombie(pid: int) -> bool:
    from ocirun.lifecycle.process import look

    process = look(pid)
    return process is not None and process.dead
