"""The keeper: the process of a shim that stays.  It holds every descriptor while there is nothing to do.

All that a shim does is done by a worker, which the keeper forks when the first descriptor is ready.  A worker
that was idle for a while hands its descriptors and its state back and ends (server.py); so an idle container
costs the memory of a process that has hardly run since it was forked from the zygote, and a worker's memory
is given back whole.  The keeper is the parent of what a worker leaves: an init stays its zombie until it is
deleted.

    worker  UP: it goes on with what it was given; until then the keeper has it too, and can try again
    worker  packets with descriptors (SCM_RIGHTS), one byte each, then the epoll descriptor that has them all
    keeper  one byte: it has them, the worker ends; or it lacks some, and the worker goes on
    worker  STATUS PID: how did a child of the keeper end; it stays a zombie
    keeper  the status as a shell has it, -1 while somebody else has to see it first
    worker  REAP PID: a child of the keeper has ended and is not needed any more
    worker  END: the shim is at its end, and so is the keeper

A worker that dies otherwise takes the shim with it: containerd sees its connections end, and runs `delete`.
As little as possible is written to memory here, for each page that is written to is one that is no longer
shared: hence the plain functions, and no object for what is a number.
"""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeAlias, TypeVar

    T = TypeVar("T")

    #: Runs the shim with its keeper and the descriptors of a worker before it; does not return.
    Work: TypeAlias = "Callable[[Keeping, list[int]], NoReturn]"
else:
    import _signal
    import _socket

UP, PART, LAST, STATUS, REAP, END = b"u", b"p", b"l", b"s", b"r", b"e"
_TAKEN, _MISSING = b"t", b"m"

#: What SCM_RIGHTS carries at once (SCM_MAX_FD is 253).
_MOST = 250
_ROOM = _socket.CMSG_SPACE(_MOST * 4)
_SIGCHLD = 17
#: Milliseconds until what the kernel refused is tried again.
_AGAIN = 200
#: How many workers may fail before they are up, with twice the time between them each: half a minute.
_ATTEMPTS = 8
#: What nobody knows the status of, and what cannot be known yet.
UNKNOWN, _NOT_YET = 255, -1
#: Python 3.11 adapts a function after it has run eight times.
REHEARSALS = 12
#: Milliseconds without a client after which a worker looks whether anybody still wants this shim.
_LONELY = 60_000


class Keeping:
    """A worker's end of the connection to its keeper, whose pid is ``pid``."""

    __slots__ = ("_socket", "pid")

    def __init__(self, sock: _socket.socket, pid: int) -> None:
        self._socket = sock
        self.pid = pid

    def hand_over(self, fds: Sequence[int], epoll: int) -> bool:
        """Gives the keeper ``fds``, and ``epoll``, which is ready when one of them is.

        Gives whether it has them; the worker must end then, and touch none of them before.
        """
        try:
            for start in range(0, len(fds), _MOST):
                self._send(PART, fds[start : start + _MOST])
            self._send(LAST, [epoll])
        except OSError:  # ETOOMANYREFS: more descriptors are under way than RLIMIT_NOFILE allows
            _persistently(lambda: self._socket.send(LAST))  # so that it forgets those it has
        return self._socket.recv(1) == _TAKEN

    def _send(self, kind: bytes, fds: Sequence[int]) -> None:
        rights = b"".join([fd.to_bytes(4, sys.byteorder) for fd in fds])
        self._socket.sendmsg([kind], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])

    def up(self) -> None:
        """All that was handed over is in use: the keeper lets go of its own."""
        self._socket.send(UP)

    def status(self, pid: int) -> int | None:
        """How the keeper's child ``pid`` ended, as a shell has it; 255 where it is none, None where it lives,
        or who traces it has not seen its end (ptrace(2))."""
        self._socket.send(STATUS + b"%d" % pid)
        status = int(self._socket.recv(8))
        return None if status == _NOT_YET else status

    def reap(self, pid: int) -> None:
        """Lets the keeper reap its child ``pid``, which has ended."""
        self._socket.send(REAP + b"%d" % pid)

    def end(self) -> None:
        """The end of the shim."""
        self._socket.send(END)


def keep(listener: int, work: Work) -> NoReturn:
    """Keeps the shim that listens at ``listener`` until its end, and runs ``work`` in each worker."""
    woken = _wake_by_children()
    fds: list[int] = []
    epoll, patience = listener, _LONELY
    while True:
        _sleep(epoll, woken[0], patience)
        fds = _turn(epoll, fds, woken, work)
        epoll, patience = fds.pop(), -1


