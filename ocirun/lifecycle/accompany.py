"""Staying with a process in the foreground: its terminal, the signals that come for it, its end."""

from __future__ import annotations

import posix as os
import time

from ocirun.errors import Fault, StateError
from ocirun.lifecycle.process import reaches
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ocirun.lifecycle.console import Proxy
    from ocirun.lifecycle.notify import Notifications
    from ocirun.waiting import Task

    class Signals(Protocol):
        """Signals sent to us, read from a descriptor instead of interrupting."""

        fd: int

        def hand_over(self) -> None:
            """From now on they are only read, and no longer end the command."""

        def take(self) -> list[int]:
            """The numbers of those that came since the last call."""
            ...


_SIGCHLD, _SIGURG, _SIGWINCH = 17, 23, 28
_PAUSE = 0.01


def accompany(
    pidfd: int,
    proxy: Proxy | None,
    signals: Signals,
    warn: Callable[[Fault], None],
    notifications: Notifications | None = None,
) -> Task[int]:
    """Passes bytes, signals and notifications until our child of ``pidfd`` has ended, and reaps it.

    ``warn`` is told of a signal that it may not be sent.  Gives its exit status as a shell does: the code, or
    128 + the signal it died of.
    """
    while True:
        reads, writes = proxy.wants() if proxy else ((), ())
        told, telling = notifications.wants() if notifications else ((), ())
        ready = yield Wait(reads=(pidfd, signals.fd, *reads, *told), writes=(*writes, *telling))
        if notifications is not None:
            notifications.move()
        if signals.fd in ready:
            _pass_on(pidfd, signals.take(), proxy, warn)
        if pidfd in ready:
            status = _status(pidfd)
            if status < 0:
                yield Wait(until=time.monotonic() + _PAUSE)
                continue
            if proxy is not None:
                proxy.drain()
            if notifications is not None:
                yield from notifications.finish()
            return status
        if proxy is not None:
            proxy.move(ready)


def _status(pidfd: int) -> int:
    """The exit status of our ended child, which is reaped.

    -1 while a tracer in the container has not yet taken notice of its end: until then it is not ours to reap
    (ptrace(2)).
    """
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:  # somebody ignores SIGCHLD for us: the kernel has reaped it
        return 0
    if ended is None:
        return -1
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _pass_on(pidfd: int, numbers: list[int], proxy: Proxy | None, warn: Callable[[Fault], None]) -> None:
    """One that is refused, as of a program that has become somebody else, ends nothing, as below runc."""
    for number in numbers:
        if number == _SIGWINCH and proxy is not None:
            proxy.resize()
        elif number not in (_SIGCHLD, _SIGURG):
            try:
                reaches(pidfd, number)
            except StateError as error:
                warn(Fault("/process/user", error.message, hint=error.hint))
