"""Undoes what a journal says was made: its traces backwards, as a plan of inverse steps."""

from __future__ import annotations

import os
import time

from ocirun import journal
from ocirun.cgroup.files import remove_if_empty
from ocirun.errors import OcirunError, StateError
from ocirun.executor.run import Execution, Observer, execute
from ocirun.lifecycle.process import is_dead, open_pidfd, pid_namespace, send_signal
from ocirun.plan import steps
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import LIFECYCLE, Plan
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.errors import Fault
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


def ignore(fault: Fault) -> None:
    """For a caller who does not care for warnings."""
    del fault


def undo(lock: Lock, *, lenient: bool = False, warn: Callable[[Fault], None] = ignore) -> Task[None]:
    """Undoes all of the container held by ``lock``, removes its state directory and runs the poststop hooks.

    ``lenient`` goes on with what a damaged journal still tells; ``warn`` is told of hooks that fail.
    Can be repeated: each inverse takes what is gone already as done.  Raises StepError or DriverError for
    what cannot be undone; the state directory then stays, so that it can be tried again.
    """
    entries = journal.read(lock.path, lenient=lenient)
    _end_hook(entries)
    if entries.cgroups_made < 0:
        # make_cgroup did not come to its end, so nobody of ours is in there: who is, must not be killed
        for where, parents in _cgroups(entries):
            remove_if_empty(where, parents)
    elif steps_back := inverse(entries):
        yield from execute(compile_plan(Plan(lock.container, steps_back)), {}, Observer(), Execution())
    yield from _gone(entries)
    if not entries.has_hooks("poststop"):
        lock.remove()
        return
    from ocirun.lifecycle.hooks import frozen, run_poststop, state_for

    config = frozen(lock.path)
    lock.remove()
    yield from run_poststop(config, state_for(entries.head, "stopped", 0), warn)


def _end_hook(entries: Journal) -> None:
    """Kills the hook, with its process group, that whoever ran it did not live to wait for."""
    pid, start = entries.hook
    if entries.head.get("pids") != pid_namespace():
        return
    pidfd = open_pidfd(pid, start)
    if pidfd < 0:
        return
    try:
        if not is_dead(pidfd):
            os.killpg(pid, _SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _gone(entries: Journal) -> Task[None]:
    """Ends an init that cgroup.kill did not reach because somebody moved it to another cgroup."""
    if entries.head.get("pids") != pid_namespace():
        return  # our pids are others; cgroup.kill has waited for the end of all
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd >= 0:
        yield from end(pidfd)


def end(pidfd: int) -> Task[None]:
    """Kills a process, waits until it has ended and reaps it where it is our child; closes ``pidfd``.

    Raises StateError for one that does not die.
    """
    try:
        if not is_dead(pidfd):
            send_signal(pidfd, _SIGKILL)
            yield Wait(reads=(pidfd,), until=time.monotonic() + _PATIENCE)
        if not is_dead(pidfd):
            raise StateError(
                "init does not die, though it was killed",
                hint="/proc/PID/stack tells where it hangs; delete again when it is gone",
            )
        reap(pidfd)
    finally:
        os.close(pidfd)


def despite(error: BaseException, doing: str, task: Task[None]) -> Task[None]:
    """Runs a task of cleaning up after ``error``; what goes wrong in it becomes a note: the first cause wins.

    Nothing is done after GeneratorExit: who closes a task does not wait for it any more (ocirun.waiting).
    """
    if isinstance(error, GeneratorExit):
        task.close()
        return
    try:
        yield from task
    except (OcirunError, OSError) as trouble:
        error.add_note(f"while {doing}: {trouble}")


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
