"""What comes of a filter that asks somebody: its descriptor, which stage sends whenever it is there.

init cannot be waited for: its own filter may hold it until the agent answers, who has nothing to answer on
yet.  So the packet may come before or after what init says, and both processes have to be watched: they hold
each other's end of the socket open, so that its end-of-file would not tell of a death.
"""

from __future__ import annotations

import _socket
import posix as os
import time

from ocirun.errors import HostError
from ocirun.executor import wire
from ocirun.executor.run import killed, next_packet, receive
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun.executor.run import Execution, Observer, Performer
    from ocirun.plan.model import Step
    from ocirun.waiting import Task


#: Seconds for the agent to let init through all that it calls itself below its filter.
_PATIENCE = 30.0


class Arrival:
    """The packets of a helper, less the one with the listener, for which the ``step`` is performed."""

    __slots__ = ("_arrived", "_held", "_hung_up", "_index", "_observer", "_performers", "_step", "_until")

    def __init__(
        self, index: int, step: Step, performers: Mapping[str, Performer], observer: Observer
    ) -> None:
        self._index = index
        self._step = step
        self._performers = performers
        self._observer = observer
        self._arrived = False
        self._hung_up = False
        self._until = 0.0
        #: What says that init is ready, until the listener has been handed on.
        self._held: tuple[bytes, list[int]] | None = None

    def next_packet(self, execution: Execution) -> Task[tuple[bytes, list[int]]]:
        """As that of a helper without a listener.  Raises HelperError when stage dies before it told, what
        the performer raises, and HostError when the agent keeps init waiting."""
        while not self._arrived:
            packet, fds = yield from self._watched(execution)
            if not packet:
                raise killed(execution)
            if _is(packet, wire.LISTENER):
                yield from self._hand_on(execution, fds[0])
                if self._held is not None:
                    return self._held
            elif _is(packet, wire.READY):
                self._held = (packet, fds)
            else:
                return packet, fds
        assert execution.control is not None
        if not (yield Wait(reads=(execution.control.fileno(),), until=self._until)):
            raise unanswered(str(self._step.args[1]), self._step.pointer)
        return (yield from next_packet(execution))

    def _hand_on(self, execution: Execution, listener: int) -> Task[None]:
        self._arrived = True
        execution.slots[str(self._step.args[0])] = listener
        self._observer.before(self._index, self._step)
        yield from self._performers[self._step.verb](self._step, execution.slots)
        self._until = time.monotonic() + _PATIENCE

    def _watched(self, execution: Execution) -> Task[tuple[bytes, list[int]]]:
        """The next packet, b"" when stage is dead."""
        assert execution.control is not None
        stage = os.pidfd_open(execution.stage)
        try:
            while True:
                init = () if self._hung_up or execution.pidfd < 0 else (execution.pidfd,)
                ready = yield Wait(reads=(execution.control.fileno(), stage, *init))
                try:
                    return receive(execution.control)
                except BlockingIOError:
                    if stage in ready:
                        return b"", []
                if execution.pidfd in ready:  # stage looks once more whether there is a listener, and ends
                    execution.control.shutdown(_socket.SHUT_WR)
                    self._hung_up = True
        finally:
            os.close(stage)


def unanswered(path: str, pointer: str) -> HostError:
    """The error for an agent at ``path`` that has the listener and keeps init waiting: without an end to that
    nobody else could have the lock of the container."""
    return HostError(
        f"the seccomp agent at {path} does not answer, and its filter holds init since {_PATIENCE:.0f} s",
        path=path,
        pointer=pointer,
        hint="it must take the listener and answer what is asked on it (seccomp_unotify(2)); ask it about "
        "fewer system calls",
        code="socket",
    )


def _is(packet: bytes, kind: int) -> bool:
    """A report begins with its kind in four bytes, the proof of an execve with a letter."""
    return packet[:4] == kind.to_bytes(4, "little")
