"""The processes of a shim, init and execs, as it knows them: all that State, Wait and Pids ask is in here.

A process is created, runs and stops; what waits for its end waits here.  The end is seen through the pidfd.
Init stays a zombie until it is deleted, so that its pid and status outlive a containerd that was away.
"""

from __future__ import annotations

import os
import select
import time

from ocirun.lifecycle.process import send_signal
from ocirun_shim.keeper import UNKNOWN, status_of
from ocirun_shim.messages.task_pb2 import WaitResponse
from ocirun_shim.stdio import Stdio, Streams
from ocirun_shim.times import to_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    from ocirun_shim.answers import Answer
    from ocirun_shim.handover import Parcel
    from ocirun_shim.keeper import Keeping
    from ocirun_shim.loop import Loop, Timer, Watch
    from ocirun_shim.stdio import SavedStdio

    class SavedProcess(TypedDict):
        """A process as one worker hands it to the next; descriptors are places in a Parcel."""

        exec_id: str
        streams: tuple[str, str, str, bool]
        pid: int
        pidfd: int
        status: str
        exit: tuple[int, int] | None
        told: bool
        stdio: SavedStdio | None
        waits: list[tuple[int, int]]


CREATED, RUNNING, STOPPED = "created", "running", "stopped"

#: How long Delete waits for the rest of the output: somebody who outlived the process may hold it open.
DRAIN_SECONDS = 10.0
#: How long until a process whose end we may not see yet is looked at again.
_TRACED_SECONDS = 0.1


class Exit:
    """How a process ended: ``status`` as a shell has it (128 + signal), ``when`` in ns after 1970."""

    __slots__ = ("status", "when")

    def __init__(self, status: int, when: int) -> None:
        self.status = status
        self.when = when


