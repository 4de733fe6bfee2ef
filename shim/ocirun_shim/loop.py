"""The one epoll loop of a shim: descriptors, timers, and the generators of the lifecycle (epoll(7)).

Everything of a shim runs here, in one thread.  A callback or a step of a generator must not sleep: what can
sleep in the kernel is done by the helper or another child.  What one of them raises is logged and hurts
nobody else.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time

from ocirun_shim import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ocirun.waiting import Task, Wait

    T = TypeVar("T")

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT


class Watch:
    """A callback on a descriptor; ``close`` it before the descriptor is closed."""

    __slots__ = ("_loop", "callback", "fd", "mask", "since")

    def __init__(self, loop: Loop, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        self._loop = loop
        self.fd = fd
        self.mask = mask
        self.callback = callback
        #: The batch of events that it was made in: those may be of another descriptor with that number.
        self.since = loop.batch

    def change(self, mask: int) -> None:
        """Waits for other events from now on; 0 waits for none, and not for EPOLLHUP either."""
        if mask != self.mask:
            self.mask = mask
            self._loop.refresh(self.fd)

    def close(self) -> None:
        """Waits for nothing any more; may be repeated."""
        self._loop.forget(self)


class Timer:
    """A callback at a time; ``cancel`` may come at any time and be repeated."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """The callback does not come any more."""
        self.callback = None


class Loop:
    """Runs callbacks and tasks until ``stop``; ``clock`` gives CLOCK_MONOTONIC in seconds."""

    __slots__ = (
        "_clock", "_epoll", "_order", "_stopped", "_timers", "_watches", "batch", "jobs", "turns",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Timer]] = []
        self._watches: dict[int, list[Watch]] = {}
        self._stopped = False
        #: How many tasks are on their way, and how often a descriptor had something to tell.
        self.jobs = 0
        self.turns = 0
        #: How often epoll was asked.
        self.batch = 0

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> Watch:
        """Calls ``callback`` with the events whenever one of ``mask`` is there (level-triggered).

        Several watches may share a descriptor.  Raises PermissionError for a regular file (epoll_ctl(2)).
        """
        watch = Watch(self, fd, mask, callback)
        self._watches.setdefault(fd, []).append(watch)
        try:
            self.refresh(fd, new=len(self._watches[fd]) == 1)
        except OSError:
            self._drop(watch)
            raise
        return watch

    def refresh(self, fd: int, *, new: bool = False) -> None:
        """Tells the kernel what the watches of ``fd`` want together.

        A descriptor of which nobody wants anything is taken out: EPOLLHUP and EPOLLERR cannot be masked.
        """
        watches = self._watches.get(fd, ())
        mask = 0
        for watch in watches:
            mask |= watch.mask
        if new:
            if mask:
                self._epoll.register(fd, mask)
            return
        try:
            if mask:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.unregister(fd)
        except FileNotFoundError:
            if mask:
                self._epoll.register(fd, mask)

    def forget(self, watch: Watch) -> None:
        """The end of a watch."""
        if self._drop(watch):
            try:
                self.refresh(watch.fd)
            except OSError as error:  # it was closed first, and is out of the epoll set by that
                log.debug(f"descriptor {watch.fd} was closed while it was watched: {error}")

    def _drop(self, watch: Watch) -> bool:
        watches = self._watches.get(watch.fd, [])
        if watch not in watches:
            return False
        watches.remove(watch)
        if not watches:
            del self._watches[watch.fd]
        return True

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Calls ``callback`` once, at ``when``, or as soon as possible after it."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def spawn(self, task: Task[T], done: Callable[[T | None, BaseException | None], None]) -> Job:
        """Runs ``task`` as far as it comes now, goes on when what it waits for is there, and tells ``done``
        its value or what it raised."""
        job = Job(self, task, done)
        self.jobs += 1
        job.begin()
        return job

    def now(self) -> float:
        """The clock of this loop."""
        return self._clock()

    def stop(self) -> None:
        """``run`` returns when the callback that is running has returned."""
        self._stopped = True

    def run(self) -> None:
        """Runs until ``stop``."""
        self._stopped = False
        while self._goes_on():
            self.batch += 1
            for fd, events in self._epoll.poll(self._patience()):
                if self._goes_on():
                    self._deliver(fd, events)
            self._ring()

    def _goes_on(self) -> bool:
        return not self._stopped

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        # epoll counts milliseconds: a little late is right, a little early would spin
        return max(0.0, self._timers[0][0] - self._clock() + 0.0005)

    def _deliver(self, fd: int, events: int) -> None:
        self.turns += 1
        for watch in tuple(self._watches.get(fd, ())):
            # one of those before it may have ended it; hang-ups and errors concern everybody who waits
            wanted = watch.mask and events & (watch.mask | select.EPOLLHUP | select.EPOLLERR)
            if wanted and watch.since != self.batch and watch in self._watches.get(fd, ()):
                _guard(watch.callback, events)

    def _ring(self) -> None:
        now = self._clock()
        while self._goes_on() and self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                _guard(callback)

    def fileno(self) -> int:
        """The epoll descriptor: ready when somebody who watches has something to hear (epoll(7))."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Closes the epoll descriptor."""
        self._epoll.close()


def _guard(callback: Callable[..., None], *arguments: object) -> None:
    """A fault in what belongs to one container must not end the shim of a whole pod."""
    try:
        callback(*arguments)
    except Exception as error:  # noqa: BLE001 - it is logged with its traceback, and the loop goes on
        log.exception("a callback failed", error)


class Job:
    """A generator on its way, waiting for the first of several things."""

    __slots__ = ("_done", "_loop", "_task", "_timer", "_watches", "over")

    def __init__(
        self, loop: Loop, task: Task[T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._loop = loop
        self._task = task
        self._done: Callable[..., None] = done
        #: Whether it has ended.
        self.over = False
        self._watches: list[Watch] = []
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Runs the task until it waits for the first time, or ends."""
        self._step(lambda: next(self._task))

    def cancel(self, error: BaseException) -> None:
        """Throws ``error`` into a task that waits: it undoes what it made, and ``done`` is told what it
        raises then.  A task that has ended is not disturbed."""
        if not self.over:
            self._clear()
            self._step(lambda: self._task.throw(error))

    def _go_on(self, ready: tuple[int, ...]) -> None:
        self._clear()
        self._step(lambda: self._task.send(ready))

    def _step(self, resume: Callable[[], Wait]) -> None:
        try:
            what = resume()
        except StopIteration as end:
            self._end(end.value, None)
        except BaseException as error:  # noqa: BLE001 - whoever spawned it is told
            self._end(None, error)
        else:
            self._wait(what)

    def _end(self, value: object, error: BaseException | None) -> None:
        self.over = True
        self._loop.jobs -= 1
        self._done(value, error)

    def _wait(self, what: Wait) -> None:
        try:
            for fd in {*what.reads, *what.writes}:
                mask = (_READ if fd in what.reads else 0) | (_WRITE if fd in what.writes else 0)
                self._watches.append(self._loop.watch(fd, mask, self._ready(fd)))
        except OSError as error:  # what cannot be waited for is the task's own trouble: it undoes
            self._clear()
            reason = error  # `error` is unbound when the lambda runs
            self._step(lambda: self._task.throw(reason))
            return
        if what.until is not None:
            self._timer = self._loop.call_at(what.until, lambda: self._go_on(()))

    def _ready(self, fd: int) -> Callable[[int], None]:
        return lambda _events: self._go_on((fd,))

    def _clear(self) -> None:
        for watch in self._watches:
            watch.close()
        self._watches = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
