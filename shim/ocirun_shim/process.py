"""The process of a shim, from its fork to the server: what it keeps of its maker is the listening socket."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import stat

from ocirun.errors import UsageError
from ocirun_shim import log, sockets
from ocirun_shim.kernel import become_subreaper, close_all_but, name_process
from ocirun_shim.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_shim.arguments import Arguments

_LISTENER = 3  # where containerd's shims inherit their socket


def fork(listener: socket.socket, arguments: Arguments, bundle: str) -> int:
    """Forks the shim that serves ``listener``; gives its pid."""
    pid = os.fork()  # noqa: TID251 - the shim stays outside; what enters containers is the helper
    if pid:
        return pid
    try:
        _detach(listener, bundle)
        _run(listener, arguments)
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
    _run(listener, arguments)


def _detach(listener: socket.socket, bundle: str) -> None:
    """Lets go of the caller's terminal and descriptors; standard output and error go to containerd's log."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    said = open_log(bundle)
    os.dup2(null, 0)
    for fd in (1, 2):
        os.dup2(null if said < 0 else said, fd)
    close_all_but({listener.fileno()})


def open_log(bundle: str) -> int:
    """The FIFO that containerd reads its log from, -1 without one (fifo(7)).

    Open for reading too, so that it opens and is written while nobody reads, and without blocking, for a full
    one must not stop the shim.
    """
    try:
        fd = os.open(f"{bundle}/log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def _run(listener: socket.socket, arguments: Arguments) -> None:
    _set_signals()
    become_subreaper()
    name_process(f"containerd-shim -namespace {arguments.namespace} -id {arguments.id}")
    log.set_debug(arguments.switch("debug"))
    serve(listener, arguments.namespace, os.environ.get("TTRPC_ADDRESS", ""))


def _set_signals() -> None:
    """SIGUSR1 writes where we are to the log; what would end us, and so the containers, does not.

    They have a handler rather than SIG_IGN, which what we execute would inherit (execve(2)).  Whoever wants a
    shim to end deletes its containers, or sends SIGKILL.
    """
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=False)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, _stay)


def _stay(signum: int, _frame: object) -> None:
    log.warning(f"{signal.Signals(signum).name} is ignored while there are containers")
