"""A private view of the host, in which cgroup2 stands where runtimes expect it.

On a hybrid host cgroup2 is mounted beside the old hierarchies; the peers refuse that or use the old ones.
A mount namespace of our own with cgroup2 bound over /sys/fs/cgroup looks like any modern host to them.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import kernel, observe

if TYPE_CHECKING:
    from collections.abc import Generator

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class View:
    """Where cgroup2 is, and a descriptor of the host's own mount namespace."""

    cgroup2: Path
    host: int


def find_cgroup2() -> Path | None:
    """The first mount of cgroup2 in our namespace."""
    return next((Path(mount.point) for mount in observe.mounts() if mount.kind == "cgroup2"), None)


@contextlib.contextmanager
def private_view() -> Generator[View]:
    """Moves this thread into a private mount namespace, and back afterwards."""
    host = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWNS)
    try:
        # private, not slave: what others mount on the host meanwhile must not look like our leftovers
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        yield View(_show_cgroup2(), host)
    finally:
        # a thread that shares its file system attributes may not change its mount namespace (setns(2))
        kernel.unshare(kernel.CLONE_FS)
        kernel.setns(host, kernel.CLONE_NEWNS)
        os.close(host)


def _show_cgroup2() -> Path:
    found = find_cgroup2()
    if found is None:
        kernel.mount("cgroup2", CGROUP, "cgroup2")
    elif found != CGROUP:
        kernel.mount(str(found), CGROUP, flags=kernel.MS_BIND)
    return CGROUP
