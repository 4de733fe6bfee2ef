"""``ocirun state``."""

from __future__ import annotations

from ocirun.cli.output import write
from ocirun.cli.where import store_of
from ocirun.jsontext import dumps
from ocirun.lifecycle.state import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Prints the state of a container as the specification writes it, with the members that runc adds."""
    write(dumps(state(store_of(invocation), invocation.arguments[0]).as_dict(), indent=2) + "\n")
    return 0
