"""``ocirun pause``."""

from __future__ import annotations

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.lifecycle.pause import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Pauses a container."""
    complete(pause(store_of(invocation), invocation.arguments[0]))
    return 0
