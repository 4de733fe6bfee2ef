"""Where containers and bundles lie, from the flags and the environment."""

from __future__ import annotations

import os

from ocirun.errors import UsageError
from ocirun.lifecycle.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation


def store_of(invocation: Invocation) -> Store:
    """The store that ``--root`` names; raises UsageError for an empty one, which a script did not mean."""
    root = invocation.text("root")
    if not root:
        raise UsageError("--root is empty", hint="leave it out, or name a directory")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not invocation.given("root") and os.geteuid() != 0 and runtime:
        root = f"{runtime}/ocirun"
    return Store(root)


def bundle_of(invocation: Invocation) -> str:
    """The absolute path of the bundle; "" is the current directory, as with runc."""
    return os.path.abspath(invocation.text("bundle"))
