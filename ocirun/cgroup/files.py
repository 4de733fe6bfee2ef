"""The cgroup files driver: makes the directory a container is born in (cgroups.7, cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os

from ocirun.errors import DriverError
from ocirun.files import read_file

_SIGKILL = 9


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


def signal_cgroup(where: str, signum: int) -> None:
    """Sends a signal to each process of a cgroup and of those below it; one that is gone has nobody.

    SIGKILL goes by cgroup.kill, which no fork escapes.  Raises DriverError for processes that this pid
    namespace cannot name: cgroup.procs has 0 for them, and kill(2) would take that for our own group.
    """
    try:
        if signum == _SIGKILL:
            _write(f"{where}/cgroup.kill", b"1")
            return
        for directory, _, _ in os.walk(where):
            for pid in read_file(f"{directory}/cgroup.procs").split():
                _signal_one(int(pid), signum, directory)
    except FileNotFoundError:
        return


def is_populated(where: str) -> bool:
    """Whether a process lives in a cgroup or below it; zombies do not count (cgroup.events)."""
    try:
        return b"populated 1" in read_file(f"{where}/cgroup.events")
    except FileNotFoundError:
        return False


def is_frozen(where: str) -> bool:
    """Whether the processes of a cgroup are stopped for now (cgroup.events); False where it is gone."""
    try:
        return b"frozen 1" in read_file(f"{where}/cgroup.events")
    except OSError:
        return False


def set_frozen(where: str, *, frozen: bool) -> None:
    """Asks for the processes of a cgroup to be stopped, or to go on (cgroup.freeze); raises OSError."""
    _write(f"{where}/cgroup.freeze", b"1" if frozen else b"0")


def processes(where: str) -> list[int]:
    """The pids in a cgroup and in those below it, sorted; none where it is gone."""
    found: set[int] = set()
    for directory, _, _ in os.walk(where):
        try:
            found.update(int(pid) for pid in read_file(f"{directory}/cgroup.procs").split())
        except FileNotFoundError:
            continue
    return sorted(found)


def _signal_one(pid: int, signum: int, where: str) -> None:
    if pid <= 0:
        raise DriverError(
            f"the cgroup {where} has a process of another pid namespace",
            path=where,
            hint="send the signal from the pid namespace in which the container was created",
        )
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def _check_empty(where: str) -> None:
    """Nobody may be in it nor in any below it: our delete kills them all (cgroup.events, cgroup-v2.rst)."""
    try:
        events = read_file(f"{where}/cgroup.events")
    except OSError as error:
        raise _refused(error, where) from error
    if b"populated 0\n" not in events:
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
