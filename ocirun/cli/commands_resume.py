"""``ocirun resume``."""

from __future__ import annotations

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.lifecycle.pause import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Resumes a container."""
    complete(resume(store_of(invocation), invocation.arguments[0]))
    return 0
