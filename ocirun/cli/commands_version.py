"""``ocirun --version``: in the lines that engines parse."""

from __future__ import annotations

from ocirun import SPEC_VERSION, __version__
from ocirun.cli.output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(_invocation: Invocation, _reporter: Reporter) -> int:
    """Prints the versions."""
    write(f"ocirun version {__version__}\nspec: {SPEC_VERSION}\n")
    return 0
