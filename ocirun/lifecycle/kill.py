"""Sends a signal to a container through a pidfd, so that no reused pid is ever hit."""

from __future__ import annotations

import posix as os

from ocirun import journal
from ocirun.cgroup.files import is_populated, signal_cgroup
from ocirun.lifecycle.process import not_running, open_pidfd, send_signal
from ocirun.lifecycle.state import STOPPED, state
from ocirun.lifecycle.store import unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task


def kill(store: Store, container: str, signum: int, every: bool) -> Task[None]:
    """Sends ``signum`` to init, or with ``every`` to each process of the container's cgroup.

    Takes no lock: a signal must get through while a slow start or delete holds it.
    Raises StateError "container not running" for a stopped one, but not with
    ``every``: that nobody is left is then as good, as with runc.
    """
    yield from ()
    if every:
        _kill_all(store, container, signum)
        return
    now = state(store, container)
    pidfd = open_pidfd(now.pid, now.start) if now.status != STOPPED else -1
    if pidfd < 0:
        raise not_running()
    try:
        send_signal(pidfd, signum)
    finally:
        os.close(pidfd)


def end_processes(store: Store, container: str) -> Task[None]:
    """Kills what is left in the cgroup of a container whose init has ended, and waits for its end.

    In a pid namespace of its own the kernel has done it; without one the others would live on
    (pid_namespaces(7)).  Raises StepError.
    """
    where = journal.read(store.directory(container)).cgroup
    if not where or not is_populated(where):
        return
    from ocirun.executor.run import Execution, Observer, execute
    from ocirun.plan import steps
    from ocirun.plan.compile import compile_plan
    from ocirun.plan.model import LIFECYCLE, Plan

    step = steps.kill_cgroup(path=where, pointer="", why=LIFECYCLE)
    yield from execute(compile_plan(Plan(container, [step])), {}, Observer(), Execution())


def _kill_all(store: Store, container: str, signum: int) -> None:
    directory = store.directory(container)
    try:
        os.stat(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise unknown(container) from None
    entries = journal.read(directory)
    if entries.cgroup:
        signal_cgroup(entries.cgroup, signum)
    elif entries.created:
        from ocirun.lifecycle.members import signal_members

        signal_members(entries, signum)
