"""Creates, starts and, in the foreground, accompanies a container to its end."""

from __future__ import annotations

import posix as os

from ocirun.lifecycle.accompany import accompany
from ocirun.lifecycle.console import Proxy
from ocirun.lifecycle.create import create
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.start import start
from ocirun.lifecycle.undo import despite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.lifecycle.accompany import Signals
    from ocirun.lifecycle.create import CreateOptions
    from ocirun.lifecycle.notify import Notifications
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task


#: 128 and SIGKILL, by which the kernel ends who takes more memory than there is.
_KILLED = 137


def _tell_of_memory(store: Store, container: str, options: CreateOptions) -> None:
    """Warns where the program was killed because its limit was reached."""
    from ocirun import journal
    from ocirun.lifecycle.memory import fault_of_kill

    fault = fault_of_kill(journal.read(store.directory(container)).counting)
    if fault is not None:
        options.warn(fault)


def run(
    store: Store, container: str, options: CreateOptions, *, detach: bool, keep: bool, signals: Signals
) -> Task[int]:
    """Runs a container from a bundle and gives its exit status: the program's, or 128 + the signal it died
    of.

    With ``detach`` it returns 0 as soon as the program was executed.  Else all signals are passed on to the
    container, and it is deleted at its end unless ``keep``.  Raises as create and start do; a container whose
    start fails is deleted.
    """
    options.starting = True
    made = yield from create(store, container, options)
    proxy: Proxy | None = None
    notifications: Notifications | None = None
    try:
        if made.console >= 0:
            proxy = Proxy(made.console)
        if options.notify:
            from ocirun.lifecycle.notify import listen

            notifications = listen(store.directory(container), options.notify)
        yield from start(store, container)
        if detach:
            if notifications is not None:
                yield from notifications.until_ready(made.pidfd, made.pid)
            return 0
        signals.hand_over()
        status = yield from accompany(made.pidfd, proxy, signals, options.warn, notifications)
        if status == _KILLED:
            _tell_of_memory(store, container, options)
    except BaseException as error:
        yield from despite(error, "deleting", _delete(store, container, options))
        raise
    finally:
        if proxy is not None:
            proxy.close()
        if notifications is not None:
            notifications.close()
        os.close(made.pidfd)
    if not keep:
        yield from _delete(store, container, options)
    return status


def _delete(store: Store, container: str, options: CreateOptions) -> Task[None]:
    return delete(store, container, force=True, warn=options.warn, at_once=True)
