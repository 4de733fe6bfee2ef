"""One connection of a client: bytes in and out, calls to the service (unix(7), ttrpc)."""

from __future__ import annotations

import os
import select
import socket
import struct

from ocirun_shim.ttrpc.server import ServerConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_shim.answers import Answer, Encoded
    from ocirun_shim.loop import Loop

    #: Does a call: service, method, payload, where to answer.
    Serve = Callable[[str, str, bytes, Answer], None]

_CHUNK = 65536
#: A client that asks and never reads its answers is not listened to beyond this many bytes of them.
_MOST_UNREAD = 1 << 20


def is_ours(sock: socket.socket) -> bool:
    """Whether the client runs as our user and group: who may ask us acts with our rights (SO_PEERCRED)."""
    size = struct.calcsize("iII")
    _, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(uid == os.geteuid() and gid == os.getegid())


class _Answer:
    """The answer of one call; it goes nowhere when the client has gone meanwhile."""

    __slots__ = ("_connection", "_stream")

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self._stream = stream

    def send(self, message: Encoded) -> None:
        self._connection.protocol.reply(self._stream, message.SerializeToString())
        self._connection.flush()

    def fail(self, code: int, text: str) -> None:
        self._connection.protocol.fail(self._stream, code, text)
        self._connection.flush()


class Connection:
    """Serves an accepted socket until its client hangs up; ``gone`` is then called once."""

    __slots__ = ("_closing", "_gone", "_loop", "_serve", "_sock", "_unsent", "_watch", "protocol")

    def __init__(
        self, loop: Loop, sock: socket.socket, serve: Serve, gone: Callable[[Connection], None]
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._serve = serve
        self._gone = gone
        self._unsent = b""
        self._closing = False
        self.protocol = ServerConnection()
        self._watch = loop.watch(sock.fileno(), select.EPOLLIN, self._ready)

    def _ready(self, events: int) -> None:
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive()
        self.flush()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:  # ECONNRESET: it died with answers unread
            data = b""
        if not data:
            self.close()
            return
        for call in self.protocol.feed(data):
            self._serve(call.service, call.method, call.payload, _Answer(self, call.stream))

    def flush(self) -> None:
        """Sends what can be sent without waiting."""
        if self._sock.fileno() < 0:
            return
        self._unsent += self.protocol.take()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._closing and not self._unsent:
            self.close()
            return
        reads = select.EPOLLIN if len(self._unsent) < _MOST_UNREAD else 0
        self._watch.change(reads | (select.EPOLLOUT if self._unsent else 0))

    def close_when_sent(self) -> None:
        """Closes as soon as the client has taken what is on its way to it."""
        self._closing = True
        self.flush()

    def close(self) -> None:
        """The end of the connection; may be repeated."""
        if self._sock.fileno() < 0:
            return
        self._watch.close()
        self._sock.close()
        self._gone(self)
