"""The server of one shim: its socket, its connections, its rest and its end.

containerd takes the end of a connection for the death of the container, so a connection is closed by the
client, or when all is over: Shutdown is answered when every event was told, and then everything ends.  When
nothing happens for a while all is handed to the keeper, and this process ends; the next one goes on with it.
"""

from __future__ import annotations

import os
import select
import socket

from google.protobuf.empty_pb2 import Empty

from ocirun.errors import OcirunError, StateError
from ocirun_shim import handover, log, sockets
from ocirun_shim.connection import Connection, is_ours
from ocirun_shim.events import Publisher
from ocirun_shim.loop import Loop
from ocirun_shim.orphans import Orphans
from ocirun_shim.service import TaskService

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from ocirun_shim.answers import Answer
    from ocirun_shim.connection import SavedConnection
    from ocirun_shim.keeper import Keeping
    from ocirun_shim.service import SavedService

    class Saved(TypedDict):
        """All of a shim as one worker hands it to the next; ``patience`` and ``when`` are in seconds."""

        log: int
        patience: float
        when: float
        connections: list[SavedConnection]
        service: SavedService


#: How long Shutdown waits for events that containerd has not taken: it gives itself three seconds for it.
_FLUSH_SECONDS = 2.0
#: How long a shim outlives its last connection for events that nobody has taken.
_LINGER_SECONDS = 300.0
#: How long to accept nobody when no descriptor is left.
_NO_DESCRIPTOR = 0.1
#: How long nothing must happen before a worker hands over: at first, and at most, when it is woken often.
_PATIENCE, _MOST_PATIENCE = 1.0, 10.0
#: How long after the keeper could not take it all.
_REFUSED_SECONDS = 60.0
#: Woken again within so many times that patience, it was too short.
_OFTEN = 5
#: How long a shim without containers and without connections stays: its containerd may be starting.
_LONELY_SECONDS = 60.0


def state_root(namespace: str) -> str:
    """The directory of the state directories of a containerd namespace."""
    return os.path.join(sockets.place(), "ocirun", namespace)


