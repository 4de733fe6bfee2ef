"""The conversation with criu: it is started for one request, tells how far it is, answers, and ends.

    we                          criu swrk 3
     | ---- request ------------->  |
     | <--- NOTIFY (what, pid) ---- |  it waits
     | ---- go on ---------------->  |
     | <--- answer ---------------- |
     | ---- hang up ------------->  ends

Packets of an AF_UNIX SOCK_SEQPACKET pair, whose other end it has as descriptor 3.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import shutil
import time

from ocirun.child import Child
from ocirun.criu import becoming, requests
from ocirun.criu.messages import Message
from ocirun.errors import HostError, words_of
from ocirun.executor.run import receive
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirun.criu.becoming import Prepare
    from ocirun.waiting import Task

    #: Told of a notification: its name, the pid that it has, descriptors that came along.
    Notified = Callable[[str, int, list[int]], Task[None]]

#: Where root has its programs, whatever PATH a daemon was given.
_MORE_PLACES = "/usr/local/sbin:/usr/sbin:/sbin"
#: Seconds for a criu that was hung up on to put everything back; it may be in the middle of the memory of
#: others.
_PATIENCE = 30.0
#: Seconds that it is waited for once it is killed: the kernel may hold it for a server.
_SHORT = 2.0
_SIGKILL = 9
#: How many bytes of what is no message an error repeats.
_SHOWN = 16


def find() -> str:
    """The path of criu; raises HostError where it is not installed."""
    places = os.pathsep.join(filter(None, (os.environ.get("PATH", os.defpath), _MORE_PLACES)))
    found = shutil.which("criu", path=places)
    if found is None:
        raise HostError(
            "criu is not installed: it takes and restores checkpoints",
            hint="install the package criu (3.15 or newer)",
        )
    return found


class Service:
    """A criu that waits for its request once it has ``begun``; ``pid`` is its own, of our child, ``end`` lets
    go of it at any time.

    ``stdio`` are its 0, 1 and 2, and those of what it restores; ``more`` become its descriptors from 4
    upward.  With ``session`` it stays in our process group: it needs our terminal.  ``prepare`` is done
    before, and has ``keep`` open.
    """

    __slots__ = ("_child", "_control", "pid")

    def __init__(
        self,
        program: str,
        stdio: Sequence[int],
        more: Sequence[int] = (),
        *,
        session: bool = False,
        prepare: Prepare = becoming.nothing,
        keep: Sequence[int] = (),
    ) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        fds = (*stdio, theirs.fileno(), *more)
        becomes = becoming.Becoming(program, fds, prepare, session=session)
        try:
            self._child = Child(becomes.become, (*fds, *keep))
        except OSError as error:
            ours.close()
            words = words_of(error.errno or 0)
            raise HostError(f"fork for {program}: {words}", errno=error.errno or 0, path=program) from error
        finally:
            theirs.close()
        self.pid = self._child.pid
        self._control: _socket.socket | None = ours

    def begun(self) -> Task[tuple[Any, list[int]]]:
        """What was prepared, and the descriptors that came with it, when it is criu; raises HostError."""
        return (yield from becoming.hear(self._child.ours))

    def ask(self, request: bytes, notified: Notified) -> Task[Message]:
        """Sends a request and gives the answer, whether it is a success or not; an empty one where criu has
        ended without a word.  ``notified`` is told of what it tells meanwhile, and it waits for that.

        Raises HostError for what is no message of criu.
        """
        yield from self._send(request)
        while True:
            packet, fds = yield from self._next()
            try:
                answer, told = _read(packet)
                if answer.number(1) != requests.NOTIFY:
                    return answer
                yield from notified(told.text(1), told.number(2), fds)
            finally:
                for fd in fds:
                    os.close(fd)
            yield from self._send(requests.acknowledgement())

    def _send(self, packet: bytes) -> Task[None]:
        yield from ()
        assert self._control is not None
        try:
            self._control.send(packet)
        except (BrokenPipeError, ConnectionResetError):  # its end tells more
            return

    def _next(self) -> Task[tuple[bytes, list[int]]]:
        assert self._control is not None
        while True:
            yield Wait(reads=(self._control.fileno(),))
            try:
                return receive(self._control)
            except BlockingIOError:
                continue

    def end(self, *, at_once: bool = False) -> Task[None]:
        """Hangs up and waits for its end; one that does not end, and any ``at_once``, is killed."""
        if self._control is None:
            return
        self._control.close()
        self._control = None
        child = self._child
        ended: tuple[int, ...] = ()
        try:
            if not at_once:
                ended = yield Wait(reads=(child.pidfd,), until=time.monotonic() + _PATIENCE)
            if not ended:
                self._kill()
                yield Wait(reads=(child.pidfd,), until=time.monotonic() + _SHORT)
        finally:
            child.reap()
            child.close()

    def abandon(self) -> None:
        """Kills one that was not ended, for who could not wait for that."""
        if self._control is not None:
            self._control.close()
            self._control = None
            self._kill()
            self._child.reap()
            self._child.close()

    def _kill(self) -> None:
        self._child.kill()
        with contextlib.suppress(ProcessLookupError):  # it is in ours
            os.killpg(self.pid, _SIGKILL)


def _read(packet: bytes) -> tuple[Message, Message]:
    """A message of criu's, and the notification in it."""
    try:
        answer = Message(packet)
        return answer, answer.message(5)
    except ValueError as error:
        raise HostError(
            f"criu does not speak its RPC: {packet[:_SHOWN].hex(' ')} is no message of that",
            hint="is the program of that name another one, or does something write to its descriptor 3?",
            code="criu",
        ) from error


def directory(path: str, *, make: bool) -> int:
    """A descriptor of the directory ``path``, which is made where it is not there and ``make`` says so.

    Raises HostError.
    """
    try:
        if make:
            os.makedirs(path, 0o700, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"open the directory {path}: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            code="criu",
        ) from error
