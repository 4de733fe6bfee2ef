"""Writes to the files of a cgroup: enables controllers and sets limits (cgroup-v2.rst)."""

from __future__ import annotations

import posix as os
from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, ERANGE, EROFS

from ocirun.errors import DriverError, words_of
from ocirun.files import read_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The next file is meant: there is none of this name, or its scheduler does not serve that device.
_ANOTHER = (ENOENT, EOPNOTSUPP)
_HINTS = {
    EACCES: "run as root, or in a cgroup that was delegated to you",
    EROFS: "the cgroup2 file system is mounted read-only here",
    ENOENT: "the controller is not enabled there, or this kernel has no such file",
    EINVAL: "the kernel does not take this value",
    ERANGE: "the value is outside of what the kernel takes",
    ENODEV: "there is no such device",
    EOPNOTSUPP: "what serves this device does not know it: for weights, the scheduler bfq or io.cost.qos",
}


def set_cgroup(
    where: str,
    writes: Sequence[str],
    *,
    needed: bool,
    pointer: str,
    note: Callable[[str, str], None] | None = None,
) -> None:
    """Writes in the cgroup directory ``where``; ``writes`` are files and values in turn, and the first file
    that is there is written; ``note`` is told of each, the path and the value, before.

    Raises DriverError for a refusal of the kernel, unless not ``needed``; ``pointer`` is who asked for it.
    """
    for at in range(0, len(writes), 2):
        file, value = writes[at : at + 2]
        if note is not None:
            note(f"{where}/{file}", value)
        try:
            write(f"{where}/{file}", value)
        except OSError as error:
            if error.errno in _ANOTHER and at + 2 < len(writes):
                continue
            refusal = error
        else:
            return
        if needed:
            raise _refused(refusal, f"{where}/{file}", value, pointer) from refusal
        return


def write(path: str, value: str) -> None:
    """Gives a file of a cgroup its value in one call: the kernel takes it whole.  Raises OSError."""
    content = value.encode("utf-8", "surrogateescape") or b"\n"  # writing nothing is no write
    write_file(path, content, os.O_NOFOLLOW)


def _refused(error: OSError, path: str, value: str, pointer: str) -> DriverError:
    number = error.errno or 0
    hint = _HINTS.get(number, "")
    if number == EBUSY and path.endswith("subtree_control"):
        hint = "processes live in that cgroup itself: give a cgroupsPath below one that has none"
    elif number == EBUSY:
        hint = "what is in use already is above the limit"
    elif number == ENOENT and path.endswith("/memory.swap.max"):
        hint = "this kernel does not account for swap: leave the limit out, or make it that of memory"
    elif number == ENOENT:
        hint = _known_by_another_name(path) or hint
    elif number in (EINVAL, ERANGE):
        hint = _what_there_is(path) or hint
    return DriverError(
        f"write {value!r} to {path}: {words_of(number)}",
        operation="set_cgroup",
        errno=number,
        path=path,
        pointer=pointer,
        hint=hint,
    )


def _known_by_another_name(path: str) -> str:
    """The file that was perhaps meant, of those that are there."""
    from ocirun.nearest import nearest

    where, _, name = path.rpartition("/")
    try:
        meant = nearest(name, sorted(os.listdir(where)))
    except OSError:
        return ""
    return f"did you mean {meant}?" if meant else ""


def _what_there_is(path: str) -> str:
    """Which processors or memory nodes can be had there."""
    if path.rpartition("/")[2] not in ("cpuset.cpus", "cpuset.mems"):
        return ""
    try:
        there = read_file(f"{path}.effective").decode().strip()
    except OSError:
        return ""
    return f"here there are {there}" if there else ""
