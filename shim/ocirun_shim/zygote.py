"""The zygote: a warm process with everything imported, which forks a child for each `start` and `delete`.

A shim forked from it shares its memory, and starts in a hundredth of the time that Python takes.  There is
one for each user, set of namespaces, label, containerd and build (identity.py).  Its socket lies in a
directory of 0700; a request is one packet (request.py).  It does nothing itself but accept, fork and reap, so
that no request can hold up another.  It ends when no shim of its own is left and nobody asked for a while,
when its socket was removed or replaced, and when the code it was made of was.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import struct
import sys
import time

from ocirun.errors import OcirunError
from ocirun.files import close_all_but, read_file
from ocirun_shim import request, sockets
from ocirun_shim.identity import Identity, zygote_directory, zygote_name
from ocirun_shim.kernel import (
    HANDLED,
    become_subreaper,
    default_signals,
    name_process,
    set_comm,
)
from ocirun_shim.orders import Desk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun_shim.engine import Versions

#: Seconds without a request and without a shim after which it ends.
IDLE = 600.0
#: Seconds between two looks whether socket and code are still ours: when somebody asks, when nobody does.
_LOOK, _LOOK_WHEN_IDLE = 1.0, 300.0
_BACKLOG_KIND = socket.SOCK_SEQPACKET
_UCRED = struct.Struct("iII")
_PACKAGES = ("ocirun", "ocirun_shim", "ocirun_spec")


class Zygote:
    """One zygote; ``listener`` is bound to ``path`` already, and serves ``identity`` of ``containerd``."""

    __slots__ = (
        "_code", "_last", "_looked", "_socket", "_woken", "containerd", "desk", "ending", "identity", "idle",
        "listener", "path", "versions",
    )  # fmt: skip

    def __init__(
        self, listener: socket.socket, path: str, identity: Identity, containerd: str, versions: Versions
    ) -> None:
        self.listener = listener
        self.path = path
        self.identity = identity
        self.containerd = containerd
        self.versions = versions
        self.desk: Desk | None = None
        self.idle = IDLE
        self.ending = False
        self._socket = _mark(path)
        self._code = tuple(_code())
        self._last = self._looked = time.monotonic()
        self._woken = -1

    def run(self) -> None:
        """Serves until it is of no more use; never raises."""
        self._detach()
        poll = select.poll()
        for fd in (self.listener.fileno(), self._woken, self.versions.reader):
            poll.register(fd, select.POLLIN)
        while True:
            self._reap()
            childless = self._is_childless()
            if self._is_over(childless):
                break
            ready = {fd for fd, _ in poll.poll(self._pause(childless) * 1000)}
            if self._woken in ready:
                _drain(self._woken)
            if self.versions.reader in ready:
                self.versions.learn()
            if self.listener.fileno() in ready:
                self._accept()
        self._leave()

    def _detach(self) -> None:
        """Cuts every tie to the process that made it: session, directory, descriptors, signals, variables."""
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        close_all_but({self.listener.fileno(), self.versions.reader, self.versions.writer})
        set_comm("ocirun-zygote")
        name_process("ocirun-zygote")
        os.environ.clear()
        self.desk = Desk()
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = reader
        for signum in HANDLED:
            signal.signal(signum, self._signalled)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        become_subreaper()
        self.listener.setblocking(False)

    def _signalled(self, signum: int, _frame: object) -> None:
        if signum != signal.SIGCHLD:
            self.ending = True

    def _pause(self, childless: bool) -> float:
        """Seconds to wait at most: until it is idle for too long, or time to look at the socket."""
        if not childless:  # the nursery reaps by itself: nobody tells when its last shim has ended
            return min(_LOOK_WHEN_IDLE, self.idle)
        return max(0.0, min(_LOOK_WHEN_IDLE, self._last + self.idle - time.monotonic()))

    def _is_over(self, childless: bool) -> bool:
        now = time.monotonic()
        if self.ending or (childless and now >= self._last + self.idle):
            return True
        if now < self._looked + _LOOK:
            return False
        self._looked = now
        return _mark(self.path) != self._socket or tuple(_code()) != self._code

    def _reap(self) -> None:
        """Reaps every child that has ended; the end of the nursery is ours."""
        assert self.desk is not None
        try:
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self.ending = self.ending or pid == self.desk.nursery
        except ChildProcessError:
            return

    def _is_childless(self) -> bool:
        """Whether nobody is left but the nursery, and it has no shim."""
        assert self.desk is not None
        nursery = self.desk.nursery
        return _children(os.getpid()) == [str(nursery)] and not _children(nursery)

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:  # it was cut off meanwhile, or descriptors are short: the stub helps itself
            return
        with connection:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            pid, uid, _ = _UCRED.unpack(peer)
            self._last = time.monotonic()
            if uid != os.geteuid() or self._is_over(childless=False):
                return
            try:
                child = os.fork()  # noqa: TID251 - this is what a zygote is for; nothing of it enters a container
            except OSError:
                return
            if child == 0:
                self._serve(connection, pid)

    def _serve(self, connection: socket.socket, pid: int) -> None:
        """In the child: does what the connection asks, and ends."""
        try:
            assert self.desk is not None
            default_signals()
            close_all_but({connection.fileno(), self.versions.writer, self.desk.fileno()})
            request.serve(connection, pid, self)
        finally:
            os._exit(1)

    def _leave(self) -> None:
        """Removes its socket, unless another zygote has bound one there."""
        try:
            with sockets.Lock(os.path.dirname(self.path)):
                if _mark(self.path) == self._socket:
                    os.unlink(self.path)
        except (OSError, OcirunError):
            return


def ensure(containerd: str, programs: str, versions: Versions) -> None:
    """Makes the zygote of this process's kind, unless there is one; all its modules must be imported by now.

    ``containerd`` is the value of -address, ``programs`` the directory of the stub with its last "/".  Raises
    OSError or OcirunError where there can be none, so that each stub has to help itself.
    """
    directory = zygote_directory()
    identity = Identity("self")
    path = f"{directory}/{zygote_name(identity, containerd, programs)}"
    with sockets.Lock(directory):
        _check_private(directory)
        if sockets.answers(path, _BACKLOG_KIND):
            return  # another start was quicker, or this one was refused
        with sockets.bind(path, _BACKLOG_KIND) as listener:
            if os.fork() == 0:  # noqa: TID251 - the child becomes the zygote, which never enters a container
                try:
                    Zygote(listener, path, identity, containerd, versions).run()
                finally:
                    os._exit(0)


def _check_private(directory: str) -> None:
    """Raises OSError unless the directory is ours and nobody else can reach what lies in it."""
    status = os.stat(directory, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{directory} is not a directory of our own with mode 0700")


def _mark(path: str) -> tuple[int, int, int]:
    """What tells a file from another one of the same name; zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_mtime_ns)


def _code() -> Iterator[tuple[int, int, int]]:
    """The marks of all files of ours that were imported: an upgrade replaces them."""
    for name, module in tuple(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.partition(".")[0] in _PACKAGES:
            yield _mark(path)


def _children(pid: int) -> list[str]:
    """The pids of the children of a process (proc_pid_task_children(5)); one that is none where unknown."""
    try:
        return read_file(f"/proc/{pid}/task/{pid}/children").decode().split()
    except OSError:
        return ["?"]


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return
