"""Moves processes between cgroups, in cgroup2 and in the old hierarchies of a hybrid host (cgroups(7))."""

from __future__ import annotations

import os

from ocirun.errors import HostError
from ocirun.files import read_file, write_file

_ESCAPES = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


class Hierarchy:
    """One mount: ``controllers`` are those of an old hierarchy, its name too; None is cgroup2.

    ``root`` is the cgroup at the mount point.
    """

    __slots__ = ("controllers", "mount", "root")

    def __init__(self, line: bytes) -> None:
        head, _, tail = line.partition(b" - ")
        fields = head.split(b" ")
        kind, _, options = tail.split(b" ", 2)
        self.root, self.mount = _unescape(fields[3]), _unescape(fields[4])
        self.controllers = frozenset(options.split(b",")) if kind == b"cgroup" else None

    def serves(self, controllers: bytes) -> bool:
        """Whether this is the hierarchy of a line of /proc/PID/cgroup with this second field."""
        if self.controllers is None:
            return not controllers
        return bool(controllers) and self.controllers.issuperset(controllers.split(b","))

    def procs(self, cgroup: bytes) -> bytes:
        """The path of cgroup.procs of ``cgroup``, which must lie below what is mounted."""
        below = cgroup.removeprefix(self.root) if self.root != b"/" else cgroup
        return self.mount.rstrip(b"/") + b"/" + below.strip(b"/") + b"/cgroup.procs"


def _unescape(field: bytes) -> bytes:
    for code, character in _ESCAPES:
        field = field.replace(code, character)
    return field


def hierarchies() -> list[Hierarchy]:
    """All that are mounted in this namespace (proc_pid_mountinfo(5))."""
    lines = read_file("/proc/self/mountinfo").splitlines()
    return [Hierarchy(line) for line in lines if b" - cgroup " in line or b" - cgroup2 " in line]


def follow(pid: int, model: int) -> None:
    """Moves ``pid`` into the cgroups of ``model``; does nothing where it is in them.

    Raises OSError when the kernel refuses it in cgroup2; the old hierarchies are moved in as far as they let.
    """
    ours, theirs = read_file(f"/proc/{pid}/cgroup"), read_file(f"/proc/{model}/cgroup")
    if ours == theirs:
        return
    mounted = hierarchies()
    for line in set(theirs.splitlines()) - set(ours.splitlines()):
        _, controllers, cgroup = line.split(b":", 2)
        try:
            _write_first([one.procs(cgroup) for one in mounted if one.serves(controllers)], pid)
        except OSError:
            if not controllers:
                raise


def _write_first(paths: list[bytes], pid: int) -> None:
    """Writes to the first that is there, the newest mount first: it may hide an older one."""
    for path in reversed(paths):
        try:
            _write_pid(path, pid)
        except FileNotFoundError:
            continue
        return
    if paths:
        raise FileNotFoundError(os.fsdecode(paths[0]))


def place(pid: int, cgroup: str) -> None:
    """Moves ``pid`` into ``cgroup``, a path below each mount: the option shim_cgroup.

    Raises HostError where it exists in no hierarchy, or one that has it refuses.
    """
    found = 0
    for hierarchy in hierarchies():
        path = hierarchy.mount.rstrip(b"/") + b"/" + os.fsencode(cgroup.strip("/")) + b"/cgroup.procs"
        try:
            _write_pid(path, pid)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError(
                f"move the shim into the cgroup {cgroup}: {error.strerror}",
                path=os.fsdecode(path),
                errno=error.errno or 0,
            ) from error
        found += 1
    if not found:
        raise HostError(f"there is no cgroup {cgroup} for the shim", hint="make it first: it is shim_cgroup")


def _write_pid(path: bytes, pid: int) -> None:
    write_file(path, b"%d" % pid)
