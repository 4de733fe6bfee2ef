"""``ocirun mounts``."""

from __future__ import annotations

import sys

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.config import DEPTH, SIZE, load_bytes, parse
from ocirun.errors import ConfigError, Fault, UsageError
from ocirun.files import read_whole
from ocirun.lifecycle.mounting import add_mounts, remove_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter

_ACTIONS = {"add": add_mounts, "remove": remove_mounts}


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Adds the mounts that a file lists to a container, or takes them away."""
    action, container, name = invocation.arguments
    if action not in _ACTIONS:
        raise UsageError(f"mounts: {action!r} is neither add nor remove", hint="see ocirun mounts --help")
    wanted = _listed(name)

    def warn(fault: Fault) -> None:
        reporter.warn(fault, name)

    complete(_ACTIONS[action](store_of(invocation), container, wanted, name, warn))
    return 0


def _listed(name: str) -> list[object]:
    source = read_whole(sys.stdin.fileno(), SIZE) if name == "-" else load_bytes(name, bundled=False)
    value, sound = parse(source)
    if sound and isinstance(value, list):
        return [*value]
    if not sound:
        from ocirun.config.positions import scan

        if faults := scan(source.decode("utf-8", "replace"), DEPTH).faults:
            raise ConfigError(faults, name=name)
    rule = "must be a JSON array, like the mounts of a config.json"
    raise ConfigError([Fault("", rule, hint='such as [{"destination": "/mnt", "type": "tmpfs"}]')], name=name)
