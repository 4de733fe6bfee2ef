"""``ocirun start``."""

from __future__ import annotations

import posix as os

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.lifecycle.start import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Starts the program of a created container."""
    store, container = store_of(invocation), invocation.arguments[0]
    if b"NOTIFY_SOCKET" in os.environ:
        from ocirun.lifecycle.notify import start_until_ready

        complete(start_until_ready(store, container))
    else:
        complete(start(store, container))
    return 0
