"""``ocirun kill``."""

from __future__ import annotations

from ocirun.cli.signames import SIGTERM, signal_number
from ocirun.cli.where import store_of
from ocirun.lifecycle.kill import kill
from ocirun.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Sends a signal to a container, SIGTERM unless another is named."""
    container, *rest = invocation.arguments
    signum = signal_number(rest[0]) if rest else SIGTERM
    drive(kill(store_of(invocation), container, signum, every=invocation.switch("all")))
    return 0
