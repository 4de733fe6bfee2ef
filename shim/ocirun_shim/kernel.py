"""What a process changes of itself: prctl(2) with types, which python-prctl has none of, and descriptors."""

from __future__ import annotations

import os
import resource
from importlib import import_module

from ocirun.files import read_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import ModuleType
else:
    import _signal

#: The part of python-prctl in C: the one in Python would dirty fifteen more pages of each shim.
_prctl: ModuleType = import_module("_prctl")

#: SIGHUP, SIGINT, SIGTERM and SIGCHLD: what the zygote handles.
HANDLED = (1, 2, 15, 17)

_SET_PDEATHSIG, _SET_NAME, _SET_CHILD_SUBREAPER = 1, 15, 36
_PR_SCHED_CORE, _CREATE, _THREAD_GROUP = 62, 1, 1
_LIMITS = 16  # RLIM_NLIMITS


def become_subreaper() -> None:
    """Orphans among our descendants become our children from now on (PR_SET_CHILD_SUBREAPER)."""
    _prctl.prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """SIGKILL comes when the parent dies (PR_SET_PDEATHSIG); the caller looks whether it still lives."""
    _prctl.prctl(_SET_PDEATHSIG, 9)


def set_comm(name: str) -> None:
    """The name that the kernel shows of this process, up to 15 bytes (PR_SET_NAME)."""
    _prctl.prctl(_SET_NAME, name)


def name_process(title: str, pid: int | str = "self") -> None:
    """What ps(1) shows of ``pid``, ourselves or forked from us, as its command line, as far as there is room.

    The room is where the kernel put the arguments (proc_pid_stat(5), arg_start and arg_end).  python-prctl's
    set_proctitle would take that of the environment too, and crashes once variables were changed.
    """
    try:
        fields = read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        text = title.encode()[: max(0, end - start - 1)].ljust(end - start, b"\0")
        fd = os.open(f"/proc/{pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, text, start)
        finally:
            os.close(fd)
    except OSError:
        return  # it keeps the name of what it was forked from


def umask() -> int:
    """Ours; the system call that tells it also sets it (umask(2))."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def default_signals() -> None:
    """Undoes what the zygote does to signals, in a child of it."""
    _signal.set_wakeup_fd(-1)
    for signum in HANDLED:
        _signal.signal(signum, _signal.SIG_DFL)


def share_limits(pid: int, model: int) -> None:
    """Gives ``pid`` the resource limits of ``model``, 0 being ourselves (prlimit(2)); raises OSError."""
    for limit in range(_LIMITS):
        wanted = resource.prlimit(model, limit)
        if wanted != resource.prlimit(pid, limit):
            resource.prlimit(pid, limit, wanted)


def share_priority(pid: int, model: int) -> None:
    """Gives ``pid`` the CPUs and the nice value of ``model``, 0 being ourselves (sched(7)).

    Raises OSError.
    """
    wanted = os.sched_getaffinity(model)
    if wanted != os.sched_getaffinity(pid):
        os.sched_setaffinity(pid, wanted)
    nice = os.getpriority(os.PRIO_PROCESS, model)
    if nice != os.getpriority(os.PRIO_PROCESS, pid):
        os.setpriority(os.PRIO_PROCESS, pid, nice)


def oom_score_adj(pid: int) -> int:
    """How much sooner the kernel ends ``pid`` when memory is short (proc_pid_oom_score_adj(5))."""
    return int(read_file(f"/proc/{pid}/oom_score_adj"))


def set_oom_score_adj(pid: int, score: int) -> None:
    """Sets it, where it is another; lower than before needs CAP_SYS_RESOURCE.  Raises OSError."""
    if score == oom_score_adj(pid):
        return
    write_file(f"/proc/{pid}/oom_score_adj", b"%d" % score)


def new_core_cookie(pid: int) -> None:
    """Nobody but what ``pid`` forks may share a core with it (PR_SCHED_CORE_CREATE); raises OSError."""
    # ctypes costs memory that each forked child would pay for, and hardly anybody asks for this.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SCHED_CORE, _CREATE, pid, _THREAD_GROUP, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"PR_SCHED_CORE_CREATE: {os.strerror(number)}")
