"""Children of ours that go where we do not, into other namespaces or to a server that never answers: what
they say comes through a stream, and who waits for it is not held.

Cold: create, start and the like do such things by the helper.
"""

from __future__ import annotations

import _socket
import os
import time

from ocirun.files import close_all_but
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable

    from ocirun.waiting import Task
else:
    import _signal

#: Seconds that a killed child is waited for.
_SHORT = 2.0


def begin(work: Callable[[_socket.socket], None], keep: Iterable[int]) -> tuple[int, _socket.socket]:
    """Forks a child that does ``work`` with the other end of the stream that is given beside its pid.

    It has nothing else of ours open but our standard streams and ``keep``, for no lock and no socket of the
    helper may outlive us in it.  All signals are blocked in it, as those of our terminal are ours to handle.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        pid = os.fork()  # noqa: TID251 - it runs nothing in a container; what does is the helper
        if not pid:
            try:
                close_all_but({theirs.fileno(), *keep})
                work(theirs)
            finally:
                os._exit(0)
    except OSError:
        ours.close()
        raise
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        theirs.close()
    return pid, ours


def hear(ours: _socket.socket, until: float | None = None) -> Task[bytes]:
    """All that a child says; what it has said so far where it has not ended by ``until``."""
    said = b""
    while (yield Wait(reads=(ours.fileno(),), until=until)):
        piece = ours.recv(1 << 16)
        if not piece:
            break
        said += piece
    return said


def end(pid: int) -> Task[None]:
    """Ends a child, which may have ended, and reaps it where that can be had soon: the kernel may hold it."""
    pidfd = os.pidfd_open(pid)
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        yield Wait(reads=(pidfd,), until=time.monotonic() + _SHORT)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):  # somebody who reaps all children was faster
        return
    finally:
        os.close(pidfd)
