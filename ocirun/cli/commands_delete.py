"""``ocirun delete``."""

from __future__ import annotations

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.lifecycle.delete import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Removes a container."""
    force = invocation.switch("force")
    store = store_of(invocation)
    complete(delete(store, invocation.arguments[0], force=force, warn=reporter.warn, at_once=True))
    return 0
