"""Undoes what a journal says was made: its traces backwards, as a plan of inverse steps."""

from __future__ import annotations

import posix as os
import time

from ocirun import full, journal, paths
from ocirun.cgroup.files import OF_ROOT, OF_USER, noted, remove_if_empty, was_replaced
from ocirun.errors import Fault, OcirunError, StateError
from ocirun.executor.run import Execution, Observer, execute
from ocirun.lifecycle.process import is_dead, open_pidfd, pid_namespace, reaches
from ocirun.plan import steps
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import LIFECYCLE, Plan
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.run import Performer
    from ocirun.journal import Journal, Trace
    from ocirun.lifecycle.store import Lock
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

_PATIENCE = 10.0
_SIGKILL = 9


def inverse(entries: Journal, directory: str) -> list[Step]:
    """The steps that undo the traces of the container with this state ``directory``, last first.

    ``kill_init`` needs the cgroup that init was born in, which is the argument of ``remove_cgroup``: killing
    the cgroup also reaches an init whose pid was never reported.  ``remove_state`` is not a step: it is the
    removal of the journal itself, and comes when all these have succeeded.
    """
    found: list[Step] = []
    if entries.scope is not None and not _serves_another(entries, entries.cgroup, directory):
        found += _of_scope(entries.scope, entries.cgroup)
    for where, parents in _cgroups(entries):
        if _serves_another(entries, where, directory):
            continue
        found.append(steps.kill_cgroup(path=where, pointer="", why=LIFECYCLE))
        if entries.cgroups_made:  # one that was there before stays (runtime.md#delete)
            above = _above(where, max(parents, entries.cgroups_made - 1))
            found.append(steps.remove_cgroup(path=where, parents=above, pointer="", why=LIFECYCLE))
    return found + _of_resctrl(entries)


def _of_resctrl(entries: Journal) -> list[Step]:
    return [
        steps.remove_resctrl(place=place, pointer="", why=LIFECYCLE) for place in reversed(entries.resctrl)
    ]


def _above(where: str, count: int) -> list[str]:
    """So many directories above ``where``, the next one first."""
    found: list[str] = []
    while len(found) < count and paths.dirname(where) != "/":
        where = paths.dirname(where)
        found.append(where)
    return found


def _serves_another(entries: Journal, where: str, directory: str) -> bool:
    """Whether somebody other than the container of this state ``directory`` has taken the cgroup since: two
    configs may name the same, and who is in it now must not be killed."""
    of_root = noted(where, OF_ROOT)
    if not of_root and entries.note == OF_ROOT:
        return was_replaced(where, directory)
    told = of_root or (noted(where, OF_USER) if entries.note else "")
    if told in ("", directory):
        return False
    from ocirun.lifecycle.another import is_another, is_of_another

    return is_another(told, directory) if of_root else is_of_another(told, where, directory, entries)


def _of_scope(trace: Trace, where: str) -> list[Step]:
    """Systemd removes the cgroup of a scope that it stops; what it has left is ours to remove."""
    from ocirun.lifecycle.systemd import stop_arguments

    unit, user, description = stop_arguments(trace)
    return [
        steps.kill_cgroup(path=where, pointer="", why=LIFECYCLE),
        steps.stop_scope(unit=unit, user=user, description=description, pointer="", why=LIFECYCLE),
        steps.remove_cgroup(path=where, parents=(), pointer="", why=LIFECYCLE),
    ]


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


