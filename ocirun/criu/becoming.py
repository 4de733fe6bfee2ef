"""How criu comes to run: a child of ours prepares what it restores into, tells of it, and becomes criu.

criu restores below a mount point, which the root file system of a container need not be.  In the host's
namespace such a mount would be a trace: a restore that is killed would leave it.  In the child it ends with
criu.  And what is mounted may be a server's that never answers: it is the child that waits, and it can be
killed.

Cold: needs ctypes, as Python before 3.12 has neither unshare(2) nor mount(2).
"""

from __future__ import annotations

import _socket
import array
import contextlib
import ctypes
import errno
import fcntl
import os
import signal

from ocirun.child import parts
from ocirun.errors import EXHAUSTED, HostError, OcirunError, words_of
from ocirun.executor.run import ALL_SIGNALS, receive
from ocirun.jsontext import dumps, loads
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from ocirun.waiting import Task

    #: What is done first; it gives what JSON can tell, and descriptors.
    Prepare: TypeAlias = Callable[[], tuple[object, Sequence[int]]]

#: The descriptor of criu that we speak to.
CONTROL = 3
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19


class Becoming:
    """What the child is to do: ``prepare``, then execute the ``program`` of criu with ``fds`` for its
    descriptors from 0 upward; with ``session`` in our process group."""

    __slots__ = ("_fds", "_prepare", "_program", "_session")

    def __init__(self, program: str, fds: Sequence[int], prepare: Prepare, *, session: bool) -> None:
        self._program = program
        self._fds = fds
        self._prepare = prepare
        self._session = session

    def become(self, to: _socket.socket) -> None:
        """The child; returns where it could not, when that is told."""
        try:
            if not self._session:
                os.setpgid(0, 0)
            told, fds = self._prepare()
            _send(to, {"prepared": told, "descriptors": len(fds)}, fds)
            self._execute()
        except OcirunError as error:
            _send(to, {"error": parts(error)})
        except OSError as error:
            number, path = error.errno or 0, str(error.filename or "")
            words = f"start criu: {f'{path}: ' if path else ''}{words_of(number)}"
            _send(to, {"error": {"message": words, "errno": number, "path": path, "code": "criu"}})
        except Exception as error:  # noqa: BLE001 - nobody else could tell that there is a bug
            _send(to, {"error": {"message": f"start criu: {error!r}", "code": "internal"}})

    def _execute(self) -> None:
        # above all places: else one dup2 could close what the next one needs
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(self._fds)) for fd in self._fds]
        for place, fd in enumerate(high):
            os.dup2(fd, place)
        for number in ALL_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # forgets what came meanwhile
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            os.execv(self._program, ("criu", "swrk", str(CONTROL)))  # noqa: S606 - it has no shell
        except OSError as error:
            words = f"execute {self._program}: {words_of(error.errno or 0)}"
            raise HostError(words, errno=error.errno or 0, path=self._program) from error


def nothing() -> tuple[object, Sequence[int]]:
    """Prepares nothing."""
    return None, ()


def _send(to: _socket.socket, told: dict[str, object], fds: Sequence[int] = ()) -> None:
    """One line, and with its first byte the descriptors."""
    text = memoryview(f"{dumps(told)}\n".encode("utf-8", "surrogateescape"))
    sent = to.sendmsg(
        [text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    )
    to.sendall(text[sent:])


def hear(told: _socket.socket) -> Task[tuple[Any, list[int]]]:
    """What a child has prepared, when it is criu; raises HostError where it never will be."""
    said, fds = b"", list[int]()
    try:
        while True:
            yield Wait(reads=(told.fileno(),))
            with contextlib.suppress(BlockingIOError):
                piece, more = receive(told)
                fds += more
                said += piece
                if not piece:
                    break
        return _understood(said, len(fds)), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _understood(said: bytes, came: int) -> object:
    lines = said.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    if not lines or lines[-1][-1:] != "\n":
        raise HostError("what was to become criu was killed", code="criu")
    last: Any = loads(lines[-1])
    if "error" in last:
        raise HostError(**last["error"])
    if came != last["descriptors"]:  # the kernel drops those that we have no room for (unix(7))
        words = f"start criu: {words_of(errno.EMFILE)}"
        raise HostError(words, errno=errno.EMFILE, hint=EXHAUSTED[errno.EMFILE], code="criu")
    prepared: object = last["prepared"]
    return prepared


def leave_mounts() -> None:
    """Leaves for a mount namespace that is a copy of ours.

    The host's mounts go on to arrive in the copy, ours do not leave it (mount_namespaces(7)).  Raises
    HostError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS), "unshare the mount namespace")
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "make all mounts slaves")


def bind(source: str, place: str) -> None:
    """Mounts the directory ``source``, with what is mounted in it, at ``place``; raises HostError."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(os.fsencode(source), os.fsencode(place), None, _MS_BIND | _MS_REC, None)
    _check(done, f"mount {source} on {place}")


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
