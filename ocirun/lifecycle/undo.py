"""Undoes what a journal says was made: its traces backwards, as a plan of inverse steps."""

from __future__ import annotations

import os
import time

from ocirun import journal
from ocirun.cgroup.files import remove_if_empty
from ocirun.errors import StateError
from ocirun.executor.run import Execution, Observer, execute
from ocirun.lifecycle.process import is_dead, open_pidfd, pid_namespace, send_signal
from ocirun.plan import steps
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import LIFECYCLE, Plan
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.journal import Journal
    from ocirun.lifecycle.store import Lock
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

_PATIENCE = 10.0
_SIGKILL = 9


def inverse(entries: Journal) -> list[Step]:
    """The steps that undo the traces, last first.

    ``kill_init`` needs the cgroup that init was born in, which is the argument of ``remove_cgroup``: killing
    the cgroup also reaches an init whose pid was never reported.  ``remove_state`` is not a step: it is the
    removal of the journal itself, and comes when all these have succeeded.
    """
    found: list[Step] = []
    for where, parents in _cgroups(entries):
        found.append(steps.kill_cgroup(path=where, pointer="", why=LIFECYCLE))
        if entries.cgroups_made:  # one that was there before stays (runtime.md#delete)
            above = max(parents, entries.cgroups_made - 1)
            found.append(steps.remove_cgroup(path=where, parents=above, pointer="", why=LIFECYCLE))
    return found


def _cgroups(entries: Journal) -> list[tuple[str, int]]:
    """The cgroups of the journal, last first: the path on the host and how many above it are ours."""
    return [
        (f"{trace.args[0]!s}{trace.args[1]!s}", int(str(trace.args[2])))
        for trace in reversed(entries.traces)
        if trace.undo == "remove_cgroup"
    ]


def undo(lock: Lock, *, lenient: bool = False) -> Task[None]:
    """Undoes all of the container held by ``lock`` and removes its state directory.

    ``lenient`` goes on with what a damaged journal still tells.
    Can be repeated: each inverse takes what is gone already as done.  Raises StepError or DriverError for
    what cannot be undone; the state directory then stays, so that it can be tried again.
    """
    entries = journal.read(lock.path, lenient=lenient)
    if entries.cgroups_made < 0:
        # make_cgroup did not come to its end, so nobody of ours is in there: who is, must not be killed
        for where, parents in _cgroups(entries):
            remove_if_empty(where, parents)
    elif steps_back := inverse(entries):
        yield from execute(compile_plan(Plan(lock.container, steps_back)), {}, Observer(), Execution())
    yield from _gone(entries)
    lock.remove()


def _gone(entries: Journal) -> Task[None]:
    """Kills init, waits until it has ended and reaps it where it is our child.

    cgroup.kill has reached it already, unless somebody moved it to another cgroup.  Raises StateError for one
    that does not die.
    """
    if entries.head.get("pids") != pid_namespace():
        return  # our pids are others; cgroup.kill has waited for the end of all
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd < 0:
        return
    try:
        if not is_dead(pidfd):
            send_signal(pidfd, _SIGKILL)
            yield Wait(reads=(pidfd,), until=time.monotonic() + _PATIENCE)
        if not is_dead(pidfd):
            raise StateError(
                f"init, pid {entries.pid}, does not die",
                hint=f"/proc/{entries.pid}/stack tells where it hangs; delete again when it is gone",
            )
        reap(pidfd)
    finally:
        os.close(pidfd)


def reap(pidfd: int) -> int | None:
    """Reaps the ended process of ``pidfd`` and gives its exit status as a shell does (128 + signal); None
    where it is not our child (waitid(2), P_PIDFD).
    """
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return ended.si_status
    return 128 + ended.si_status
