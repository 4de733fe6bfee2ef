"""What a process changes of itself: prctl(2) with types, which python-prctl has none of, and descriptors."""

from __future__ import annotations

import os
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_prctl: ModuleType = import_module("prctl")

_PR_SCHED_CORE, _CREATE, _THREAD = 62, 1, 0


def become_subreaper() -> None:
    """Orphans among our descendants become our children from now on (PR_SET_CHILD_SUBREAPER)."""
    _prctl.set_child_subreaper(1)


def name_process(name: str) -> None:
    """What ps(1) shows: the first 15 bytes as comm, all of it as the command line, as far as it has room."""
    _prctl.set_name(name)
    _prctl.set_proctitle(name)


def new_core_cookie() -> None:
    """Nobody but what we fork may share a core with us (PR_SCHED_CORE_CREATE); raises OSError."""
    # ctypes costs memory that each forked child would pay for, and hardly anybody asks for this.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SCHED_CORE, _CREATE, 0, _THREAD, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"PR_SCHED_CORE_CREATE: {os.strerror(number)}")


def close_all_but(keep: set[int]) -> None:
    """Closes every descriptor from 3 on that is not in ``keep`` (close_range(2))."""
    start = 3
    for fd in sorted(keep):
        os.closerange(start, fd)
        start = max(start, fd + 1)
    os.closerange(start, 1 << 30)
