"""An init that was never reported: its stage died after clone3 and before it could tell.

clone3 with CLONE_PARENT made it our child all the same, and nobody but us can reap it.  Waiting for any child
(P_ALL) would take the ones of others: so it is looked for among our children, by the cgroup it was born in.
"""

from __future__ import annotations

import posix as os

from ocirun.files import read_file
from ocirun.host import cgroup2_mounts


def unreported(mount: str, path: str) -> list[int]:
    """Pidfds of our children in the cgroup ``path`` of the cgroup2 at ``mount``; the caller closes them.

    A zombie still tells its cgroup (cgroups(7), /proc/PID/cgroup).  Where the kernel has no lists of children
    (CONFIG_PROC_CHILDREN) none is found.
    """
    root = cgroup2_mounts(read_file("/proc/self/mountinfo")).get(mount, "/")
    wanted = f"{root.rstrip('/')}{path}"
    found: list[int] = []
    for pid in _children():
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        if _cgroup(pid) == wanted:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def _children() -> list[int]:
    """The children of all our threads (proc_tid_children(5))."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            found += [int(pid) for pid in read_file(f"/proc/self/task/{thread}/children").split()]
        except OSError:
            continue
    return found


def _cgroup(pid: int) -> str:
    try:
        lines = read_file(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return ""
    for line in lines:
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return ""
