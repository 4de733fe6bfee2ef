"""One request to the zygote: its packet, whether its sender may ask, and the child taking the sender's place.

    stub    one packet: 'a' ARGUMENT or 'e' VARIABLE, each ended by a null byte
    zygote  closes the connection: refused, nothing was done, the stub does it itself
            or one byte: accepted
    stub    one byte with four descriptors (SCM_RIGHTS): standard input, output and error, working directory
    zygote  one byte: the exit status

Until it has accepted, the child only reads and changes itself.  The descriptors come after that, for in the
queue of a zygote that is stopped they would keep containerd's pipe open.
"""

from __future__ import annotations

import os
import select
import socket

from ocirun_shim import bootstrap, hierarchies
from ocirun_shim.arguments import SERVE, parse
from ocirun_shim.identity import Identity
from ocirun_shim.kernel import oom_score_adj, set_oom_score_adj, share_limits, share_priority

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_shim.arguments import Arguments
    from ocirun_shim.zygote import Zygote

LONGEST = 65536
_DESCRIPTORS = 4
_SECONDS = 5.0
_SO_PEERPIDFD = 77  # since Linux 6.5


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """The stub has to help itself."""


def serve(connection: socket.socket, pid: int, zygote: Zygote) -> None:
    """Answers the one request of ``connection``, whose peer has ``pid``, and ends this process."""
    try:
        connection.settimeout(_SECONDS)
        arguments, variables = read_packet(_receive_packet(connection))
        _check(arguments, zygote.containerd)
        _become(connection, pid, zygote.identity)
        connection.send(b"\0")
        _take(_receive_descriptors(connection), variables)
    except Exception:  # noqa: BLE001 - whatever is wrong with it: the stub does it itself, and says what it is
        os._exit(0)
    status = bootstrap.perform(arguments, zygote.versions, zygote.desk)
    connection.send(bytes((status,)))
    os._exit(0)


def _receive_packet(connection: socket.socket) -> bytes:
    packet, _, flags, _ = connection.recvmsg(LONGEST + 1)
    if flags & socket.MSG_TRUNC or len(packet) > LONGEST:
        raise Refused
    return packet


def _receive_descriptors(connection: socket.socket) -> list[int]:
    _, fds, flags, _ = socket.recv_fds(connection, 1, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC or len(fds) != _DESCRIPTORS:
        raise Refused
    return fds


def read_packet(packet: bytes) -> tuple[Arguments, dict[str, str]]:
    """The arguments and variables of a packet; raises Refused or UsageError for any other bytes."""
    *records, rest = packet.split(b"\0")
    if rest or not records:
        raise Refused
    words: list[str] = []
    variables: dict[str, str] = {}
    for record in records:
        text = os.fsdecode(record[1:])
        name, equals, value = text.partition("=")
        if record.startswith(b"a"):
            words.append(text)
        elif record.startswith(b"e") and equals and name:
            variables[name] = value
        else:
            raise Refused
    return parse(words), variables


def _check(arguments: Arguments, containerd: str) -> None:
    if arguments.action == SERVE or arguments.text("address") != containerd:
        raise Refused


def _become(connection: socket.socket, pid: int, ours: Identity) -> None:
    """Makes this process what the sender is: cgroup, limits, priority, umask.

    Raises Refused where it is another kind.

    The pidfd proves that what was read of the pid was of the sender: it waits for us, so it lives.
    """
    pidfd = _pidfd(connection, pid)
    theirs = Identity(pid)
    if not theirs.is_as(ours):
        raise Refused
    hierarchies.follow(os.getpid(), pid)
    share_limits(0, pid)
    share_priority(0, pid)
    set_oom_score_adj(os.getpid(), oom_score_adj(pid))
    os.umask(theirs.umask)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        raise Refused
    os.close(pidfd)


def _pidfd(connection: socket.socket, pid: int) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return os.pidfd_open(pid)


def _take(fds: list[int], variables: dict[str, str]) -> None:
    """Takes the sender's standard descriptors, working directory and variables."""
    for name, value in variables.items():
        os.environ[name] = value
    for target, fd in enumerate(fds[:3]):
        os.dup2(fd, target)
    os.fchdir(fds[3])
    for fd in fds:
        os.close(fd)
