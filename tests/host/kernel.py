"""The few system calls that Python 3.11 does not have, for the tests alone."""

from __future__ import annotations

import ctypes
import os
import struct
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_STRICTATIME = 0x1000000

MNT_DETACH = 2

CGROUP2_SUPER_MAGIC = 0x63677270

#: Numbers of system calls that the C library has no functions for (asm/unistd.h).
_SYSCALLS = {
    "x86_64": {"ioprio_get": 252, "sched_getattr": 315},
    "aarch64": {"ioprio_get": 31, "sched_getattr": 275},
}[os.uname().machine]

_libc = ctypes.CDLL(None, use_errno=True)
# python-prctl carries no types
_prctl: ModuleType = import_module("prctl")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread; os.unshare comes with Python 3.12 only."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2): enters the namespace ``fd`` refers to, which must be of ``kind``."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    done = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _checked(done, f"mount {source} on {target}")


def umount(target: str | Path, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def mount_mapped(source: Path, target: Path, users: Path) -> None:
    """A bind mount with the mapping of a user namespace: open_tree(2), mount_setattr(2), move_mount(2)."""
    empty_path, clone, idmap, from_empty = 0x1000, 1, 0x100000, 4
    tree: int = _libc.syscall(428, -100, os.fsencode(source), clone)
    _checked(min(tree, 0), "open_tree")
    namespace = os.open(users, os.O_RDONLY)
    attributes = struct.pack("=QQQQ", idmap, 0, 0, namespace)
    done = _libc.syscall(442, tree, b"", empty_path, attributes, len(attributes))
    _checked(done, "mount_setattr")
    _checked(_libc.syscall(429, tree, b"", -100, os.fsencode(target), from_empty), "move_mount")
    os.close(tree)
    os.close(namespace)


def become_subreaper() -> None:
    """From now on, orphans among our descendants become our children instead of those of process 1."""
    _prctl.set_child_subreaper(1)


def io_priority(pid: int) -> tuple[int, int]:
    """ioprio_get(2) of a process: the class and the priority in it."""
    value: int = _libc.syscall(_SYSCALLS["ioprio_get"], 1, ctypes.c_int(pid))
    _checked(min(value, 0), "ioprio_get")
    return value >> 13, value & 0x1FFF


def scheduling(pid: int) -> tuple[int, int, int, int, int, int, int]:
    """sched_getattr(2) of a process: policy, flags, nice, priority, runtime, deadline, period."""
    attributes = ctypes.create_string_buffer(56)
    done = _libc.syscall(_SYSCALLS["sched_getattr"], ctypes.c_int(pid), attributes, 56, 0)
    _checked(done, "sched_getattr")
    _, policy, flags, nice, priority, runtime, deadline, period = struct.unpack_from("=IIQiIQQQ", attributes)
    return policy, flags, nice, priority, runtime, deadline, period