def undo(
    lock: Lock, *, lenient: bool = False, at_once: bool = False, warn: Callable[[Fault], None] = ignore
) -> Task[None]:
    """Undoes all of the container held by ``lock``, removes its state directory and runs the poststop hooks.

    ``lenient`` goes on with what a damaged journal still tells; ``at_once`` may sleep while the kernel
    removes an empty cgroup, and saves a helper by it; ``warn`` is told of hooks that fail.
    Can be repeated: each inverse takes what is gone already as done.  Raises StepError or DriverError for
    what cannot be undone; the state directory then stays, so that it can be tried again.
    """
    entries = journal.read(lock.path, lenient=lenient)
    if not entries.head and _was_executed(lock.path):
        raise _emptied(lock.path)
    if entries.scope is not None:
        full.become_full()  # D-Bus is spoken by a package, which the core has not
    _end_hook(entries)
    if entries.cgroups_made < 0:
        # it did not come to its end, so nobody of ours is in there: who is, must not be killed
        yield from _half_made(entries)
    elif not (at_once and _were_empty(entries, lock.path)) and (steps_back := inverse(entries, lock.path)):
        program = compile_plan(Plan(lock.container, steps_back))
        performers = _performers(entries, lenient=lenient, warn=warn)
        yield from execute(program, performers, Observer(), Execution())
    yield from _gone(entries)
    _remove_spared(entries, lock.path)
    if not entries.has_hooks("poststop"):
        lock.remove()
        return
    from ocirun.lifecycle.frozen import frozen
    from ocirun.lifecycle.hooks import run_poststop, state_for

    try:
        config = frozen(lock.path, entries)
    except StateError as error:
        if not lenient:
            raise
        warn(Fault("/hooks/poststop", f"cannot be run: {error.message}"))
        lock.remove()
        return
    lock.remove()
    yield from run_poststop(config, state_for(entries.head, "stopped", 0), warn)


def _were_empty(entries: Journal, directory: str) -> bool:
    """Whether the cgroups that were made had nobody in them to kill, and are removed."""
    if entries.scope is not None or not entries.cgroups_made or entries.resctrl:
        return False
    return all(
        _serves_another(entries, where, directory)
        or remove_if_empty(where, max(parents, entries.cgroups_made - 1))
        for where, parents in _cgroups(entries)
    )


def _remove_spared(entries: Journal, directory: str) -> None:
    """A cgroup that was left to another container of the user goes all the same when nobody is in it: the
    note may be forged."""
    if entries.note != OF_USER or entries.cgroups_made < 1:
        return
    for where, _ in _cgroups(entries):
        if paths.dirname(noted(where, OF_USER)) not in ("", paths.dirname(directory)):
            remove_if_empty(where, 0)


def _half_made(entries: Journal) -> Task[None]:
    for where, parents in _cgroups(entries):
        remove_if_empty(where, parents)
    for step in _of_resctrl(entries):  # made before the cgroup, which there may not even be
        yield from _remove_resctrl(step, {})
    if entries.scope is not None:
        from ocirun.lifecycle.systemd import forget

        yield from forget(entries.scope)


def _performers(entries: Journal, *, lenient: bool, warn: Callable[[Fault], None]) -> dict[str, Performer]:
    """The host's own steps of an undo."""
    if entries.scope is None:
        return {"remove_resctrl": _remove_resctrl}
    from ocirun.lifecycle.systemd import stop_performer

    stop = stop_performer(lenient=lenient, warn=warn)
    return {"stop_scope": stop, "remove_resctrl": _remove_resctrl}


def _remove_resctrl(step: Step, slots: dict[str, int]) -> Task[None]:
    del slots
    yield from ()
    from ocirun.lifecycle.resctrl_steps import perform

    perform(step, 0)


def _was_executed(directory: str) -> bool:
    """Whether the helper has begun in there: by then the journal has a head, unless somebody emptied it."""
    return "gate" in os.listdir(directory)


def _emptied(directory: str) -> StateError:
    return StateError(
        f"the journal in {directory} was emptied: nobody knows what to undo, and init may still wait",
        path=directory,
        code="state-io",
        hint="end init and remove its cgroup by hand, then this directory",
    )


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


def end_awaited(directory: str) -> None:
    """Kills what the holder of the lock of the state ``directory`` may wait for without an end: the hook that
    it runs, and an init that is held by a filter whose agent does not answer, or by a hook of its own.

    Takes no lock.  Raises StateError for a journal that cannot be read.
    """
    entries = journal.read(directory, lenient=True)
    _end_hook(entries)
    if entries.head.get("pids") != pid_namespace():
        return
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd < 0:
        return
    try:
        if not is_dead(pidfd):
            reaches(pidfd, _SIGKILL)
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
            reaches(pidfd, _SIGKILL)
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
