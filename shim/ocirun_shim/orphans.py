"""Reaps what the shim was left with as the subreaper of its containers (prctl(2), PR_SET_CHILD_SUBREAPER).

A process whose parent has died becomes ours where its pid namespace has no init of its own to take it; and so
does what a worker has executed, when that worker ends.  Never waits for "any child": that would take the
status of an init away, or stop at its zombie for ever.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_shim.keeper import Keeping
    from ocirun_shim.loop import Loop

#: Seconds between two looks while somebody is awake to look.
_PAUSE = 1.0


class Orphans:
    """Looks for orphans of the keeper, of this process where there is none (``keeping`` is None).

    ``known`` gives the pids whose end somebody still has to see.  A zombie of our own is left for one more
    look: a helper or a hook that has just ended is about to be reaped by whoever started it.
    """

    __slots__ = ("_keeping", "_known", "_loop", "_seen")

    def __init__(self, loop: Loop, keeping: Keeping | None, known: Callable[[], set[int]]) -> None:
        self._loop = loop
        self._keeping = keeping
        self._known = known
        self._seen: set[int] = set()
        self._look_later()

    def _look_later(self) -> None:
        self._loop.call_at(self._loop.now() + _PAUSE, self._look)

    def _look(self) -> None:
        self._look_later()
        self.look()

    def look(self) -> None:
        """Reaps what nobody waits for."""
        keeping = self._keeping
        if keeping is not None:
            for pid in zombies(keeping.pid) - self._known():
                keeping.reap(pid)
            return
        found = zombies(os.getpid()) - self._known()
        for pid in found & self._seen:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        self._seen = found - self._seen


def zombies(parent: int) -> set[int]:
    """The children of ``parent`` that have ended and were not reaped (proc_pid_task_children(5))."""
    try:
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            pids = [int(word) for word in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN: they stay until we end
        return set()
    return {pid for pid in pids if _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    from ocirun.lifecycle.process import look

    process = look(pid)
    return process is not None and process.dead
