"""The loopback interface of a network namespace that criu has made, from outside: netdevice(7)."""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import os
import struct
import time

from ocirun.child import Child
from ocirun.errors import HostError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.waiting import Task

_CLONE_NEWNET = 0x40000000
#: The flags of an interface by its name, and the one that says it is up.
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = "16sh22x"
#: Seconds: the kernel may be busy with other people's networks.
_PATIENCE = 60.0
_UP = b"up"


def set_up(pid: int) -> Task[None]:
    """Has it up in the network namespace of the process ``pid``; raises HostError."""
    try:
        network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            child = Child(lambda to: _tell(network, to), (network,))
        finally:
            os.close(network)
    except OSError as error:
        raise _refused(error.errno or 0) from error
    said = b""
    try:
        said = yield from child.hear(time.monotonic() + _PATIENCE)
    finally:
        child.finish(wait=bool(said))  # the kernel may hold one that has said nothing
    if said != _UP:
        raise _refused(int(said or b"0"))


def _refused(number: int) -> HostError:
    words = words_of(number) if number else "who was to do it did not in time, or was killed"
    doing = "set the loopback interface of the container up"
    return HostError(f"{doing}: {words}", operation=doing, errno=number, code="criu")


def _tell(network: int, to: _socket.socket) -> None:
    """The child: says that it is up, or the errno."""
    try:
        _enter(network)
        _set_up()
    except OSError as error:
        to.sendall(str(error.errno or 0).encode())
    else:
        to.sendall(_UP)


def _enter(network: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # Python before 3.12 has no setns(2)
    if libc.setns(network, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "")


def _set_up() -> None:
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        asked = struct.pack(_IFREQ, b"lo", 0)
        _, flags = struct.unpack(_IFREQ, fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, asked))
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack(_IFREQ, b"lo", flags | _IFF_UP))
    finally:
        sock.close()
