"""Runs a compiled plan: host steps here, stage and init steps in the helper, rendezvous in between.

    host                         stage                        init
     | host steps before it        .                            .
     | spawn, plan by memfd ----> stage steps                   .
     |                            clone_init ----------------> init steps
     | <--- BORN (pid, pidfd) --- exit                          |
     | <--- MEET (slots) -------------------------------------- stop
     | host steps of the meet                                   |
     | ---- go (slots) ---------------------------------------> go on
     | <--- LISTENER ---------- exit, where it stayed for it    | load_seccomp
     | <--- READY --------------------------------------------- await_start, or
     | <--- FAILED (step, errno) ------------------------------ exit

All reports come as packets over one AF_UNIX SOCK_SEQPACKET pair; its end-of-file without READY or DONE says
that the helper was killed.  In a plan without await_start the proof of ``exec`` comes over the same socket,
in place of READY: "R" before execve, "E" and "T" with the reason after one that failed, then the end-of-file.
Who has failed waits until we hang up, so that we can look at its root file system.
"""

from __future__ import annotations

import _socket
import posix as os
import sys
import time

from ocirun.errors import EXHAUSTED, HelperError, OcirunError, words_of
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
#: Every signal that can be caught: the helper must not die of those that the terminal or the caller sends to
#: the whole group, and the programs of others begin without what we do with them.
ALL_SIGNALS = frozenset(range(1, 65)) - {9, 19, 32, 33}
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
    ``users`` is the step by which the helper enters a user namespace first, 0 for none, and ``map_users``
    what then writes its mappings, by its pid; ``joined`` is the path of one that exists, "" for a new one.
    ``helper`` was opened before (``open_helper``) and becomes ours; -1: it is opened when it is needed.
    """

    __slots__ = (
        "control", "enter", "helper", "joined", "map_users", "pid", "pidfd", "proof", "slots", "stage",
        "users",
    )  # fmt: skip

    def __init__(self, helper: int = -1) -> None:
        self.control: _socket.socket | None = None
        self.enter = ""
        self.helper = helper
        self.users = 0
        self.joined = ""
        self.map_users: Callable[[int], Task[None]] | None = None
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

    def take_helper(self) -> int:
        """A descriptor to execute the helper from, the caller's; raises as ``open_helper``."""
        helper, self.helper = self.helper, -1
        return helper if helper >= 0 else open_helper()

    def close(self, *, keep: Sequence[str] = ()) -> None:
        """Closes what is open but the slots named in ``keep`` and the pidfd of init."""
        self.hang_up()
        if self.helper >= 0:
            os.close(self.take_helper())
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
        if not refused(execution.proof):  # else init waits for us to look around in there
            execution.hang_up()
        yield from _reap_stage(execution, observer, patience)


def refused(proof: bytes) -> bool:
    """Whether init has told all of a failed execve: R, E with the errno, T with how the file begins."""
    return proof[1:2] == b"E" and proof[6:7] == b"T"


