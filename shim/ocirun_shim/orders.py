"""What a child that answers `start` asks of the zygote: a shim, forked from the zygote itself.

The child could fork it as well, but has written to so much of the memory it shares by then that each shim
would cost a megabyte more.  An order is one packet: texts ended by null bytes, with three descriptors, the
listening socket, the bundle and a pipe.  The answer in the pipe is the pid of the shim.
"""

from __future__ import annotations

import os
import select
import socket

from ocirun.errors import HostError
from ocirun_shim.kernel import default_signals
from ocirun_shim.process import Task, become

_LONGEST = 65536
_DESCRIPTORS = 3
_MILLISECONDS = 5000


class Desk:
    """The two ends of the socket for orders: the zygote takes at one, its children place at the other."""

    __slots__ = ("placing", "taking")

    def __init__(self) -> None:
        self.taking, self.placing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.taking.setblocking(False)

    def place(self, listener: socket.socket, task: Task) -> int:
        """In a child: gives the pid of a new shim for ``listener`` in the working directory of this process.

        It has our umask and variables, but not yet cgroup and limits.  Raises HostError where the zygote does
        not answer, OSError where the order is too long for it.
        """
        texts = [task.id, task.namespace, task.address, "1" if task.debug else "", oct(_umask())]
        texts += [f"{name}={value}" for name, value in os.environ.items()]
        bundle = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            packet = "\0".join(texts).encode("utf-8", "surrogateescape")
            socket.send_fds(self.placing, [packet], [listener.fileno(), bundle, writer])
        finally:
            os.close(bundle)
            os.close(writer)
        try:
            return _await_pid(reader)
        finally:
            os.close(reader)

    def take(self) -> None:
        """In the zygote: forks the shim of the next order, if there is one."""
        try:
            packet, fds, _, _ = socket.recv_fds(self.taking, _LONGEST, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return
        try:
            if len(fds) != _DESCRIPTORS:
                return
            pid = os.fork()  # noqa: TID251 - the shim stays outside; what enters containers is the helper
            if pid == 0:
                _serve(packet, fds)
            os.write(fds[2], b"%d" % pid)
        except OSError:
            return  # no memory, or the child is gone: it learns that from the end of the pipe
        finally:
            for fd in fds:
                os.close(fd)


def _serve(packet: bytes, fds: list[int]) -> None:
    """In the shim: takes what the order holds, and ends here."""
    try:
        container, namespace, address, debug, umask, *variables = os.fsdecode(packet).split("\0")
        default_signals()
        os.umask(int(umask, 8))
        os.fchdir(fds[1])
        for variable in variables:
            name, _, value = variable.partition("=")
            os.environ[name] = value
        become(socket.socket(fileno=fds[0]), Task(container, namespace, address, bool(debug)))
    finally:
        os._exit(1)


def _umask() -> int:
    """Ours; the system call that tells it also sets it (umask(2))."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _await_pid(reader: int) -> int:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    answer = os.read(reader, 32) if poll.poll(_MILLISECONDS) else b""
    if not answer:
        raise HostError("the zygote made no shim", hint="memory or processes may be short; try again")
    return int(answer)
