"""Creates, starts and, in the foreground, accompanies a container to its end."""

from __future__ import annotations

import os

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
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task


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
        status = yield from accompany(made.pidfd, proxy, signals)
    except BaseException as error:
        yield from despite(error, "deleting", delete(store, container, force=True, warn=options.warn))
        raise
    finally:
        if proxy is not None:
            proxy.close()
        os.close(made.pidfd)
    if not keep:
        yield from delete(store, container, force=True, warn=options.warn)
    return status
