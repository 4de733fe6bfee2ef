"""What a generator of the lifecycle waits for, and the loop of the command line that waits for it.

Lifecycle, executor and hooks are generators: they yield a Wait and are resumed with the descriptors that
became ready, () when the deadline passed.  They never block, so that the shim can run many of them in one
thread; the command line drives one at a time with poll(2), a test with a clock of its own.

Who wants to end a task before its time throws an exception into it and drives it on until it leaves: on the
way it waits for what it undoes.  A task is not closed: after GeneratorExit it may wait for nothing, so it
lets go of its descriptors and leaves the rest to ``delete --force``.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias, TypeVar

    T = TypeVar("T")
    #: A job that yields what it waits for, is sent the ready descriptors, and ends with a value of type T.
    Task: TypeAlias = Generator["Wait", tuple[int, ...], T]


#: Seconds between two looks at who may never answer: at an init in one call for so long, its agent is mute.
LOOKING = 15.0


class Wait:
    """What to wait for: one of ``reads`` readable (a pidfd: the process ended) or one of ``writes`` writable.

    ``until`` is when to give up, in seconds of CLOCK_MONOTONIC; None waits for ever.
    """

    __slots__ = ("reads", "until", "writes")

    def __init__(
        self, reads: tuple[int, ...] = (), writes: tuple[int, ...] = (), until: float | None = None
    ) -> None:
        self.reads = reads
        self.writes = writes
        self.until = until


def wait(what: Wait, clock: Callable[[], float] = time.monotonic) -> tuple[int, ...]:
    """Blocks until ``what`` is ready and gives the ready descriptors, () at the deadline (poll(2))."""
    poll = select.poll()
    for fd in what.reads:
        poll.register(fd, select.POLLIN)
    for fd in what.writes:
        poll.register(fd, select.POLLOUT | (select.POLLIN if fd in what.reads else 0))
    while True:
        left = None if what.until is None else max(0.0, what.until - clock()) * 1000
        ready = tuple(fd for fd, _ in poll.poll(left))
        if ready or (what.until is not None and clock() >= what.until):
            return ready


def drive(task: Task[T], waiter: Callable[[Wait], tuple[int, ...]] = wait) -> T:
    """Runs ``task`` to its end, waiting with ``waiter``.

    An exception of the waiter is thrown into the task, so that it undoes what it made before it leaves here.
    """
    try:
        what = next(task)
        while True:
            try:
                ready = waiter(what)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the task undoes first
                what = task.throw(error)
            else:
                what = task.send(ready)
    except StopIteration as end:
        value: T = end.value
        return value
