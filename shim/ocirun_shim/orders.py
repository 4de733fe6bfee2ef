"""The nursery: a child of the zygote that does nothing but fork shims, by order of those who answer `start`.

Whatever a process writes to between two forks it no longer shares with what it forked before.  So the child
that answers `start`, which has written to most of its memory by then, places an order, and the zygote, which
accepts and reaps, is not the one who takes it.  An order is one packet: texts ended by null bytes, with three
descriptors: the listening socket, the bundle and a pipe.  The answer in the pipe is the pid of the shim.
The nursery ends with the zygote and all its children, when nobody can place an order any more.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from ocirun.errors import HostError
from ocirun.files import close_all_but
from ocirun_shim import keeper, kernel, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from typing import NoReturn
else:
    import _signal
    import _socket

_LONGEST = 65536
_DESCRIPTORS = 3
_ROOM = _socket.CMSG_SPACE(_DESCRIPTORS * 4)
_MILLISECONDS = 5000
_SIGHUP, _SIGINT, _SIGUSR1, _SIGTERM, _SIGCHLD = 1, 2, 10, 15, 17


class Desk:
    """Where orders are placed; ``nursery`` is the pid of the process that takes them."""

    __slots__ = ("nursery", "placing")

    def __init__(self) -> None:
        taking, self.placing = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.nursery = os.fork()  # noqa: TID251 - the nursery forks shims, which never enter a container
        if self.nursery == 0:
            try:
                _nurse(taking)
            finally:
                os._exit(1)
        taking.close()

    def fileno(self) -> int:
        """The descriptor that children of the zygote keep."""
        return self.placing.fileno()

    def place(self, listener: socket.socket, task: process.Task) -> int:
        """In a child: gives the pid of a new shim for ``listener`` in the working directory of this process.

        It has not yet our cgroup and limits.  Raises HostError where the nursery does not answer, OSError
        where the order is too long for it.
        """
        texts = [task.id, task.namespace, task.address, "1" if task.debug else "", f"{task.umask:o}"]
        texts += [f"{name}={value}" for name, value in task.variables.items()]
        bundle = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            packet = "\0".join(texts).encode("utf-8", "surrogateescape")
            fds = b"".join([fd.to_bytes(4, sys.byteorder) for fd in (listener.fileno(), bundle, writer)])
            self.placing.sendmsg([packet], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        finally:
            os.close(bundle)
            os.close(writer)
        try:
            return _await_pid(reader)
        finally:
            os.close(reader)


def _nurse(taking: _socket.socket) -> NoReturn:
    """Takes orders until nobody can place one; shims that end are reaped by the kernel (SIGCHLD ignored)."""
    kernel.set_comm("ocirun-nursery")
    if taking.fileno() == process.LISTENER:  # which every shim puts its own socket at
        taking = _socket.socket(fileno=os.dup(taking.detach()))
    close_all_but({taking.fileno()})
    os.dup2(0, process.LISTENER, inheritable=False)
    for signum in (_SIGTERM, _SIGINT, _SIGHUP, _SIGUSR1, _SIGCHLD):
        _signal.signal(signum, _signal.SIG_IGN)
    kernel.name_process("ocirun-nursery")
    keeper.rehearse()
    _signal.signal(_SIGCHLD, _signal.SIG_IGN)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for _ in range(keeper.REHEARSALS):
        process.settle(here, here, process.BEYOND - 1, "ocirun-nursery")
    os.close(here)
    while True:
        packet, rights, flags, _ = taking.recvmsg(_LONGEST, _ROOM, _socket.MSG_CMSG_CLOEXEC)
        if not packet:
            os._exit(0)
        _take(b"" if flags & _socket.MSG_TRUNC else packet, rights[0][2] if rights else b"")


def _take(packet: bytes, rights: bytes) -> None:
    """Forks the shim of an order."""
    fds = [int.from_bytes(rights[at : at + 4], sys.byteorder) for at in range(0, len(rights) & ~3, 4)]
    try:
        if packet and len(fds) == _DESCRIPTORS:  # half an order is none: who placed it sees the pipe end
            pid = os.fork()  # noqa: TID251 - the shim stays outside; what enters containers is the helper
            if pid == 0:
                process.become(fds[0], fds[1], lambda: _task(packet))
            os.write(fds[2], b"%d" % pid)
    except OSError:
        return  # no memory, or the child is gone: it learns that from the end of the pipe
    finally:
        for fd in fds:
            os.close(fd)


def _task(packet: bytes) -> process.Task:
    container, namespace, address, debug, umask, *variables = os.fsdecode(packet).split("\0")
    pairs = (variable.partition("=") for variable in variables)
    named = {name: value for name, _, value in pairs}
    return process.Task(container, namespace, address, bool(debug), int(umask, 8), named)


def _await_pid(reader: int) -> int:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    answer = os.read(reader, 32) if poll.poll(_MILLISECONDS) else b""
    if not answer:
        raise HostError("the zygote made no shim", hint="memory or processes may be short; try again")
    return int(answer)
