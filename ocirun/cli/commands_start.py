"""``ocirun start``."""

from __future__ import annotations

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.lifecycle.start import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Starts the program of a created container."""
    complete(start(store_of(invocation), invocation.arguments[0]))
    return 0
