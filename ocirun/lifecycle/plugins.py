"""The agent of a filter whose decisions plugins take, as with crun: a process of ours that loads them.

They are libraries of somebody else, so they are loaded neither into the runtime nor into the shim.  The agent
has nothing of ours open but the listener, is in a session of its own, and ends when no process is left under
the filter, or when a plugin ends it: then the kernel answers ENOSYS.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ocirun.errors import EXHAUSTED, HostError, words_of
from ocirun.files import close_all_but, write_file
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.waiting import Task

#: What it is called in a list of processes: it is none of those that it was forked from.
NAME = "ocirun-plugins"
_READY = b"ready"
#: Seconds that all plugins together may take to start; then the agent is killed, and a little later given up.
_PATIENCE = 10
#: PIPE_BUF (pipe(7)): this much is written and read in one piece.
_LONGEST = 4096


def hand_on(listener: int, plugins: str, about: Sequence[str], pointer: str) -> Task[None]:
    """Starts the agent of the ``plugins``, whose paths have colons between them, for a ``listener``, which
    stays the caller's to close.

    ``about`` is what a plugin is told: the directory of the container's state, its name, its bundle and its
    config.  ``pointer`` is that of what names the plugins.  Raises HostError, when nothing of it is left but
    what left its process group.
    """
    try:
        hearing, group = _begun(listener, plugins.split(":"), about)
    except OSError as error:
        number = error.errno or 0
        raise HostError(
            f"start the agent of the seccomp plugins: {words_of(number)}",
            pointer=pointer,
            errno=number,
            hint=EXHAUSTED.get(number, ""),
        ) from error
    said = b""
    try:
        said = yield from _hear(hearing)
    finally:
        os.close(hearing)
        _settle(group, failed=said != _READY)
    if said != _READY:
        raise HostError(
            f"seccomp plugins: {said.decode(errors='replace') or 'their agent has ended'}",
            pointer=pointer,
            hint="a plugin is a library of crun's seccomp_notify_plugin.h that root or you alone can write",
        )


def _hear(fd: int) -> Task[bytes]:
    """The one message, which is never longer than what a pipe takes at once.  Its end is not waited for: a
    process that a plugin has forked has the pipe, too."""
    if (yield Wait(reads=(fd,), until=time.monotonic() + 2 * _PATIENCE)):
        return os.read(fd, _LONGEST)
    return b"they did not start in time"


def _begun(listener: int, plugins: Sequence[str], about: Sequence[str]) -> tuple[int, int]:
    """Where to hear of the agent, and its process group."""
    hearing, telling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return hearing, _fork(listener, telling, plugins, about)
    except OSError:
        os.close(hearing)
        raise
    finally:
        os.close(telling)


def _fork(listener: int, telling: int, plugins: Sequence[str], about: Sequence[str]) -> int:
    """Nobody waits for the agent: it is the grandchild that is left when its parent has ended.  The parent
    makes the session, so that we know its number, and can end what a plugin has forked."""
    pid = os.fork()  # noqa: TID251 - foreign libraries are loaded in it alone
    if pid:
        return pid
    try:
        os.setsid()
        is_parent = os.fork()  # noqa: TID251 - as above
    except OSError as error:
        os.write(telling, str(error).encode())
    else:
        if not is_parent:
            _be_agent(listener, telling, plugins, about)
    finally:
        os._exit(0)


def _settle(group: int, *, failed: bool) -> None:
    """Waits for the parent of the agent, which has nothing to wait for, and ends its group if it ``failed``.

    Until the parent is reaped nobody else can get its number.
    """
    with contextlib.suppress(ChildProcessError):  # the kernel has reaped it: our caller ignores SIGCHLD
        os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT)
    if failed:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended, or are another's now
            os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # as above
        os.waitpid(group, 0)


def _be_agent(listener: int, telling: int, plugins: Sequence[str], about: Sequence[str]) -> None:
    _let_go(listener, telling)
    signal.alarm(_PATIENCE)
    from ocirun.seccomp.plugins import Conf, RefusedError, run

    try:
        agent = run(listener, plugins, Conf(*map(os.fsencode, about)))
    except (RefusedError, OSError) as error:
        os.write(telling, str(error).encode("utf-8", "replace")[:_LONGEST])
        return
    signal.alarm(0)
    os.write(telling, _READY)
    os.close(telling)
    agent.serve()


def _let_go(*kept: int) -> None:
    """Nothing of who called us stays open: he would wait for the end of what he reads, and so would others
    for his locks."""
    os.chdir("/")
    write_file("/proc/self/comm", NAME.encode())
    null = os.open("/dev/null", os.O_RDWR)
    for place in range(3):
        os.dup2(null, place)
    close_all_but({*kept})
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
