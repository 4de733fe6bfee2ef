"""Writes to the files of a cgroup: enables controllers and sets limits (cgroup-v2.rst)."""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, ERANGE, EROFS, errorcode

from ocirun.errors import DriverError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HINTS = {
    EACCES: "run as root, or in a cgroup that was delegated to you",
    EROFS: "the cgroup2 file system is mounted read-only here",
    ENOENT: "the controller is not enabled there, or this kernel has no such file",
    EINVAL: "the kernel does not take this value",
    ERANGE: "the value is outside of what the kernel takes",
    ENODEV: "there is no such device",
}


def set_cgroup(where: str, writes: Sequence[str], *, needed: bool, pointer: str) -> None:
    """Writes in the cgroup directory ``where``; ``writes`` are files and values in turn, and the first file
    that is there is written.

    Raises DriverError for a refusal of the kernel, unless not ``needed``; ``pointer`` is who asked for it.
    """
    for at in range(0, len(writes), 2):
        file, value = writes[at : at + 2]
        try:
            _write(f"{where}/{file}", value)
        except FileNotFoundError as error:
            if at + 2 < len(writes):
                continue
            refusal: OSError = error
        except OSError as error:
            refusal = error
        else:
            return
        if needed:
            raise _refused(refusal, f"{where}/{file}", value, pointer) from refusal
        return


def _write(path: str, value: str) -> None:
    """One write(2): the kernel takes a value whole."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.write(fd, value.encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def _refused(error: OSError, path: str, value: str, pointer: str) -> DriverError:
    number = error.errno or 0
    hint = _HINTS.get(number, "")
    if number == EBUSY and path.endswith("subtree_control"):
        hint = "processes live in that cgroup itself: give a cgroupsPath below one that has none"
    elif number == EBUSY:
        hint = "what is in use already is above the limit"
    return DriverError(
        f"write {value!r} to {path}: {errorcode.get(number, '?')}",
        operation="set_cgroup",
        errno=number,
        path=path,
        pointer=pointer,
        hint=hint,
    )
