"""The cgroup files driver: makes the directory a container is born in (cgroups.7, cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os

from ocirun.errors import DriverError


def make_cgroup(mount: str, path: str) -> None:
    """Makes the cgroup ``path`` below the cgroup2 ``mount``, with those above it.

    An existing one may be used when no process is in it.  Another container's delete may remove an empty
    parent in between, hence the second try.  Raises DriverError.
    """
    where = mount + path
    for attempt in (1, 2, 3):
        try:
            os.makedirs(where, 0o755, exist_ok=True)
            break
        except FileNotFoundError as error:
            if attempt == 3:
                raise _refused(error, where) from error
        except OSError as error:
            raise _refused(error, where) from error
    _check_empty(where)


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
