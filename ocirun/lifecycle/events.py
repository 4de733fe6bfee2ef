"""What happens to a container, told while it lives: numbers at an interval, and who was killed for want of
memory (cgroup-v2.rst, memory.events)."""

from __future__ import annotations

import os
import select
import time

from ocirun.cgroup.runc_stats import runc_stats
from ocirun.cgroup.stats import Stats
from ocirun.errors import StateError
from ocirun.lifecycle.frozen import frozen
from ocirun.lifecycle.process import is_dead, not_running, open_pidfd
from ocirun.lifecycle.state import CREATED, PAUSED, RUNNING, State, entries_of
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.cgroup.resctrl import Wanted
    from ocirun.journal import Journal
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task

    Tell = Callable[[dict[str, object]], None]


def stats_event(store: Store, container: str) -> dict[str, object]:
    """The event with the numbers of now; raises StateError for a container that has stopped."""
    entries = _living(store, container)
    return _numbers(container, Stats(entries.cgroup), _service(store, container, entries))


def follow(store: Store, container: str, interval: float, tell: Tell) -> Task[None]:
    """Calls ``tell`` with each event of ``container`` until its end: numbers every ``interval`` seconds, the
    first after one, and each kill for want of memory when it happens.

    Raises StateError for a container that has stopped already.
    """
    entries = _living(store, container)
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd < 0:
        raise not_running()
    watch = _Kills(entries.cgroup)
    try:
        service = _service(store, container, entries)

        def numbers() -> dict[str, object]:
            return _numbers(container, Stats(entries.cgroup), service)

        yield from _tell_all(container, numbers, interval, tell, watch, pidfd)
    finally:
        watch.close()
        os.close(pidfd)


def _tell_all(
    container: str,
    numbers: Callable[[], dict[str, object]],
    interval: float,
    tell: Tell,
    watch: _Kills,
    pidfd: int,
) -> Task[None]:
    due = time.monotonic() + interval
    while True:
        yield Wait(reads=(pidfd, *watch.fds), until=due)
        ended = is_dead(pidfd)  # looked at first: the kernel counts before it tells of an end
        if watch.look():
            tell({"type": "oom", "id": container})
        if ended:
            return
        if time.monotonic() >= due:
            tell(numbers())
            due = max(due + interval, time.monotonic())


def _living(store: Store, container: str) -> Journal:
    entries = entries_of(store, container)
    if State(container, entries).status not in (CREATED, RUNNING, PAUSED):
        raise not_running()
    if not entries.cgroup:
        from ocirun.lifecycle.members import without_cgroup

        raise without_cgroup("count")
    return entries


def _service(store: Store, container: str, entries: Journal) -> Wanted | None:
    """The class of Intel RDT; few containers load the module for one."""
    config = frozen(store.directory(container), entries)
    if "intelRdt" not in config.get("linux", {}):
        return None
    from ocirun.lifecycle.resctrl_steps import service

    return service(config, container)


def _numbers(container: str, stats: Stats, service: Wanted | None) -> dict[str, object]:
    if not stats.exists():
        raise StateError("container not running", hint="its cgroup is gone")
    return {"type": "stats", "id": container, "data": runc_stats(stats, service)}


class _Kills:
    """Counts what the kernel killed in a cgroup; ``fds`` are readable when there is something to look at,
    () where nobody counts.

    The kernel tells of a change by EPOLLPRI alone, and an epoll is readable when something is told of: also
    of a file that nobody has read yet (kernfs_generic_poll), so that a kill after the first count is told.
    """

    __slots__ = ("_epoll", "_events", "_stats", "_told")

    def __init__(self, cgroup: str) -> None:
        self._stats = Stats(cgroup)
        self._told = self._killed()
        self._epoll = select.epoll()
        self._events = -1
        try:
            self._events = os.open(f"{cgroup}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            self._epoll.register(self._events, select.EPOLLPRI)
        except OSError:  # no memory controller
            self._epoll.close()

    @property
    def fds(self) -> tuple[int, ...]:
        return () if self._epoll.closed else (self._epoll.fileno(),)

    def look(self) -> bool:
        """Whether more have been killed since the last look."""
        count = self._count()
        more, self._told = count > self._told, max(count, self._told)
        return more

    def _count(self) -> int:
        """Reads the watched descriptor, which makes it wait for the next change."""
        if self._events < 0:
            return 0
        try:
            os.pread(self._events, 1, 0)
        except OSError:  # the cgroup was removed, of which epoll would tell for ever
            self._epoll.close()
        return self._killed()

    def _killed(self) -> int:
        return self._stats.keyed("memory.events").get("oom_kill", 0)

    def close(self) -> None:
        """Lets go of the descriptors."""
        self._epoll.close()
        if self._events >= 0:
            os.close(self._events)
            self._events = -1
