"""Creates, starts and, in the foreground, accompanies a container to its end."""

from __future__ import annotations

import os

from ocirun.lifecycle.console import Proxy
from ocirun.lifecycle.create import create
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.process import is_dead, send_signal
from ocirun.lifecycle.start import start
from ocirun.lifecycle.undo import reap
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ocirun.lifecycle.create import Container, CreateOptions
    from ocirun.lifecycle.store import Store
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


def run(
    store: Store, container: str, options: CreateOptions, *, detach: bool, keep: bool, signals: Signals
) -> Task[int]:
    """Runs a container from a bundle and gives its exit status: the program's, or 128 + the signal it died
    of.

    With ``detach`` it returns 0 as soon as the program was executed.  Else all signals are passed on to the
    container, and it is deleted at its end unless ``keep``.  Raises as create and start do; a container whose
    start fails is deleted.
    """
    made = yield from create(store, container, options)
    proxy: Proxy | None = None
    try:
        if made.console >= 0:
            proxy = Proxy(made.console)
        yield from start(store, container)
        if detach:
            return 0
        signals.hand_over()
        status = yield from _accompany(made, proxy, signals)
    except BaseException as error:
        yield from _delete_failed(store, container, error)
        raise
    finally:
        if proxy is not None:
            proxy.close()
        os.close(made.pidfd)
    if not keep:
        yield from delete(store, container, force=True)
    return status


def _delete_failed(store: Store, container: str, error: BaseException) -> Task[None]:
    from ocirun.errors import OcirunError

    try:
        yield from delete(store, container, force=True)
    except OcirunError as trouble:
        error.add_note(f"while deleting: {trouble}")


def _accompany(made: Container, proxy: Proxy | None, signals: Signals) -> Task[int]:
    """Passes bytes and signals until init has ended, and reaps it."""
    while True:
        reads, writes = proxy.wants() if proxy else ((), ())
        ready = yield Wait(reads=(made.pidfd, signals.fd, *reads), writes=writes)
        if signals.fd in ready:
            _pass_on(made.pidfd, signals.take(), proxy)
        if made.pidfd in ready:
            if proxy is not None:
                proxy.drain()
            status = reap(made.pidfd)
            return 0 if status is None else status
        if proxy is not None:
            proxy.move(ready)


def _pass_on(pidfd: int, numbers: list[int], proxy: Proxy | None) -> None:
    for number in numbers:
        if number == _SIGWINCH and proxy is not None:
            proxy.resize()
        elif number not in (_SIGCHLD, _SIGURG) and not is_dead(pidfd):
            send_signal(pidfd, number)
