"""The processes of a shim: the keeper, from its fork to its sleep, and the workers (keeper.py)."""

from __future__ import annotations

import faulthandler
import os
import socket
import stat

from ocirun.errors import UsageError
from ocirun_shim import handover, keeper, log, sockets
from ocirun_shim.kernel import become_subreaper, die_with_parent, set_comm, umask
from ocirun_shim.server import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import NoReturn

    from ocirun_shim.arguments import Arguments
    from ocirun_shim.keeper import Keeping
else:
    import _signal

LISTENER = 3  # where containerd's shims inherit their socket
BEYOND = 1 << 30  # NR_OPEN: no descriptor has this number
_SIGHUP, _SIGINT, _SIGUSR1, _SIGTERM = 1, 2, 10, 15
_ENDING = (_SIGTERM, _SIGINT, _SIGHUP)


class Task:
    """What a shim is told besides its socket: the ``id`` of its first container, ``namespace`` and
    ``address`` of its containerd, whether to ``debug``, ``umask`` and variables.  The bundle is the working
    directory.
    """

    __slots__ = ("address", "debug", "id", "namespace", "umask", "variables")

    def __init__(
        self,
        container: str,
        namespace: str,
        address: str,
        debug: bool,
        mask: int,
        variables: dict[str, str],
    ) -> None:
        self.id = container
        self.namespace = namespace
        self.address = address
        self.debug = debug
        self.umask = mask
        self.variables = variables

    @property
    def title(self) -> str:
        """What ps(1) shows of its shim."""
        return f"containerd-shim-ocirun-v2 -namespace {self.namespace} -id {self.id} -address {self.address}"


def task_of(arguments: Arguments) -> Task:
    """The task that the command line and the variables of this process describe."""
    debug = arguments.switch("debug")
    address = arguments.text("address")
    return Task(arguments.id, arguments.namespace, address, debug, umask(), dict(os.environ))


def fork(listener: socket.socket, task: Task) -> int:
    """Forks the shim that serves ``listener``; gives its pid."""
    pid = os.fork()  # noqa: TID251 - the shim stays outside; what enters containers is the helper
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for signum in (*_ENDING, _SIGUSR1):  # they concern the workers
            _signal.signal(signum, _signal.SIG_IGN)
        become(os.dup(listener.fileno()), os.open(".", os.O_PATH | os.O_DIRECTORY), lambda: task)
    return pid


def become(listener: int, bundle: int, task: Callable[[], Task]) -> NoReturn:
    """Makes this process, freshly forked, the keeper of the shim that serves ``listener`` in ``bundle``.

    Its standard descriptors lead to /dev/null and it ignores what would end it; ``task`` is called in the
    workers.
    """
    try:
        os.setsid()
        settle(listener, bundle, LISTENER + 1, "containerd-shim")
        keeper.keep(LISTENER, lambda keeping, fds: _work(task(), keeping, fds))
    finally:
        os._exit(1)


def settle(listener: int, bundle: int, beyond: int, comm: str) -> None:
    """The steps that make a keeper of a process: nothing in it does harm when it is rehearsed.

    All descriptors from ``beyond`` on are closed.
    """
    os.fchdir(bundle)
    os.dup2(listener, LISTENER, False)
    os.closerange(beyond, BEYOND)
    become_subreaper()
    set_comm(comm)


def _work(task: Task, keeping: Keeping, fds: list[int]) -> NoReturn:
    """Makes this process, freshly forked by the keeper, a worker that goes on with ``fds``."""
    try:
        die_with_parent()
        if os.getppid() != keeping.pid:
            os._exit(1)
        set_comm("ocirun-worker")
        os.umask(task.umask)
        os.environ.clear()
        os.environ.update(task.variables)
        log.write_to(os.dup(fds[handover.LOG]) if fds else open_log())
        _serve(socket.socket(fileno=LISTENER), task, keeping, fds)
        keeping.end()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - nothing may run on into the code of the keeper
        log.exception("the worker ended", error)
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
            listener = socket.socket(fileno=LISTENER)
        except OSError as error:
            raise UsageError("descriptor 3 is no socket", hint="give -socket, or an action") from error
    become_subreaper()
    _serve(listener, task_of(arguments), None, [])


def open_log() -> int:
    """The FIFO of the bundle that containerd reads its log from, else /dev/null (fifo(7)).

    Open for reading too, so that it opens and is written while nobody reads, and without blocking, for a full
    one must not stop the shim.
    """
    try:
        fd = os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    except OSError:
        pass
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def _serve(listener: socket.socket, task: Task, keeping: Keeping | None, fds: list[int]) -> None:
    _set_signals()
    log.set_debug(task.debug)
    server = Server(listener, task.namespace, task.variables.get("TTRPC_ADDRESS", ""), keeping)
    if fds:
        server.restore(fds)
    if keeping is not None:
        keeping.up()
    server.run()


def _set_signals() -> None:
    """SIGUSR1 writes where we are to the log; what would end us, and so the containers, does not.

    They have a handler rather than SIG_IGN, which what we execute would inherit (execve(2)).  Whoever wants a
    shim to end deletes its containers, or sends SIGKILL.  (_signal, because the enums of signal dirty sixty
    pages in each shim.)
    """
    faulthandler.register(_SIGUSR1, file=2, all_threads=False)
    for signum in _ENDING:
        _signal.signal(signum, _stay)


def _stay(signum: int, _frame: object) -> None:
    log.warning(f"signal {signum} is ignored: a shim ends when its containers are deleted")
