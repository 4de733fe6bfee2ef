"""Where containers and bundles lie, and who makes the cgroup, from the flags and the environment."""

from __future__ import annotations

import posix as os

from ocirun import paths
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
    if not invocation.given("root") and os.geteuid() != 0:
        from os import environ

        runtime = environ.get("XDG_RUNTIME_DIR", "")
        root = f"{runtime}/ocirun" if runtime else root
    return Store(root)


def bundle_of(invocation: Invocation) -> str:
    """The absolute path of the bundle; "" is the current directory, as with runc."""
    return paths.absolute(invocation.text("bundle"))


def manager_of(invocation: Invocation) -> str:
    """Who is to make the cgroup, a value of --cgroup-manager; raises UsageError for flags that contradict one
    another."""
    asked = invocation.text("cgroup-manager")
    if not invocation.switch("systemd-cgroup"):
        return asked
    if asked != "systemd" and invocation.given("cgroup-manager"):
        raise UsageError(f"--systemd-cgroup beside --cgroup-manager {asked}", hint="leave one of them out")
    return "systemd"
