"""Signals of the command line, by number and on the C module alone: signal would bring enum along.

A handler only writes its number into a pipe (the wakeup descriptor, see signal(7) on what a handler may do),
so that signals become something to wait for, like everything else the lifecycle waits for.
"""

from __future__ import annotations

import posix as os

from ocirun.errors import Interrupted
from ocirun.waiting import Wait, drive, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeAlias

    from ocirun.waiting import T, Task

    Action: TypeAlias = Callable[[int, FrameType | None], object] | int | None
else:
    import _signal

SIGHUP, SIGINT, SIGQUIT, SIGTERM = 1, 2, 3, 15
SIGTSTP, SIGWINCH = 20, 28

#: What ends a command that has nobody to hand the signal to.
ENDING = (SIGHUP, SIGINT, SIGQUIT, SIGTERM)

#: What ``run`` hands to the container.  Not the faults of our own (SEGV and the like), not SIGCHLD, not
#: SIGPIPE, which Python ignores, nor those that stop us because of our own terminal use (TTIN, TTOU) or
#: cannot be caught.
FORWARDED = (*ENDING, 10, 12, 14, 18, SIGTSTP, 26, 27, SIGWINCH, 29, 30, *range(34, 65))
#: How often in a row a signal waits for what has happened beside it.
_PATIENCE = 16


def end_on_interrupt() -> None:
    """Gives SIGINT its default action as long as nothing was made: no KeyboardInterrupt, the process just
    ends. One that was ignored (by nohup, by a shell for its background jobs) stays ignored."""
    if _signal.getsignal(SIGINT) is _signal.default_int_handler:
        _signal.signal(SIGINT, _signal.SIG_DFL)


class Inbox:
    """Catches ``signums`` from now until ``close``; ``fd`` is readable while one waits to be taken.

    As waiter of ocirun.waiting.drive it raises Interrupted into the task at the first signal of ENDING; the
    task undoes what it made, and later signals cannot keep it from that.  After ``hand_over`` it raises
    nothing any more: the task takes the signals itself.
    """

    __slots__ = ("_before", "_ends", "_kept", "_put_off", "_wakeup", "_writer", "fd")

    def __init__(self, signums: tuple[int, ...] = ENDING) -> None:
        self.fd, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = _signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._ends = True
        self._put_off = 0
        self._kept = b""
        self._before: dict[int, Action] = {}
        for signum in signums:
            before = _signal.getsignal(signum)
            if before != _signal.SIG_IGN:  # nohup(1) and shells set that for those they start: it stays
                self._before[signum] = before
                _signal.signal(signum, _arrived)

    def hand_over(self) -> None:
        """From now on signals are only taken; those that came before and did not end the command are kept."""
        self._ends = False
        os.write(self._writer, self._kept)
        self._kept = b""

    def take(self) -> list[int]:
        """The numbers of the signals that came since the last call."""
        try:
            return list(os.read(self.fd, 65536))
        except BlockingIOError:
            return []

    def waiter(self, what: Wait) -> tuple[int, ...]:
        """Waits like ocirun.waiting.wait; raises Interrupted at the first signal of ENDING.

        What has happened beside the signal is told first: a program that runs already is to get the signal,
        and its start is seen here before it can do anything.  Not for ever, though: something may always be
        happening.
        """
        while self._ends:
            ready = wait(Wait((*what.reads, self.fd), what.writes, what.until))
            others = tuple(fd for fd in ready if fd != self.fd)
            if self.fd not in ready:
                self._put_off = 0
                return others
            if others and self._put_off < _PATIENCE:
                self._put_off += 1
                return others
            self._look()
        return wait(what)

    def _look(self) -> None:
        for signum in self.take():
            if signum in ENDING:
                self._ends = False
                raise Interrupted(signum)
            self._kept += bytes((signum,))

    def close(self) -> None:
        """Lets the signals do again what they did before."""
        for signum, action in self._before.items():
            _signal.signal(signum, action)
        _signal.set_wakeup_fd(self._wakeup)
        os.close(self._writer)
        os.close(self.fd)


def complete(task: Task[T]) -> T:
    """Drives ``task`` to its end; a signal that ends the command raises Interrupted into it first.

    What arrives after the end is caught and changes nothing: a command that did its work must not look as if
    a signal had kept it from that.  So the inbox stays open until the process ends.
    """
    return drive(task, Inbox().waiter)


def _arrived(_signum: int, _frame: object) -> None:
    """Does nothing: its number is in the pipe already."""
