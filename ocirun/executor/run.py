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
that the helper was killed.  In a plan without await_start the proof of ``exec`` comes over the same socket,
in place of READY: "R" before execve, "E" and the reason after one that failed, then the end-of-file.
"""

from __future__ import annotations

import _socket
import os
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
_FLAGS = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
#: Signals the helper must not die of, though the terminal or the caller sends them to the whole group: all.
_ALL_SIGNALS = frozenset(range(1, 65)) - {9, 19, 32, 33}
#: Seconds for a helper to end by itself, and where it has to: it may hang in a mount.
_PATIENCE, _SHORT = 10.0, 0.5


class Observer:
    """What the executor tells while it runs: nothing here; the lifecycle writes its journal from it."""

    def before(self, index: int, step: Step) -> None:
        """``step`` is about to be done (for steps of the helper: before the helper starts)."""

    def born(self, pid: int) -> None:
        """Init exists, with this pid in the caller's pid namespace."""

    def warning(self, step: int, text: str) -> None:
        """The helper could not do a part of a step that may fail."""


class Inheritance:
    """Which descriptors the program gets from us.

    ``preserve`` counts those from 3 upward that it keeps at their numbers; ``stdio`` are the three that
    become its 0, 1 and 2 (some may be the same; they stay the caller's to close), None gives it the caller's.
    """

    __slots__ = ("preserve", "stdio")

    def __init__(self, preserve: int = 0, stdio: tuple[int, int, int] | None = None) -> None:
        self.preserve = preserve
        self.stdio = stdio


class Execution:
    """A plan on its way: the helper's socket and process, init's pid and pidfd, the open slots.

    ``proof`` is what init said of its execve, b"" in a plan with await_start: there ``start`` hears it.
    ``enter`` is the directory of a cgroup that the helper itself has to enter before it puts anybody there,
    "" for none: one that was there before may have been killed once (helper_main.c, enter_cgroup).
    """

    __slots__ = ("control", "enter", "pid", "pidfd", "proof", "slots", "stage")

    def __init__(self) -> None:
        self.control: _socket.socket | None = None
        self.enter = ""
        self.stage = 0
        self.pid = 0
        self.pidfd = -1
        self.proof = b""
        self.slots: dict[str, int] = {}

    def hang_up(self) -> None:
        """Closes the socket: a helper that still lives has nobody to report to, and ends."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def close(self, *, keep: Sequence[str] = ()) -> None:
        """Closes what is open but the slots named in ``keep`` and the pidfd of init."""
        self.hang_up()
        for name in [name for name in self.slots if name not in keep]:
            os.close(self.slots.pop(name))


def execute(
    program: Program,
    performers: Mapping[str, Performer],
    observer: Observer,
    execution: Execution,
    inheritance: Inheritance | None = None,
) -> Task[None]:
    """Runs ``program`` until init waits for its start, or told in ``execution.proof`` how its execve went
    (without init, until all steps are done).

    ``inheritance`` are the descriptors that the program will have, None: the caller's 0, 1 and 2.

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
    _spawn(program, execution, inheritance or Inheritance())
    patience = _SHORT
    try:
        yield from _follow(program, performers, observer, execution)
        patience = _PATIENCE
    except GeneratorExit:
        execution.stage = 0  # nobody waits for us any more: it ends by itself when it finds its socket closed
        raise
    except BaseException:
        yield from _await_birth(execution, observer)
        raise
    finally:
        execution.hang_up()
        yield from _reap_stage(execution, observer, patience)


