"""``ocirun validate``."""

from __future__ import annotations

from ocirun.cli.output import write
from ocirun.cli.where import bundle_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Prints every fault of the config.json of a bundle; gives 1 when there is one."""
    from ocirun.full import full_interpreter

    full_interpreter()  # jsonschema lies in site-packages, which the hot commands do without
    from ocirun.cli.validate import main_validate

    bundle = bundle_of(invocation)
    status, text = main_validate(bundle, invocation.text("format"))
    write(text)
    if status:
        reporter.log_error(f"{bundle}/config.json has faults", {"code": "config-invalid"})
    return status
