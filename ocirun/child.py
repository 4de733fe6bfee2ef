"""Children of ours that go where we do not, into other namespaces or to a server that never answers: what
they say comes through a stream, and who waits for it is not held.

Cold: create, start and the like do such things by the helper.
"""

from __future__ import annotations

import _socket
import os

from ocirun.files import close_all_but
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable

    from ocirun.errors import OcirunError
    from ocirun.waiting import Task
else:
    import _signal

_SIGKILL = 9
#: What there is to tell of an error.
_PARTS = ("message", "pointer", "operation", "errno", "path", "hint", "code")


class Child:
    """A child that does ``work`` with one end of a stream; ``ours`` is the other.

    It has nothing else of ours open but our standard streams and ``keep``, for no lock and no socket of the
    helper may outlive us in it.  All signals are blocked in it, as those of our terminal are ours to handle.
    Raises OSError, when there is none.
    """

    __slots__ = ("ours", "pid", "pidfd")

    def __init__(self, work: Callable[[_socket.socket], None], keep: Iterable[int] = ()) -> None:
        self.ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self.pid = _fork(work, theirs, keep)
            self.pidfd = _open(self.pid)
        except OSError:
            self.ours.close()
            raise
        finally:
            theirs.close()

    def hear(self, until: float | None = None) -> Task[bytes]:
        """All that it says; what it has said so far where it has not ended by ``until``."""
        said = b""
        while (yield Wait(reads=(self.ours.fileno(),), until=until)):
            piece = self.ours.recv(1 << 16)
            if not piece:
                break
            said += piece
        return said

    def kill(self) -> None:
        """Ends it, if it has not ended."""
        try:
            _signal.pidfd_send_signal(self.pidfd, _SIGKILL)
        except ProcessLookupError:
            return

    def reap(self, *, wait: bool = False) -> None:
        """Takes its end from the kernel, which is not waited for unless ``wait`` says so."""
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | (0 if wait else os.WNOHANG))
        except ChildProcessError:  # somebody who reaps all children was faster
            return

    def finish(self, *, wait: bool = False) -> None:
        """Ends it, reaps it as ``reap`` does, and lets go of it."""
        self.kill()
        self.reap(wait=wait)
        self.close()

    def close(self) -> None:
        """Lets go of it: it sees that nobody listens any more."""
        self.ours.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _fork(work: Callable[[_socket.socket], None], theirs: _socket.socket, keep: Iterable[int]) -> int:
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        pid = os.fork()  # noqa: TID251 - it runs nothing in a container; what does is the helper
        if not pid:
            try:
                close_all_but({theirs.fileno(), *keep})
                work(theirs)
            finally:
                os._exit(0)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    return pid


def _open(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # there is no descriptor left: nobody could watch it
        os.kill(pid, _SIGKILL)
        os.waitpid(pid, 0)
        raise


def parts(error: OcirunError) -> dict[str, object]:
    """What a child tells of an error, so that another of its kind can be made of it."""
    return {part: getattr(error, part) for part in _PARTS}