def _spawn(program: Program, execution: Execution, inheritance: Inheritance) -> None:
    """Starts the stage with its two descriptors and the program's; everything else of ours is close-on-exec.

    No signal may reach it but SIGKILL: a Ctrl-C at the terminal goes to the whole foreground group, and it is
    ours to decide what that undoes.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    execution.control = _socket.socket(fileno=ours.detach())
    first = 3 + inheritance.preserve
    enter = [f"{execution.enter}/cgroup.procs"] if execution.enter else []
    high: list[int] = []
    try:
        high.append(_above(theirs.detach(), first + 2))
        high.append(_above(sealed(wire.encode(program), "ocirun-plan", executable=False), first + 2))
        high.append(_above(open_helper(), first + 2))
        # above, too: else the first dup2 could close what the next one needs
        high += [_copy_above(fd, first + 2) for fd in inheritance.stdio or ()]
        places = [(high[0], first), (high[1], first + 1), *zip(high[3:], range(3), strict=False)]
        execution.stage = os.posix_spawn(
            f"/proc/self/fd/{high[2]}",
            ["ocirun-init", str(inheritance.preserve), *enter],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places],
            setsigmask=_ALL_SIGNALS,
        )
    except OSError as error:
        raise HelperError(f"start the helper: {error.strerror}", errno=error.errno or 0) from error
    finally:
        for fd in high:
            os.close(fd)


def _above(fd: int, lowest: int) -> int:
    """``fd`` moved out of the way of those that the helper expects at fixed places."""
    try:
        return _copy_above(fd, lowest)
    finally:
        os.close(fd)


def _copy_above(fd: int, lowest: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)


def _follow(
    program: Program, performers: Mapping[str, Performer], observer: Observer, execution: Execution
) -> Task[None]:
    while True:
        packet, fds = yield from _next_packet(execution)
        if packet[:1] == b"R" or execution.proof:
            execution.proof += packet
            if not packet:
                return
            continue
        if not packet:
            raise _killed(execution)
        report = wire.Report(packet)
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


def _next_packet(execution: Execution) -> Task[tuple[bytes, list[int]]]:
    """The next packet of the helper, b"" at its end, and the descriptors that came along."""
    assert execution.control is not None
    while True:
        yield Wait(reads=(execution.control.fileno(),))
        try:
            return _receive(execution.control)
        except BlockingIOError:  # who woke us was mistaken
            continue


def _receive(control: _socket.socket) -> tuple[bytes, list[int]]:
    space = _socket.CMSG_SPACE(16 * 4)
    try:
        packet, ancillary, _, _ = control.recvmsg(_PACKET, space, _FLAGS)
    except ConnectionResetError:  # it died with our answer unread
        packet, ancillary = b"", []
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data) & ~3, 4)]
    return packet, fds


def _await_birth(execution: Execution, observer: Observer) -> Task[None]:
    """Takes the report of an init that the stage may be cloning just when we have to stop.

    Else nobody could name it to end and reap it: it is our child.  A helper that waits for an answer ends.
    """
    control = execution.control
    if execution.pid or control is None:
        return
    control.shutdown(_socket.SHUT_WR)
    until = time.monotonic() + _SHORT
    while (yield Wait(reads=(control.fileno(),), until=until)):
        try:
            packet, fds = _receive(control)
        except BlockingIOError:
            continue
        if packet and wire.Report(packet).kind == wire.BORN:
            execution.pid, execution.pidfd = wire.Report(packet).value, fds.pop()
            observer.born(execution.pid)
        for fd in fds:
            os.close(fd)
        if not packet or execution.pid:
            return


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


def _reap_stage(execution: Execution, observer: Observer, patience: float) -> Task[None]:
    """Waits for the stage: it ends by itself after BORN, DONE or FAILED, and when nobody listens any more.

    One that does not is killed; one that hangs in the kernel (a mount that waits for a server) is left.
    """
    stage, execution.stage = execution.stage, 0
    if not stage:
        return
    pidfd = os.pidfd_open(stage)
    ended: tuple[int, ...] = ()
    try:
        ended = yield Wait(reads=(pidfd,), until=time.monotonic() + patience)
        if not ended:
            os.kill(stage, 9)
            ended = yield Wait(reads=(pidfd,), until=time.monotonic() + patience)
        if not ended:
            observer.warning(0, f"the helper, pid {stage}, was killed and hangs in the kernel")
    finally:
        if not ended:
            os.kill(stage, 9)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)
