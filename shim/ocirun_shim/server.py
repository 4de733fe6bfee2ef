"""The server of one shim: its socket, its connections, and its end.

containerd takes the end of a connection for the death of the container, so a connection is closed by the
client, or when all is over: Shutdown is answered when every event was told, and then everything ends.
"""

from __future__ import annotations

import os
import select
import socket

from google.protobuf.empty_pb2 import Empty

from ocirun.errors import OcirunError
from ocirun_shim import log, sockets
from ocirun_shim.connection import Connection, is_ours
from ocirun_shim.events import Publisher
from ocirun_shim.loop import Loop
from ocirun_shim.orphans import Orphans
from ocirun_shim.service import NAMES, TaskService
from ocirun_shim.ttrpc import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_shim.answers import Answer

#: Where the state directories of a namespace are.
ROOT = "/run/containerd/ocirun"

#: How long Shutdown waits for events that containerd has not taken: it gives itself three seconds for it.
_FLUSH_SECONDS = 2.0
#: How long a shim outlives its last connection for events that nobody has taken.
_LINGER_SECONDS = 300.0
#: How long a shim without containers and without connections stays: its containerd may be starting.
_LONELY_SECONDS = 60.0


def state_root(namespace: str) -> str:
    """The directory of the state directories of a containerd namespace."""
    return os.path.join(ROOT, namespace)


class Server:
    """The shim at a bound and listening socket; ``events`` is containerd's own ttrpc socket, "" for none."""

    def __init__(self, listener: socket.socket, namespace: str, events: str) -> None:
        self.loop = Loop()
        self._listener = listener
        self._publisher = Publisher(self.loop, events, namespace)
        self.service = TaskService(
            self.loop, self._publisher, namespace, state_root(namespace), self._shut_down
        )
        self._connections: set[Connection] = set()
        self._ending = False
        listener.setblocking(False)
        self._watch = self.loop.watch(listener.fileno(), select.EPOLLIN, lambda _events: self._accept())
        self._orphans = Orphans(self.loop, self._known)
        self._look_lonely()

    def run(self) -> None:
        """Serves until Shutdown."""
        self.loop.run()
        self._publisher.close()
        self._orphans.close()
        self.loop.close()

    def _known(self) -> set[int]:
        """The children that somebody waits for."""
        known: set[int] = set()
        for container in self.service.containers.values():
            known.add(container.init.pid)
            known.update(one.process.pid for one in container.execs.values())
        return known

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:  # EMFILE, or it hung up again
            log.debug(f"accept: {error.strerror}")
            return
        if not is_ours(accepted):
            log.warning("a client of another user was turned away")
            accepted.close()
            return
        self._connections.add(Connection(self.loop, accepted, self._serve, self._disconnected))

    def _serve(self, service: str, method: str, payload: bytes, answer: Answer) -> None:
        if service in NAMES:
            self.service.call(method, payload, answer)
        else:
            answer.fail(codes.UNIMPLEMENTED, f"service {service}")

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._look_lonely()

    # -- the end ---------------------------------------------------------------------------------------------

    def _look_lonely(self) -> None:
        self.loop.call_at(self.loop.now() + _LONELY_SECONDS, self._end_if_lonely)

    def _end_if_lonely(self) -> None:
        if self.service.empty and not self._connections and not self._ending:
            log.warning("no container and no client: this shim ends")
            self._end()

    def _shut_down(self, answer: Answer) -> None:
        """Everything is told first: containerd removes the bundle when it sees us go."""

        def told() -> None:
            if not self._ending:
                answer.send(Empty())
                self._end()

        self._publisher.when_idle(told)
        self.loop.call_at(self.loop.now() + _FLUSH_SECONDS, told)

    def _end(self) -> None:
        self._ending = True
        self._remove_socket()
        for connection in tuple(self._connections):
            connection.close_when_sent()
        self._publisher.when_idle(self._stop)
        self.loop.call_at(self.loop.now() + _LINGER_SECONDS, self.loop.stop)

    def _stop(self) -> None:
        """One turn of the loop later than the last byte."""
        if self._connections:
            self.loop.call_at(self.loop.now() + 0.01, self._stop)
        else:
            self.loop.stop()

    def _remove_socket(self) -> None:
        """Nobody may find a socket that does not answer; one that a new shim has bound there stays."""
        self._watch.close()
        path = self._listener.getsockname()
        self._listener.close()
        try:
            sockets.remove_dead(path)
        except (OSError, OcirunError) as error:
            log.warning(f"the socket {path} is left behind: {error}")


def serve(listener: socket.socket, namespace: str, address: str) -> None:
    """Serves a bound and listening socket until Shutdown; ``address`` is containerd's ttrpc socket, or ""."""
    Server(listener, namespace, address).run()
