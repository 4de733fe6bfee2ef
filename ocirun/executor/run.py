"""Runs a compiled plan: host steps here, stage and init steps in the helper, rendezvous in between.

    host                         stage                        init
     | host steps before it        .                            .
     | spawn, plan by memfd ----> stage steps                   .
     |                            clone_init ----------------> init steps
     | <--- BORN (pid, pidfd) --- exit                          |
     | <--- MEET (slots) -------------------------------------- stop
     | host steps of the meet                                   |
     | ---- go (slots) ---------------------------------------> go on
     | <--- READY --------------------------------------------- await_start, or
     | <--- FAILED (step, errno) ------------------------------ exit

All reports come as packets over one AF_UNIX SOCK_SEQPACKET pair; its end-of-file without READY or DONE says
that the helper was killed.
"""

from __future__ import annotations

import _socket
import os
import select
import sys
import time

from ocirun.errors import HelperError
from ocirun.executor import wire
from ocirun.executor.sealed import open_helper, sealed
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ocirun.plan.compile import Program
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

    #: Does one host step; gets the step and the descriptors of the slots by name.
    Performer = Callable[[Step, dict[str, int]], "Generator[Wait, tuple[int, ...], None]"]

#: The longest packet of the helper: header, operation and a path.
_PACKET = 16384
#: Signals the helper must not die of, though the terminal or the caller sends them to the whole group: all.
_ALL_SIGNALS = frozenset(range(1, 65)) - {9, 19, 32, 33}
_PATIENCE = 60.0


class Observer:
    """What the executor tells while it runs: nothing here; the lifecycle writes its journal from it."""

    def before(self, index: int, step: Step) -> None:
        """``step`` is about to be done (for steps of the helper: before the helper starts)."""

    def born(self, pid: int) -> None:
        """Init exists, with this pid in the caller's pid namespace."""

    def warning(self, step: int, text: str) -> None:
        """The helper could not do a part of a step that may fail."""


class Execution:
    """A plan on its way: the helper's socket and process, init's pid and pidfd, the open slots."""

    __slots__ = ("control", "pid", "pidfd", "slots", "stage")

    def __init__(self) -> None:
        self.control: _socket.socket | None = None
        self.stage = 0
        self.pid = 0
        self.pidfd = -1
        self.slots: dict[str, int] = {}

    def close(self, *, keep: Sequence[str] = ()) -> None:
        """Closes what is open but the slots named in ``keep`` and the pidfd of init."""
        if self.control is not None:
            self.control.close()
            self.control = None
        for name in [name for name in self.slots if name not in keep]:
            os.close(self.slots.pop(name))


def execute(
    program: Program,
    performers: Mapping[str, Performer],
    observer: Observer,
    execution: Execution,
    preserve: int = 0,
) -> Task[None]:
    """Runs ``program`` until init waits for its start (or, without init, until all steps are done).

    ``execution`` is filled as things come to be, so that a caller who catches an exception knows what to
    undo. Raises StepError for a step the kernel refused, HelperError when the helper died.
    """
    for index, step in program.before:
        observer.before(index, step)
        yield from performers[step.verb](step, execution.slots)
    if not program.records:
        return
    for index, step in program.records:
        observer.before(index, step)
    _spawn(program, execution, preserve)
    try:
        yield from _follow(program, performers, observer, execution)
    finally:
        if execution.control is not None:
            execution.control.close()
            execution.control = None
        yield from _reap_stage(execution)


def _spawn(program: Program, execution: Execution, preserve: int) -> None:
    """Starts the stage with its two descriptors; everything else of ours is close-on-exec.

    No signal may reach it but SIGKILL: a Ctrl-C at the terminal goes to the whole foreground group, and it is
    ours to decide what that undoes.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    execution.control = _socket.socket(fileno=ours.detach())
    first = 3 + preserve
    high: list[int] = []
    try:
        high.append(_above(theirs.detach(), first + 2))
        high.append(_above(sealed(wire.encode(program), "ocirun-plan", executable=False), first + 2))
        high.append(_above(open_helper(), first + 2))
        execution.stage = os.posix_spawn(
            f"/proc/self/fd/{high[2]}",
            ["ocirun-init", str(preserve)],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, high[0], first), (os.POSIX_SPAWN_DUP2, high[1], first + 1)],
            setsigmask=_ALL_SIGNALS,
        )
    except OSError as error:
        raise HelperError(f"start the helper: {error.strerror}", errno=error.errno or 0) from error
    finally:
        for fd in high:
            os.close(fd)


def _above(fd: int, lowest: int) -> int:
    """``fd`` moved out of the way of those that the helper expects at fixed places."""
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    finally:
        os.close(fd)


def _follow(
    program: Program, performers: Mapping[str, Performer], observer: Observer, execution: Execution
) -> Task[None]:
    while True:
        report, fds = yield from _next_report(execution)
        if report.kind == wire.BORN:
            execution.pid, execution.pidfd = report.value, fds[0]
            observer.born(report.value)
        elif report.kind == wire.MEET:
            yield from _meet(program, performers, observer, execution, report.step, fds)
        elif report.kind == wire.WARNING:
            observer.warning(report.step, f"{report.operation} {report.path}".strip())
        elif report.kind == wire.FAILED:
            from ocirun.executor.explain import failed_step

            raise failed_step(program, report)
        elif report.kind in (wire.READY, wire.DONE):
            return


def _next_report(execution: Execution) -> Task[tuple[wire.Report, list[int]]]:
    assert execution.control is not None
    yield Wait(reads=(execution.control.fileno(),))
    space = _socket.CMSG_SPACE(16 * 4)
    try:
        packet, ancillary, _, _ = execution.control.recvmsg(_PACKET, space, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # it died with our answer unread
        packet, ancillary = b"", []
    if not packet:
        raise _killed(execution)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data) & ~3, 4)]
    return wire.Report(packet), fds


def _killed(execution: Execution) -> HelperError:
    who = f"init, pid {execution.pid}" if execution.pid else f"stage, pid {execution.stage}"
    return HelperError(
        f"the helper was killed before its work was done ({who})",
        hint="somebody sent it SIGKILL, or the kernel ran out of memory for it: see the kernel log",
    )


def _meet(
    program: Program,
    performers: Mapping[str, Performer],
    observer: Observer,
    execution: Execution,
    step: int,
    fds: list[int],
) -> Task[None]:
    meeting = program.meets[step]
    execution.slots.update(zip(meeting.give, fds, strict=True))
    for index, host_step in meeting.steps:
        observer.before(index, host_step)
        yield from performers[host_step.verb](host_step, execution.slots)
    assert execution.control is not None
    taken = b"".join([execution.slots[name].to_bytes(4, sys.byteorder) for name in meeting.take])
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, taken)] if taken else []
    try:
        execution.control.sendmsg([b"G"], rights)
    except OSError as error:
        raise _killed(execution) from error


def _reap_stage(execution: Execution) -> Task[None]:
    """Waits for the stage: it ends by itself after BORN, DONE or FAILED; one that does not is killed."""
    if not execution.stage:
        return
    pidfd = os.pidfd_open(execution.stage)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(0):
            ready = yield Wait(reads=(pidfd,), until=time.monotonic() + _PATIENCE)
            if not ready:
                os.kill(execution.stage, 9)
        os.waitpid(execution.stage, 0)
    finally:
        os.close(pidfd)
        execution.stage = 0
