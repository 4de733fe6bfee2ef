"""A moment in other namespaces than our own: one of mounts which nobody else is to see, or a network.

criu restores below a mount point, which the root file system of a container need not be.  In the host's
namespace such a mount would be a trace: a restore that is killed would leave it.  Here it ends with criu.
Cold: needs ctypes, as Python before 3.12 has none of these calls.
"""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import os
import struct
from contextlib import suppress

from ocirun.errors import HostError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
#: netdevice(7): the flags of an interface by its name, and the one that says it is up.
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = "16sh22x"
_MS_BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19


def in_own_mounts(then: Callable[[], T]) -> T:
    """Does ``then`` in a mount namespace that is a copy of ours; a process that it starts stays in there.

    Raises HostError where the kernel refuses.  The host's mounts go on to arrive in the copy, ours do not
    leave it (mount_namespaces(7)).  Where there is no way back this process ends: whatever it did next would
    be done to the wrong mounts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here, root = (os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (".", "/"))
    try:
        _check(libc.unshare(_CLONE_NEWNS), "unshare the mount namespace")
        try:
            _check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "make all mounts slaves")
            return then()
        finally:
            _go_back(libc, home, root, here)
    finally:
        for fd in (home, here, root):
            os.close(fd)


def _go_back(libc: ctypes.CDLL, home: int, root: int, here: int) -> None:
    try:
        _check(libc.setns(home, _CLONE_NEWNS), "go back into the mount namespace")
        # setns(2) has set both to the root of the namespace
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(here)
    except (HostError, OSError) as error:
        with suppress(OSError):
            os.write(2, f"error: {error}: this process ends, as it is in the wrong mounts\n".encode())
        os._exit(1)


def bind(source: str, place: str) -> None:
    """Mounts the directory ``source``, with what is mounted in it, at ``place``; raises HostError."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_BIND | _MS_REC
    done = libc.mount(os.fsencode(source), os.fsencode(place), None, flags, None)
    _check(done, f"mount {source} on {place}")


def in_network_of(pid: int, then: Callable[[], None]) -> None:
    """Does ``then`` in the network namespace of the process ``pid``; raises HostError."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.setns(there, _CLONE_NEWNET), "enter the network namespace")
        try:
            then()
        finally:
            _check(libc.setns(home, _CLONE_NEWNET), "go back into the network namespace")
    finally:
        os.close(home)
        os.close(there)


def set_loopback_up() -> None:
    """Has the loopback interface of this network namespace up; raises OSError."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        asked = struct.pack(_IFREQ, b"lo", 0)
        _, flags = struct.unpack(_IFREQ, fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, asked))
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack(_IFREQ, b"lo", flags | _IFF_UP))
    finally:
        sock.close()


def _check(result: int, operation: str) -> None:
    if result == 0:
        return
    number = ctypes.get_errno()
    raise HostError(
        f"{operation}: {words_of(number)}",
        operation=operation,
        errno=number,
        hint="restore needs CAP_SYS_ADMIN on the host",
        code="criu",
    )
