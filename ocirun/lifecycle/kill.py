"""Sends a signal to a container through a pidfd, so that no reused pid is ever hit."""

from __future__ import annotations

import os

from ocirun import journal
from ocirun.lifecycle.process import not_running, open_pidfd, send_signal
from ocirun.lifecycle.state import STOPPED, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task


def kill(store: Store, container: str, signum: int, every: bool) -> Task[None]:
    """Sends ``signum`` to init, or with ``every`` to each process of the container's cgroup.

    Takes no lock: a signal must get through while a slow start or delete holds it.
    Raises StateError "container not running" for a stopped one.
    """
    yield from ()
    now = state(store, container)
    if every:
        _kill_all(store.directory(container), signum)
        return
    pidfd = open_pidfd(now.pid, now.start) if now.status != STOPPED else -1
    if pidfd < 0:
        raise not_running()
    try:
        send_signal(pidfd, signum)
    finally:
        os.close(pidfd)


def _kill_all(directory: str, signum: int) -> None:
    for trace in journal.read(directory).traces:
        if trace.undo == "remove_cgroup":
            _kill_cgroup(f"{trace.args[0]!s}{trace.args[1]!s}", signum)


def _kill_cgroup(path: str, signum: int) -> None:
    try:
        fd = os.open(f"{path}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        pids = [int(pid) for pid in os.read(fd, 1 << 20).split()]
    finally:
        os.close(fd)
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue
