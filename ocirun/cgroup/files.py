"""The cgroup files driver: makes the directory a container is born in (cgroups.7, cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os

from ocirun.errors import DriverError


def make_cgroup(mount: str, path: str) -> int:
    """Makes the cgroup ``path`` below the cgroup2 ``mount``, with those above it.

    Gives how many directories it made, from the last one up: 0 for a cgroup that was there, which may be used
    when no process is in it.  Raises DriverError, and has then made nothing.
    """
    where = mount + path
    made: list[str] = []
    try:
        _make(where, made)
    except OSError as error:
        for directory in reversed(made):
            os.rmdir(directory)
        raise _refused(error, where) from error
    if not made:
        _check_empty(where)
    return len(made)


def _make(where: str, made: list[str], tries: int = 3) -> None:
    """Makes a directory and those above it, and notes what it made, the last one last."""
    try:
        os.mkdir(where, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        if not tries:
            raise
        # missing, or another container's delete has just removed an empty parent: it is made again
        _make(os.path.dirname(where), made)
        _make(where, made, tries - 1)
        return
    made.append(where)


def remove_if_empty(where: str, parents: int) -> None:
    """Removes a cgroup with no process of ours and ``parents`` above it, as far as they are empty."""
    for _ in range(parents + 1):
        try:
            os.rmdir(where)
        except OSError:
            return
        where = os.path.dirname(where)


def _check_empty(where: str) -> None:
    try:
        fd = os.open(f"{where}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error, where) from error
    try:
        busy = os.read(fd, 64)
    finally:
        os.close(fd)
    if busy:
        raise DriverError(
            f"the cgroup {where} has processes already",
            path=where,
            pointer="/linux/cgroupsPath",
            hint="two containers cannot share a cgroup: give each a cgroupsPath of its own",
        )


def _refused(error: OSError, where: str) -> DriverError:
    hints = {
        errno.EACCES: "run as root, or in a cgroup that was delegated to you",
        errno.EROFS: "the cgroup2 file system is mounted read-only here",
        errno.EAGAIN: "cgroup.max.descendants or cgroup.max.depth of a parent is reached",
    }
    name = errno.errorcode.get(error.errno or 0, "?")
    return DriverError(
        f"make cgroup {where}: {name}",
        operation="make_cgroup",
        errno=error.errno or 0,
        path=where,
        pointer="/linux/cgroupsPath",
        hint=hints.get(error.errno or 0, ""),
    )
