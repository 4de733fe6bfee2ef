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
from ocirun.files import read_file
from ocirun.waiting import LOOKING, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun.executor.run import Execution, Observer, Performer
    from ocirun.plan.model import Step
    from ocirun.waiting import Task


class Arrival:
    """The packets of a helper, less the one with the listener, for which the ``step`` is performed."""

    __slots__ = (
        "_arrived",
        "_held",
        "_hung_up",
        "_index",
        "_observer",
        "_performers",
        "_slept",
        "_step",
        "_until",
    )

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
        self._slept = b""
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
        while not (yield Wait(reads=(execution.control.fileno(),), until=self._until)):
            before, self._slept = self._slept, slept(execution.pid)
            if self._slept and self._slept == before:
                raise unanswered(str(self._step.args[1]), self._step.pointer)
            self._until = time.monotonic() + LOOKING
        return (yield from next_packet(execution))

    def _hand_on(self, execution: Execution, listener: int) -> Task[None]:
        self._arrived = True
        execution.slots[str(self._step.args[0])] = listener
        self._observer.before(self._index, self._step)
        yield from self._performers[self._step.verb](self._step, execution.slots)
        self._until = time.monotonic() + LOOKING

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


def slept(pid: int) -> bytes:
    """How often a process has slept so far where it waits for the agent of its filter now, else b"".

    Twice the same says that it got no answer in between; a program on a file server that is gone is not the
    agent's fault.  The kernel names the function that sleeps in wchan (proc_pid_wchan(5)), with the filter's
    where the compiler has put the one into the other; where it names none, who sleeps counts as waiting.
    """
    try:
        told = read_file(f"/proc/{pid}/status")
        function = read_file(f"/proc/{pid}/wchan")
    except OSError:  # it has ended, which is told otherwise
        return b""
    running = told.partition(b"\nState:\t")[2][:1] == b"R"
    if running or (b"seccomp" not in function and function not in (b"", b"0")):
        return b""
    return told.partition(b"\nvoluntary_ctxt_switches:\t")[2].partition(b"\n")[0]


def unanswered(path: str, pointer: str) -> HostError:
    """The error for an agent at ``path`` that has the listener and keeps init waiting: without an end to that
    nobody else could have the lock of the container."""
    return HostError(
        f"the seccomp agent at {path} does not answer, and its filter holds init since {LOOKING:.0f} s",
        path=path,
        pointer=pointer,
        hint="it must take the listener and answer what is asked on it (seccomp_unotify(2)); ask it about "
        "fewer system calls",
        code="socket",
    )


def _is(packet: bytes, kind: int) -> bool:
    """A report begins with its kind in four bytes, the proof of an execve with a letter."""
    return packet[:4] == kind.to_bytes(4, "little")