def _spawn(program: Program, execution: Execution, inheritance: Inheritance) -> None:
    """Starts the stage with its two descriptors and the program's; everything else of ours is close-on-exec.

    No signal may reach it but SIGKILL: a Ctrl-C at the terminal goes to the whole foreground group, and it is
    ours to decide what that undoes.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    execution.control = _socket.socket(fileno=ours.detach())
    first = 3 + inheritance.preserve
    words = [f"{execution.enter}/cgroup.procs" if execution.enter else "", str(execution.users)]
    words = words[: 2 if execution.users else 1 if execution.enter else 0]
    words += [execution.joined] if execution.joined else []
    high: list[int] = []
    try:
        high.append(_above(theirs.detach(), first + 2))
        high.append(_above(sealed(wire.encode(program), "ocirun-plan", executable=False), first + 2))
        high.append(_above(execution.take_helper(), first + 2))
        # above, too: else the first dup2 could close what the next one needs
        high += [_copy_above(fd, first + 2) for fd in inheritance.stdio or ()]
        places = [(high[0], first), (high[1], first + 1), *zip(high[3:], range(3), strict=False)]
        execution.stage = os.posix_spawn(
            f"/proc/self/fd/{high[2]}",
            ["ocirun-init", str(inheritance.preserve), *words],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places],
            setsigmask=ALL_SIGNALS,
        )
    except OSError as error:
        raise _unstarted(error.errno or 0) from error
    finally:
        for fd in high:
            os.close(fd)


def _unstarted(number: int) -> HelperError:
    import errno

    few = number == errno.EMFILE
    return HelperError(
        f"start the helper: {words_of(number)}",
        errno=number,
        hint=EXHAUSTED[number] if few else "",
        code="out-of-resources" if few else "",
    )


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
    following = _packets(program, performers, observer)
    while True:
        packet, fds = yield from following(execution)
        if packet[:1] == b"R" or execution.proof:
            execution.proof += packet
            if not packet or refused(execution.proof):
                return
            continue
        if not packet:
            raise killed(execution)
        report = wire.Report(packet)
        if report.kind == wire.BORN:
            execution.pid, execution.pidfd = report.value, fds[0]
            observer.born(report.value)
        elif report.kind == wire.MEET:
            yield from _meet(program, performers, observer, execution, report.step, fds)
        elif report.kind == wire.WARNING:
            observer.warning(report.step, f"{report.operation} {report.path}".strip())
        elif report.kind == wire.FAILED:
            from ocirun.executor.explain import explained_step

            raise (yield from explained_step(program, report, execution.pid))
        elif report.kind in (wire.READY, wire.DONE):
            return


def _packets(
    program: Program, performers: Mapping[str, Performer], observer: Observer
) -> Callable[[Execution], Task[tuple[bytes, list[int]]]]:
    """What gives the packets of the helper, one at a time; few plans load the module for a listener."""
    if program.listener is None:
        return next_packet
    from ocirun.executor.listener import Arrival

    return Arrival(*program.listener, performers, observer).next_packet


def next_packet(execution: Execution) -> Task[tuple[bytes, list[int]]]:
    """The next packet of the helper, b"" at its end, and the descriptors that came along."""
    assert execution.control is not None
    while True:
        yield Wait(reads=(execution.control.fileno(),))
        try:
            return receive(execution.control)
        except BlockingIOError:  # who woke us was mistaken
            continue


def receive(control: _socket.socket) -> tuple[bytes, list[int]]:
    """A packet that is there, b"" at the end, and its descriptors; raises BlockingIOError for none."""
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
            packet, fds = receive(control)
        except BlockingIOError:
            continue
        if packet and wire.Report(packet).kind == wire.BORN:
            execution.pid, execution.pidfd = wire.Report(packet).value, fds.pop()
            try:
                observer.born(execution.pid)
            except OcirunError:  # what stops us is the first cause
                return
        for fd in fds:
            os.close(fd)
        if not packet or execution.pid:
            return


def killed(execution: Execution) -> HelperError:
    """The error for a helper that ended without a word."""
    who = f"init, pid {execution.pid}" if execution.pid else f"stage, pid {execution.stage}"
    return HelperError(
        f"the helper was killed before its work was done ({who})",
        hint="somebody sent it SIGKILL, the kernel ran out of memory for it (see the kernel log), or the "
        "seccomp profile of the container does not let it write and exit",
    )


def _meet(
    program: Program,
    performers: Mapping[str, Performer],
    observer: Observer,
    execution: Execution,
    step: int,
    fds: list[int],
) -> Task[None]:
    if step == execution.users and execution.map_users is not None:
        yield from execution.map_users(execution.stage)
        _answer(execution, ())
        return
    meeting = program.meets[step]
    execution.slots.update(zip(meeting.give, fds, strict=True))
    for index, host_step in meeting.steps:
        observer.before(index, host_step)
        yield from performers[host_step.verb](host_step, execution.slots)
    _answer(execution, meeting.take)


def _answer(execution: Execution, take: Sequence[str]) -> None:
    """Lets the helper go on, with the slots named in ``take``."""
    assert execution.control is not None
    taken = b"".join([execution.slots[name].to_bytes(4, sys.byteorder) for name in take])
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, taken)] if taken else []
    try:
        execution.control.sendmsg([b"G"], rights)
    except OSError as error:
        raise killed(execution) from error


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
