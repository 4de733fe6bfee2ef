"""The second best home of the helper: a detached read-only mount of its file (cold: needs ctypes).

Used where vm.memfd_noexec=2 refuses executable memfds.  /proc/PID/exe then leads to a mount that nobody can
make writable: it belongs to no namespace any path reaches.
"""

from __future__ import annotations

import ctypes
import os

from ocirun.errors import HostError, words_of

_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOUNT_ATTR_RDONLY = 1, 1
_SYS_OPEN_TREE, _SYS_MOUNT_SETATTR = 428, 442


class _MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def _refused(operation: str) -> HostError:
    number = ctypes.get_errno()
    return HostError(
        f"{operation} for the helper: {words_of(number)}",
        operation=operation,
        errno=number,
        hint="vm.memfd_noexec=2 forbids executable memfds, and the mount that would do instead was refused",
    )


def open_detached(path: str) -> int:
    """A descriptor to execute ``path`` from, on a detached read-only mount (open_tree(2), mount_setattr(2)).

    Raises HostError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC))
    if fd < 0:
        raise _refused("open_tree")
    attr = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    if libc.syscall(_SYS_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, ctypes.byref(attr), ctypes.sizeof(attr)) < 0:
        error = _refused("mount_setattr")
        os.close(fd)
        raise error
    return fd
