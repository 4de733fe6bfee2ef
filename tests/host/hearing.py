"""The other end of the events of a shim: what containerd hears of its containers."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

from ocirun_shim.messages.events_pb2 import ForwardRequest
from ocirun_shim.ttrpc.server import ServerConnection

from tests.host import observe

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from google.protobuf.message import Message
    from ocirun_shim.messages.types_pb2 import Envelope

    Event = TypeVar("Event", bound=Message)


class Hearing:
    """Listens at ``path``, for use with ``with``; in a thread, as who hears no answer tells again."""

    def __init__(self, path: Path) -> None:
        self._heard: list[Envelope] = []
        self._clients: dict[socket.socket, ServerConnection] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._thread.join()
        for one in (self._theirs, self._listener, *self._clients):
            one.close()

    def topics(self, last: str) -> list[str]:
        """The topics of all events in their order; the ``last`` is waited for."""
        observe.eventually(lambda: last in self._topics(), f"{last} is told")
        return self._topics()

    def event(self, topic: str, kind: type[Event]) -> Event:
        """The only event of that topic."""
        (found,) = [one.event for one in self._heard if one.topic == topic]
        assert found.type_url == kind.DESCRIPTOR.full_name
        return kind.FromString(found.value)

    def _topics(self) -> list[str]:
        return [one.topic for one in self._heard]

    def _listen(self) -> None:
        while True:
            for one in select.select([self._theirs, self._listener, *self._clients], [], [])[0]:
                if one is self._theirs:
                    return
                if one is self._listener:
                    self._clients[one.accept()[0]] = ServerConnection()
                else:
                    self._serve(one)

    def _serve(self, client: socket.socket) -> None:
        try:
            data = client.recv(65536)
        except ConnectionError:  # it has closed with our answer unread (unix(7))
            data = b""
        if not data:
            del self._clients[client]
            client.close()
            return
        for call in self._clients[client].feed(data):
            envelope = ForwardRequest.FromString(call.payload).envelope
            if envelope not in self._heard:  # else we have answered too late, and it was sent again
                self._heard.append(envelope)
            self._clients[client].reply(call.stream, b"")
        with contextlib.suppress(ConnectionError):  # it has not waited for us
            client.sendall(self._clients[client].take())
