"""The process of a shim, from its fork to the server: what it keeps of its maker is the listening socket."""

from __future__ import annotations

import faulthandler
import os
import socket
import stat

from ocirun.errors import UsageError
from ocirun_shim import log, sockets
from ocirun_shim.kernel import become_subreaper, close_all_but, name_process
from ocirun_shim.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from ocirun_shim.arguments import Arguments
else:
    import _signal

_LISTENER = 3  # where containerd's shims inherit their socket
_SIGHUP, _SIGINT, _SIGUSR1, _SIGTERM = 1, 2, 10, 15


class Task:
    """What a shim is told besides its socket: the ``id`` of its first container, ``namespace`` and
    ``address`` of its containerd, and whether to ``debug``.  The bundle is the working directory.
    """

    __slots__ = ("address", "debug", "id", "namespace")

    def __init__(self, container: str, namespace: str, address: str, debug: bool) -> None:
        self.id = container
        self.namespace = namespace
        self.address = address
        self.debug = debug


def task_of(arguments: Arguments) -> Task:
    """The task that the command line describes."""
    debug = arguments.switch("debug")
    return Task(arguments.id, arguments.namespace, arguments.text("address"), debug)


def fork(listener: socket.socket, task: Task) -> int:
    """Forks the shim that serves ``listener``; gives its pid."""
    pid = os.fork()  # noqa: TID251 - the shim stays outside; what enters containers is the helper
    if pid == 0:
        become(listener, task)
    return pid


def become(listener: socket.socket, task: Task) -> NoReturn:
    """Makes this process, freshly forked, the shim that serves ``listener``."""
    try:
        _detach(listener)
        _run(listener, task)
    except BaseException as error:  # noqa: BLE001 - nothing may run on into the code of the maker
        log.exception("the shim ended", error)
    finally:
        os._exit(1)


def serve_by_hand(arguments: Arguments) -> None:
    """Serves in this process, on -socket or the inherited descriptor 3; the bundle is the working directory.

    Raises UsageError where that is no socket, OSError where it cannot be bound.
    """
    if path := arguments.text("socket"):
        with sockets.Lock(os.path.dirname(os.path.abspath(path))):
            listener = sockets.bind(path)
    else:
        try:
            listener = socket.socket(fileno=_LISTENER)
        except OSError as error:
            raise UsageError("descriptor 3 is no socket", hint="give -socket, or an action") from error
    _run(listener, task_of(arguments))


def _detach(listener: socket.socket) -> None:
    """Lets go of the caller's terminal and descriptors; standard output and error go to containerd's log."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    said = open_log()
    os.dup2(null, 0)
    for fd in (1, 2):
        os.dup2(null if said < 0 else said, fd)
    close_all_but({listener.fileno()})


def open_log() -> int:
    """The FIFO of the bundle that containerd reads its log from, -1 without one (fifo(7)).

    Open for reading too, so that it opens and is written while nobody reads, and without blocking, for a full
    one must not stop the shim.
    """
    try:
        fd = os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def _run(listener: socket.socket, task: Task) -> None:
    _set_signals()
    become_subreaper()
    name_process(
        f"containerd-shim-ocirun-v2 -namespace {task.namespace} -id {task.id} -address {task.address}"
    )
    log.set_debug(task.debug)
    serve(listener, task.namespace, os.environ.get("TTRPC_ADDRESS", ""))


def _set_signals() -> None:
    """SIGUSR1 writes where we are to the log; what would end us, and so the containers, does not.

    They have a handler rather than SIG_IGN, which what we execute would inherit (execve(2)).  Whoever wants a
    shim to end deletes its containers, or sends SIGKILL.  (_signal, because the enums of signal dirty sixty
    pages in each shim.)
    """
    faulthandler.register(_SIGUSR1, file=2, all_threads=False)
    for signum in (_SIGTERM, _SIGINT, _SIGHUP):
        _signal.signal(signum, _stay)


def _stay(signum: int, _frame: object) -> None:
    log.warning(f"signal {signum} is ignored: a shim ends when its containers are deleted")
