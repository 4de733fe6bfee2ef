"""Empties a cgroup that was delegated to us: its processes go to a new one below it.

A cgroup that has processes can give no controllers to those below (cgroup-v2.rst, No Internal Process
Constraint), and whoever got a cgroup delegated is in it himself.  This is what systemd asks of those who
manage cgroups (CGROUP_DELEGATION.md, "Delegation").
"""

from __future__ import annotations

import posix as os
from errno import ESRCH

from ocirun.errors import IN_A_SCOPE, DriverError, words_of
from ocirun.files import read_file, write_file

#: A process that is moved may have forked meanwhile: so many looks are taken.
_LOOKS = 100


def vacate(where: str, leaf: str, pointer: str) -> None:
    """Moves every process in the cgroup ``where`` to ``leaf`` below it.

    Raises DriverError, with ``pointer`` as who asked for it, when one cannot be moved.
    """
    target = f"{where}/{leaf}"
    _pids(where, pointer)
    try:
        os.mkdir(target, 0o755)
    except FileExistsError:
        pass
    except OSError as error:
        raise _refused(error, target, pointer) from error
    for _ in range(_LOOKS):
        pids = _pids(where, pointer)
        if not pids:
            return
        for pid in pids:
            _move(pid, target, pointer)
    raise DriverError(
        f"the cgroup {where} does not become empty", path=where, pointer=pointer,
        hint="something in it forks without end",
    )  # fmt: skip


def _pids(where: str, pointer: str) -> list[bytes]:
    """Who is in it; the kernel shows whom our pid namespace does not have as 0, and who writes 0 moves
    himself."""
    pids = read_file(f"{where}/cgroup.procs").split()
    if b"0" in pids:
        raise DriverError(
            f"a process of another pid namespace is in the cgroup {where}: it cannot be moved from here",
            operation="vacate_cgroup",
            path=where,
            pointer=pointer,
            hint=f"run ocirun in a cgroup of its own: {IN_A_SCOPE}",
        )
    return pids


def _move(pid: bytes, target: str, pointer: str) -> None:
    try:
        write_file(f"{target}/cgroup.procs", pid)
    except OSError as error:
        if error.errno != ESRCH:  # it has ended
            raise _refused(error, target, pointer) from error


def _refused(error: OSError, target: str, pointer: str) -> DriverError:
    return DriverError(
        f"move the processes of the caller to {target}: {words_of(error.errno or 0)}",
        operation="vacate_cgroup",
        errno=error.errno or 0,
        path=target,
        pointer=pointer,
        hint=f"limits take a cgroup of yours with processes that you may move: {IN_A_SCOPE}",
    )
