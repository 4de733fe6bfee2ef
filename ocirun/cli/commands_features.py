"""``ocirun features``."""

from __future__ import annotations

from ocirun.cli.output import write
from ocirun.features import features
from ocirun.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(_invocation: Invocation, _reporter: Reporter) -> int:
    """Prints the Features structure."""
    write(dumps(features(), indent=2) + "\n")
    return 0
