"""A blocking ttrpc client for tests and the bench, with a deadline on everything it waits for.

    with Client("/run/containerd/s/…") as client:
        state = client.call("containerd.task.v3.Task", "State", StateRequest(id="a"), StateResponse)

``send`` and ``receive`` keep several calls open at a time; ``call`` is the two in a row.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, TypeVar

from ocirun_shim.ttrpc.client import Answer, ClientConnection
from ocirun_shim.ttrpc.codes import OK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from google.protobuf.message import Message

    Response = TypeVar("Response", bound=Message)

_CHUNK = 65536
_PAUSE = 0.005
#: The key of the metadata that names the containerd namespace.
NAMESPACE = "containerd-namespace-ttrpc"


class CallError(Exception):
    """A call was answered with a status; ``code`` is one of ocirun_shim.ttrpc.codes."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"code {code}: {message}")
        self.code = code
        self.message = message


class Client:
    """One connection to ``server``, the path of a Unix socket or a connected socket, which it then owns.

    ``timeout`` is in seconds, and holds for each wait that is not given its own.
    """

    def __init__(
        self, server: str | socket.socket, *, timeout: float = 30, metadata: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.timeout = timeout
        self.metadata = tuple(metadata)
        self.connection = ClientConnection()
        self._answers: dict[int, Answer] = {}
        self._socket = _connected(server, timeout) if isinstance(server, str) else server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        response: type[Response],
        timeout: float | None = None,
    ) -> Response:
        """The response to ``request``.

        Raises CallError for a status, TimeoutError after ``timeout`` seconds, ConnectionError when the server
        hangs up first.
        """
        return self.receive(self.send(service, method, request), response, timeout)

    def send(self, service: str, method: str, request: Message, timeout_nano: int = 0) -> int:
        """Sends a call and gives its stream, to be received later; ``timeout_nano`` is for the server."""
        payload = request.SerializeToString()
        stream = self.connection.call(service, method, payload, timeout_nano, self.metadata)
        self._socket.settimeout(self.timeout)
        self._socket.sendall(self.connection.take())
        return stream

    def receive(self, stream: int, response: type[Response], timeout: float | None = None) -> Response:
        """The response to the call of ``stream``; raises as ``call`` does."""
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        while stream not in self._answers:
            self._read(until)
        answer = self._answers.pop(stream)
        if answer.code != OK:
            raise CallError(answer.code, answer.message)
        return response.FromString(answer.payload)

    def drain(self) -> None:
        """Waits until the server hangs up; raises TimeoutError."""
        self._socket.settimeout(self.timeout)
        with contextlib.suppress(ConnectionError):
            while self._socket.recv(_CHUNK):
                pass

    def _read(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the server has not answered in time")
        self._socket.settimeout(left)
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the server has hung up")
        self._answers.update((answer.stream, answer) for answer in self.connection.feed(data))


def _connected(path: str, timeout: float) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connected.settimeout(timeout)
    try:
        _connect(connected, path, time.monotonic() + timeout)
    except OSError:
        connected.close()
        raise
    return connected


def _connect(connecting: socket.socket, path: str, until: float) -> None:
    """Patiently, too, where the queue is full, which with a timeout is an error at once (connect(2))."""
    while True:
        try:
            connecting.connect(path)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return
