"""The end of containerd that the shims send their events to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages.events_pb2 import ForwardRequest, TaskDelete
from ocirun_shim.ttrpc.server import ServerConnection

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 65536


class Events:
    """Listens at ``path``; ``deleted`` has when which container was told to be deleted (CLOCK_MONOTONIC)."""

    def __init__(self, path: Path) -> None:
        self.deleted: dict[str, float] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        protocol = ServerConnection()
        with connection, contextlib.suppress(ConnectionError):
            while data := connection.recv(_CHUNK):
                for call in protocol.feed(data):
                    self._note(call.payload)
                    protocol.reply(call.stream, Empty().SerializeToString())
                connection.sendall(protocol.take())

    def _note(self, payload: bytes) -> None:
        envelope = ForwardRequest.FromString(payload).envelope
        if envelope.topic == "/tasks/delete":
            self.deleted.setdefault(
                TaskDelete.FromString(envelope.event.value).container_id, time.monotonic()
            )