class Process:
    """One process: ``exec_id`` is "" for init.  ``pid`` is 0 before it is born, ``exit`` None before its end.

    ``busy`` is set while it is being started: an end that comes meanwhile is told after the start.  ``told``
    is set when its end was published.  ``keeping`` leads to the parent of what a worker before us has made.
    """

    __slots__ = (
        "_keeping", "_loop", "_waiters", "_watch", "busy", "exec_id", "exit", "pid", "pidfd", "status",
        "stdio", "streams", "told", "waits",
    )  # fmt: skip

    def __init__(self, loop: Loop, exec_id: str, streams: Streams, keeping: Keeping | None = None) -> None:
        self._loop = loop
        self._keeping = keeping
        self.exec_id = exec_id
        self.streams = streams
        self.stdio: Stdio | None = None
        self.pid = 0
        self.pidfd = -1
        self.status = CREATED
        self.busy = False
        self.exit: Exit | None = None
        self.told = False
        self._watch: Watch | None = None
        self._waiters: list[Callable[[Exit], None]] = []
        #: The calls of Wait that its end will answer.
        self.waits: list[Answer] = []

    def sibling(self, exec_id: str, streams: Streams) -> Process:
        """Another process of the same container."""
        return Process(self._loop, exec_id, streams, self._keeping)

    def born(self, pid: int, pidfd: int, console: int, ended: Callable[[], None]) -> None:
        """It exists; takes over ``pidfd`` and ``console`` (-1: none), and calls ``ended`` once at its end."""
        self.pid, self.pidfd = pid, pidfd
        if self.stdio is not None:
            self.stdio.started()
            if console >= 0:
                self.stdio.attach_terminal(console)
        self._await(ended)

    def _await(self, ended: Callable[[], None]) -> None:
        self._watch = self._loop.watch(self.pidfd, select.EPOLLIN, lambda _events: self._ended(ended))

    def _ended(self, ended: Callable[[], None]) -> None:
        self._stop_watching()
        # init stays a zombie for whoever deletes it; nobody else asks for an exec
        keep = os.WNOWAIT if not self.exec_id else 0
        status = _status(self.pid, self.pidfd, keep, self._keeping)
        if status is None:
            self._loop.call_at(self._loop.now() + _TRACED_SECONDS, lambda: self._look_again(ended))
            return
        self.exit = Exit(status, time.time_ns())
        self.status = STOPPED
        ended()

    def _look_again(self, ended: Callable[[], None]) -> None:
        if self.pidfd >= 0 and self.exit is None and self._watch is None:
            self._await(ended)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def when_told(self, callback: Callable[[Exit], None]) -> None:
        """Calls ``callback`` when the end has been told (``tell``); at once if it has."""
        if self.exit is not None and self.told:
            callback(self.exit)
        else:
            self._waiters.append(callback)

    def tell(self) -> None:
        """The end is published: whoever waits for it hears of it now."""
        assert self.exit is not None
        self.told = True
        waiters, self._waiters = self._waiters, []
        for callback in waiters:
            callback(self.exit)
        waits, self.waits = self.waits, []
        for answer in waits:
            self._answer(answer)

    def wait(self, answer: Answer) -> None:
        """Answers a call of Wait, when the end was told."""
        if self.told:
            self._answer(answer)
        else:
            self.waits = [one for one in self.waits if one.open]
            self.waits.append(answer)

    def _answer(self, answer: Answer) -> None:
        assert self.exit is not None
        answer.send(WaitResponse(exit_status=self.exit.status, exited_at=to_timestamp(self.exit.when)))

    def never_ran(self) -> None:
        """A process whose start failed, or that was deleted before it: nobody may wait for it for ever."""
        self.status = STOPPED
        self.exit = Exit(255, time.time_ns())
        self.busy = False
        self.tell()

    def signal(self, number: int) -> None:
        """Sends a signal; raises StateError when the process has ended."""
        send_signal(self.pidfd, number)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` when all output was passed on, or after DRAIN_SECONDS."""
        stdio = self.stdio
        if stdio is None or stdio.drained:
            callback()
            return
        _First(self._loop, stdio, callback)

    # -- from worker to worker -------------------------------------------------------------------------------

    @property
    def rests(self) -> bool:
        """Whether nothing is on its way: neither its start, nor its delete, nor output that is held."""
        return not self.busy and not self._waiters and (self.stdio is None or self.stdio.rests)

    def save(self, parcel: Parcel) -> SavedProcess:
        """What ``restore`` needs; only while it ``rests``."""
        streams = self.streams
        return {
            "exec_id": self.exec_id,
            "streams": (streams.stdin, streams.stdout, streams.stderr, streams.terminal),
            "pid": self.pid,
            "pidfd": parcel.put(self.pidfd),
            "status": self.status,
            "exit": (self.exit.status, self.exit.when) if self.exit else None,
            "told": self.told,
            "stdio": self.stdio.save(parcel) if self.stdio else None,
            "waits": [(parcel.put(answer.connection), answer.stream) for answer in self.waits if answer.open],
        }

    def restore(
        self,
        saved: SavedProcess,
        parcel: Parcel,
        answer: Callable[[int, int], Answer],
        ended: Callable[[], None],
    ) -> None:
        """Takes over what ``save`` gave; ``ended`` is called once at its end.

        ``answer`` gives the answer of a stream of a saved connection.
        """
        self.waits = [answer(place, stream) for place, stream in saved["waits"]]
        self.pid, self.pidfd = saved["pid"], parcel.take(saved["pidfd"])
        self.status, self.told = saved["status"], saved["told"]
        if saved["exit"]:
            self.exit = Exit(*saved["exit"])
        if saved["stdio"]:
            self.stdio = Stdio(self._loop)
            self.stdio.restore(saved["stdio"], parcel)
        if self.exit is None and self.pidfd >= 0:
            self._await(ended)

    def close(self) -> None:
        """Lets go of its streams and its pidfd."""
        self._stop_watching()
        if self.stdio is not None:
            self.stdio.close()
            self.stdio = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class _First:
    """The end of the output or of our patience, whichever comes first, told once."""

    __slots__ = ("_callback", "_timer")

    def __init__(self, loop: Loop, stdio: Stdio, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback
        self._timer: Timer = loop.call_at(loop.now() + DRAIN_SECONDS, self._tell)
        stdio.when_drained(self._tell)

    def _tell(self) -> None:
        self._timer.cancel()
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


def _status(pid: int, pidfd: int, keep: int, keeping: Keeping | None) -> int | None:
    """The status of an ended child (waitid(2), P_PIDFD), or of one that a worker before us has left to our
    keeper; 255 where somebody else has reaped it.

    None while the end of a child is not ours to see: who traces it (ptrace(2)) has to see it first.
    """
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | keep)
    except ChildProcessError:
        return keeping.status(pid) if keeping else UNKNOWN
    return status_of(ended) if ended is not None else None
