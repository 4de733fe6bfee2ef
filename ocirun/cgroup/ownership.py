"""Gives a cgroup to a user, as far as the kernel says that is safe (cgroup-v2.rst, Model of Delegation)."""

from __future__ import annotations

import posix as os

from ocirun.errors import DriverError, words_of
from ocirun.files import read_file

_DELEGATE = "/sys/kernel/cgroup/delegate"
#: Where the kernel, before 4.15, has no such list (config-linux.md, Cgroup ownership).
_FALLBACK = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def give(where: str, owner: int, group: int) -> None:
    """Makes user ``owner`` the owner of the cgroup directory ``where`` and of the files in it that are to be
    delegated, and ``group`` their group unless -1; those that are not there need not be.  Raises
    DriverError."""
    names = ("", *delegated())
    for name in names:
        try:
            os.chown(f"{where}/{name}", owner, group, follow_symlinks=False)
        except FileNotFoundError:
            if name:
                continue
            raise
        except OSError as error:
            raise DriverError(
                f"give {where}/{name} to the user {owner}: {words_of(error.errno or 0)}",
                operation="own_cgroup",
                errno=error.errno or 0,
                path=f"{where}/{name}",
                hint="mount the cgroup read-only, or run as root",
            ) from error


def delegated(told: str = _DELEGATE) -> tuple[str, ...]:
    """The names of the files that their cgroup's owner may have."""
    try:
        return tuple(read_file(told).decode().split())
    except OSError:
        return _FALLBACK
