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
    from typing import TypedDict

    from ocirun_shim.answers import Answer, Encoded
    from ocirun_shim.handover import Parcel
    from ocirun_shim.loop import Loop

    #: Does a call: service, method, payload, where to answer.
    Serve = Callable[[str, str, bytes, Answer], None]

    class SavedConnection(TypedDict):
        """A connection as one worker hands it to the next: its place in a Parcel, and its streams."""

        fd: int
        last: int
        open: list[int]


#: Received at once: some three hundred calls, which keep nobody else waiting for long.
_CHUNK = 16384
#: A client that asks and never reads its answers is not listened to beyond this many bytes of them.
_MOST_UNREAD = 1 << 20


def is_ours(sock: socket.socket) -> bool:
    """Whether the client runs as our user and group: who may ask us acts with our rights (SO_PEERCRED)."""
    size = struct.calcsize("iII")
    _, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(uid == os.geteuid() and gid == os.getegid())


class _Answer:
    """The answer of one call; it goes nowhere when the client has gone meanwhile."""

    __slots__ = ("_connection", "stream")

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self.stream = stream

    @property
    def connection(self) -> int:
        """The descriptor of the connection, -1 when the client has gone."""
        return self._connection.fileno()

    @property
    def open(self) -> bool:
        """Whether the client is still there."""
        return self.connection >= 0

    def send(self, message: Encoded) -> None:
        if self.open:
            self._connection.protocol.reply(self.stream, message.SerializeToString())
            self._connection.flush()

    def fail(self, code: int, text: str) -> None:
        if self.open:
            self._connection.protocol.fail(self.stream, code, text)
            self._connection.flush()


class Connection:
    """Serves an accepted socket until its client hangs up; ``gone`` is then called once."""

    __slots__ = (
        "_closing", "_gone", "_loop", "_receiving", "_serve", "_sock", "_unsent", "_watch", "protocol",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, sock: socket.socket, serve: Serve, gone: Callable[[Connection], None]
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._serve = serve
        self._gone = gone
        self._unsent = bytearray()
        self._closing = False
        #: The answers of all calls that came together are sent together.
        self._receiving = False
        self.protocol = ServerConnection()
        self._watch = loop.watch(sock.fileno(), select.EPOLLIN, self._ready)

    def _ready(self, events: int) -> None:
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receiving = True
            try:
                self._receive()
            finally:
                self._receiving = False
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
            self._serve(call.service, call.method, call.payload, self.answer(call.stream))

    def flush(self) -> None:
        """Sends what can be sent without waiting."""
        if self._sock.fileno() < 0 or self._receiving:
            return
        self._unsent += self.protocol.take()
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
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

    def fileno(self) -> int:
        """Its descriptor, -1 after its end."""
        return self._sock.fileno()

    def answer(self, stream: int) -> Answer:
        """Where the call of a stream is answered."""
        return _Answer(self, stream)

    # -- from worker to worker -------------------------------------------------------------------------------

    def rests(self, waits: set[int]) -> bool:
        """Whether nothing is on its way in or out, and only the calls of ``waits`` are unanswered."""
        return not self._unsent and self.protocol.rests and set(self.protocol.unanswered) == waits

    def save(self, parcel: Parcel) -> SavedConnection:
        """What ``restore`` needs; only while it ``rests``."""
        last, unanswered = self.protocol.save()
        return {"fd": parcel.put(self.fileno()), "last": last, "open": unanswered}

    def restore(self, saved: SavedConnection) -> None:
        """Goes on with the streams that ``save`` gave."""
        self.protocol.restore(saved["last"], saved["open"])

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
        self._unsent = bytearray()
        # calls that wait for long still refer to us, but what came half or was not read need not stay
        self.protocol = ServerConnection()
        self._gone(self)