def rehearse() -> None:
    """Runs what a keeper runs, as often as Python adapts its instructions and fills its caches for.

    A zygote does so before its first fork, for what was written once in it no keeper has to write again.
    """

    def work(keeping: Keeping, fds: list[int]) -> NoReturn:
        keeping.up()
        keeping.hand_over(fds or [0, 0], 0)
        os._exit(0)

    woken = _wake_by_children()
    fds: list[int] = []
    epoll = woken[0]
    for _ in range(REHEARSALS):
        _sleep(epoll, woken[0], 0)
        fds = _turn(epoll, fds, woken, work)
        epoll = fds.pop()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_SIGCHLD, _signal.SIG_DFL)
    for fd in (*fds, epoll, *woken):
        os.close(fd)


def _wake_by_children() -> tuple[int, int]:
    """A pipe that can be read when a child has ended."""
    woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _signal.signal(_SIGCHLD, _noted)
    _signal.set_wakeup_fd(woken[1], warn_on_full_buffer=False)
    return woken


def _turn(epoll: int, fds: list[int], woken: tuple[int, int], work: Work) -> list[int]:
    """Runs one worker; gives its descriptors, the one for epoll last.

    One that fails before it is up has read nothing and answered nobody: another one gets the same.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            select.poll().poll(_AGAIN << attempt)
        given = _run_worker(epoll, fds, woken, work)
        if given is not None:
            return given
    os._exit(1)


def _run_worker(epoll: int, fds: list[int], woken: tuple[int, int], work: Work) -> list[int] | None:
    me = os.getpid()
    ours, theirs = _persistently(_pair)
    pid = _persistently(os.fork)  # noqa: TID251 - a worker stays outside; what enters containers is the helper
    if pid == 0:
        _become_worker(ours, (*woken, epoll) if fds else woken)
        work(Keeping(theirs, me), fds)
    theirs.close()
    is_up = ours.recv(1) == UP
    if is_up and fds:  # from now on what the worker closes is closed
        os.close(epoll)
        for fd in fds:
            os.close(fd)
    given = _attend(ours) if is_up else None
    ours.close()
    os.waitpid(pid, 0)
    return given


def _pair() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def _persistently(call: Callable[[], T]) -> T:
    """What ``call`` gives, as soon as it does: a keeper that gave up for want of memory or processes would
    take its containers along."""
    while True:
        try:
            return call()
        except OSError:
            select.poll().poll(_AGAIN)


def _noted(_signum: int, _frame: object) -> None:
    """The wake-up descriptor has it: a child ended, and may have to be reaped."""


def _sleep(epoll: int, woken: int, patience: int) -> None:
    """Waits until there is something to do: for anybody, or about a child that ended."""
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    if poll.poll(0):  # the end of the worker was noted, too
        os.read(woken, 65536)  # all that a pipe holds
    poll.register(epoll, select.POLLIN)
    poll.poll(patience)


def _become_worker(ours: _socket.socket, fds: Sequence[int]) -> None:
    """Undoes, in the child, what belongs to the keeper alone."""
    _signal.set_wakeup_fd(-1)
    _signal.signal(_SIGCHLD, _signal.SIG_DFL)
    ours.close()
    for fd in fds:
        os.close(fd)


def _attend(worker: _socket.socket) -> list[int]:
    """Serves a worker until it has handed over; gives its descriptors, the one for epoll last.

    Ends the process when the worker ends in any other way.
    """
    fds: list[int] = []
    whole = True
    while True:
        packet, rights, flags, _ = worker.recvmsg(32, _ROOM, _socket.MSG_CMSG_CLOEXEC)
        if packet[:1] == REAP:
            _reap(int(packet[1:]))
            continue
        if packet[:1] == STATUS:
            worker.send(b"%d" % _status(int(packet[1:])))
            continue
        if packet not in {PART, LAST}:
            os._exit(0 if packet == END else 1)
        got = rights[0][2] if rights else b""
        fds += [int.from_bytes(got[at : at + 4], sys.byteorder) for at in range(0, len(got) & ~3, 4)]
        whole = whole and bool(got) and not flags & _socket.MSG_CTRUNC
        if packet == PART:
            continue
        if whole:
            worker.send(_TAKEN)
            return fds
        for fd in fds:  # RLIMIT_NOFILE: the worker has them all still
            os.close(fd)
        fds, whole = [], True
        worker.send(_MISSING)


def _status(pid: int) -> int:
    """Only the parent may always know: proc_pid_stat(5) shows 0 to who may not trace the process."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return UNKNOWN
    return status_of(ended) if ended is not None else _NOT_YET


def status_of(ended: os.waitid_result) -> int:
    """The status as a shell has it: of a signal, 128 and its number."""
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