class Server:
    """The shim at a bound and listening socket; ``events`` is containerd's own ttrpc socket, "" for none.

    ``keeping`` leads to the keeper, None where there is none: then it never rests.
    """

    def __init__(
        self, listener: socket.socket, namespace: str, events: str, keeping: Keeping | None = None
    ) -> None:
        self.loop = Loop()
        self._keeping = keeping
        self._patience = _PATIENCE
        self._turns = -1
        self._listener = listener
        self._publisher = Publisher(self.loop, events, namespace)
        self.service = TaskService(
            self.loop,
            self._publisher,
            namespace,
            state_root(namespace),
            keeping,
            self._shut_down,
        )
        self._connections: set[Connection] = set()
        self._ending = False
        #: The path of our socket, when all has ended and it could not be removed yet.
        self._left_behind = ""
        listener.setblocking(False)
        self._watch = self.loop.watch(listener.fileno(), select.EPOLLIN, lambda _events: self._accept())
        self._orphans = Orphans(self.loop, keeping, self._known)
        self._look_lonely()
        if keeping is not None:
            self._rest_later()

    def run(self) -> None:
        """Serves until Shutdown."""
        self.loop.run()
        if self._left_behind:
            self._remove_socket()
        self._publisher.close()
        self.loop.close()

    def _known(self) -> set[int]:
        """Init is a zombie until it is deleted; of an exec somebody sees the end, and that is all."""
        known = {container.init.pid for container in self.service.containers.values()}
        known.update(process.pid for process in self.service.processes() if process.exit is None)
        return known

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:  # EMFILE, or it hung up again; it would be told again at once
            log.debug(f"accept: {error.strerror}")
            self._watch.change(0)
            self.loop.call_at(self.loop.now() + _NO_DESCRIPTOR, lambda: self._watch.change(select.EPOLLIN))
            return
        if not is_ours(accepted):
            log.warning("a client of another user was turned away")
            accepted.close()
            return
        self._add(accepted)

    def _add(self, accepted: socket.socket) -> Connection:
        connection = Connection(self.loop, accepted, self._serve, self._disconnected)
        self._connections.add(connection)
        return connection

    def _serve(self, service: str, method: str, payload: bytes, answer: Answer) -> None:
        self.service.call(service, method, payload, answer)

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._ending:
            self._publisher.when_idle(self._stop)
        else:
            self._look_lonely()

    # -- the rest --------------------------------------------------------------------------------------------

    def _rest_later(self) -> None:
        self.loop.call_at(self.loop.now() + self._patience, self._look_tired)

    def _look_tired(self) -> None:
        """Hands over when nothing has happened since the last look, and nothing is under way."""
        turns, self._turns = self._turns, self.loop.turns
        try:
            if turns == self._turns and self._rests():
                self._hand_over()
        except (OSError, ValueError) as error:  # no memory or descriptor: it goes on as it is
            self._patience = min(2 * self._patience, _REFUSED_SECONDS)
            log.warning(f"this shim cannot rest: {error}")
        finally:
            self._rest_later()

    def _rests(self) -> bool:
        service = self.service
        if self._ending or service.empty or self.loop.jobs or not (self._publisher.idle and service.rests):
            return False
        waits: dict[int, set[int]] = {}
        for process in service.processes():
            for answer in process.waits:
                waits.setdefault(answer.connection, set()).add(answer.stream)
        return all(one.rests(waits.get(one.fileno(), set())) for one in self._connections)

    def _hand_over(self) -> None:
        """Ends this process, unless the keeper cannot take what it has."""
        assert self._keeping is not None
        self._orphans.look()
        self._publisher.hang_up()
        parcel = handover.Parcel()
        state: Saved = {
            "log": parcel.put(2),  # the first: handover.LOG
            "patience": self._patience,
            "when": self.loop.now(),
            "connections": [connection.save(parcel) for connection in self._connections],
            "service": self.service.save(parcel),
        }
        fds = handover.pack(state, parcel)
        taken = self._keeping.hand_over(fds, self.loop.fileno())
        os.close(fds[0])
        if taken:
            os._exit(0)
        self._patience = _REFUSED_SECONDS
        log.warning(f"the keeper cannot take {len(fds)} descriptors: RLIMIT_NOFILE may be too low for it")

    def restore(self, fds: list[int]) -> None:
        """Goes on with what the worker before this one has handed over."""
        found, parcel = handover.unpack(fds)
        saved: Saved = found  # type: ignore[assignment]  # made by _hand_over, in a process like this one
        log.write_to(parcel.take(saved["log"]))
        connections: dict[int, Connection] = {}
        for one in saved["connections"]:
            connection = self._add(socket.socket(fileno=parcel.take(one["fd"])))
            connection.restore(one)
            connections[one["fd"]] = connection
        self.service.restore(
            saved["service"], parcel, lambda place, stream: connections[place].answer(stream)
        )
        if self.loop.now() - saved["when"] < _OFTEN * saved["patience"]:
            self._patience = min(2 * saved["patience"], _MOST_PATIENCE)
        else:
            self._patience = max(saved["patience"] / 2, _PATIENCE)

    # -- the end ---------------------------------------------------------------------------------------------

    def _look_lonely(self) -> None:
        self.loop.call_at(self.loop.now() + _LONELY_SECONDS, self._end_if_lonely)

    def _end_if_lonely(self) -> None:
        if self.service.empty and not self._connections and not self._ending:
            log.warning("no container and no client: this shim ends")
            self._end()

    def _shut_down(self, answer: Answer | None) -> None:
        """Everything is told first: containerd removes the bundle when it sees us go."""

        def told() -> None:
            if self._ending:
                return
            if answer is not None:
                answer.send(Empty())
            if self.service.empty:  # nobody has created one meanwhile
                self._end()

        self._publisher.when_idle(told)
        self.loop.call_at(self.loop.now() + _FLUSH_SECONDS, told)

    def _end(self) -> None:
        self._ending = True
        self._close_listener()
        for connection in tuple(self._connections):
            connection.close_when_sent()
        self._publisher.when_idle(self._stop)
        self.loop.call_at(self.loop.now() + _LINGER_SECONDS, self.loop.stop)

    def _stop(self) -> None:
        if not self._connections:
            self.loop.stop()

    def _close_listener(self) -> None:
        """Nobody may find a socket that does not answer; one that a new shim has bound there stays.

        While another start holds the lock of the directory the path stays until the loop has ended, for
        who waits here answers nobody.
        """
        self._watch.close()
        self._left_behind = self._listener.getsockname()
        self._listener.shutdown(socket.SHUT_RDWR)  # the keeper has it too
        self._listener.close()
        try:
            sockets.remove_dead(self._left_behind, patience=0)
        except StateError:
            return
        except (OSError, OcirunError) as error:
            log.warning(f"the socket {self._left_behind} is left behind: {error}")
        self._left_behind = ""

    def _remove_socket(self) -> None:
        try:
            sockets.remove_dead(self._left_behind)
        except (OSError, OcirunError) as error:
            log.warning(f"the socket {self._left_behind} is left behind: {error}")
