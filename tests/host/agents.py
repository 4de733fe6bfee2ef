"""An agent that decides for seccomp filters, as seccomp_unotify(2) tells it: with real answers."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, cast

from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self, TypeAlias

    from tests.host.bundles import Json

    #: Number of a system call -> what it gives (a negative errno fails it), None: the kernel goes on with it.
    Decide: TypeAlias = Callable[[int], int | None]

#: SECCOMP_IOCTL_NOTIF_RECV and _SEND (linux/seccomp.h), struct seccomp_notif and seccomp_notif_resp.
_RECV, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1
_PATIENCE = 30


class Agent:
    """Listens at ``path`` from the moment it is made, and answers to whoever hands it a listener.

    ``states`` are the container process states that came, ``asked`` the numbers of the system calls.
    """

    def __init__(self, path: Path, decide: Decide) -> None:
        self.path = path
        self.states: list[dict[str, Json]] = []
        self.asked: list[int] = []
        self._decide = decide
        self._end, self._ended = os.pipe()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ended)
        for thread in self._threads:
            thread.join(_PATIENCE)
        self._socket.close()
        os.close(self._end)

    def heard(self, count: int) -> list[dict[str, Json]]:
        """The first ``count`` states, which are waited for: who sends one does not wait for us to read it."""
        observe.eventually(lambda: len(self.states) >= count, f"{count} states have come")
        return self.states

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._end], [], [])
            if self._socket.fileno() not in ready:
                return  # who has connected before the end is heard
            connection, _ = self._socket.accept()
            with connection:
                if self._end in ready and not select.select([connection], [], [], 0)[0]:
                    continue  # crun, which says nothing before the start
                state, listener = take(connection)
            if listener < 0:
                continue  # who was to send it has failed
            self.states.append(state)
            self._threads.append(threading.Thread(target=self._serve, args=(listener,), daemon=True))
            self._threads[-1].start()

    def _serve(self, listener: int) -> None:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        waiting.register(self._end, select.POLLIN)
        try:
            while True:
                ready = dict(waiting.poll())
                if self._end in ready or ready.get(listener, 0) & select.POLLHUP:
                    return  # nobody is left under the filter
                self._answer(listener)
        finally:
            os.close(listener)

    def _answer(self, listener: int) -> None:
        got = array.array("B", bytes(_NOTIFICATION.size))
        try:
            fcntl.ioctl(listener, _RECV, got)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # who asked was killed meanwhile
                return
            raise
        ident, _, _, number, *_ = _NOTIFICATION.unpack(got)
        self.asked.append(number)
        decided = self._decide(number)
        failed = decided is not None and decided < 0
        answer = _ANSWER.pack(
            ident,
            0 if decided is None or failed else decided,
            decided if decided is not None and failed else 0,
            _CONTINUE if decided is None else 0,
        )
        try:
            fcntl.ioctl(listener, _SEND, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def take(connection: socket.socket) -> tuple[dict[str, Json], int]:
    """The state that comes by a connection, as soon as it is whole, and the descriptor that came with its
    beginning; an empty one and -1 when nothing comes.  (crun keeps it open until the program runs.)"""
    connection.settimeout(_PATIENCE)
    data, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
    if not data:
        return {}, -1
    (listener,) = descriptors
    while True:
        try:
            return cast("dict[str, Json]", json.loads(data)), listener
        except json.JSONDecodeError:
            piece = connection.recv(65536)
            if not piece:
                raise
            data += piece


def goes_on(_number: int) -> None:
    """Lets the kernel go on with every call (SECCOMP_USER_NOTIF_FLAG_CONTINUE)."""


def but(asked: int, answer: int) -> Decide:
    """Answers one call, and lets the others go on."""

    def decide(number: int) -> int | None:
        return answer if number == asked else None

    return decide
