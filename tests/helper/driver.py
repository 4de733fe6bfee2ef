"""Runs the helper on steps as the executor would, but with every report at hand."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

from ocirun.executor import wire
from ocirun.executor.sealed import sealed
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocirun.plan.model import Step

PATIENCE = 30.0

_PR_SET_CHILD_SUBREAPER = 36


def encoded(steps: Sequence[Step]) -> bytes:
    """``steps`` as the bytes of a plan."""
    return wire.encode(compile_plan(Plan("test", steps)))


class Run:
    """One run of the helper: the control socket, the stage, init once it is born."""

    def __init__(
        self, helper: Path, plan: bytes, stdio: Sequence[int] = (), closed: Sequence[int] = ()
    ) -> None:
        self.pid = 0
        self.pidfd = -1
        self.fds: list[int] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = ours
        memory = sealed(plan, "plan", executable=False)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs.fileno(), memory)]
        files: list[tuple[int, ...]] = [(os.POSIX_SPAWN_CLOSE, fd) for fd in closed]
        files += [(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate(stdio)]
        files += [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
        self.stage = os.posix_spawn(
            helper, ["helper"], {}, file_actions=files, setsigmask=signal.valid_signals()
        )
        for fd in (*high, memory):
            os.close(fd)
        theirs.close()

    def report(self) -> wire.Report | None:
        """The next report, None at the end of the helper; descriptors that come along go to ``fds``."""
        self.control.settimeout(PATIENCE)
        packet, fds, _, _ = socket.recv_fds(self.control, 16384, 16)
        self.fds += fds
        if not packet:
            return None
        report = wire.Report(packet)
        if report.kind == wire.BORN:
            self.pid, self.pidfd = report.value, self.fds.pop()
        if report.kind == wire.FAILED:  # what has failed waits until nobody looks for the cause any more
            self.hang_up()
        return report

    def hang_up(self) -> None:
        """Lets a helper go that told why it failed; what it says last can still be read."""
        self.control.shutdown(socket.SHUT_WR)

    def until(self, kind: int) -> wire.Report:
        """The report of ``kind``; any other but BORN and WARNING before it is an AssertionError."""
        while True:
            report = self.report()
            assert report is not None, "the helper ended without a word"
            if report.kind == kind:
                return report
            told = f"{report.step}: {report.operation} {errno.errorcode.get(report.errno)} {report.path}"
            assert report.kind in (wire.BORN, wire.WARNING), told

    def answer(self, fds: Sequence[int] = ()) -> None:
        """The answer to MEET."""
        socket.send_fds(self.control, [b"G"], list(fds))

    def wait(self) -> int:
        """The exit code of init, negative for a signal."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), "init does not end"
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def wait_stage(self) -> int:
        """The exit code of the stage."""
        _, status = os.waitpid(self.stage, 0)
        self.stage = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Ends what still runs."""
        self.control.close()
        for fd in [*self.fds, *([self.pidfd] if self.pidfd >= 0 else [])]:
            os.close(fd)
        for pid in (self.pid, self.stage):
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def start(state: Path) -> bytes:
    """Opens the gate as `start` does and gives all that comes out of the proof until its end."""
    proof = os.open(state / "proof", os.O_RDONLY | os.O_NONBLOCK)
    gate = os.open(state / "gate", os.O_RDWR | os.O_NONBLOCK)
    os.write(gate, b"1")
    poll = select.poll()
    poll.register(proof, select.POLLIN)
    said, until = b"", time.monotonic() + PATIENCE
    while time.monotonic() < until:
        poll.poll(100)
        try:
            part = os.read(proof, 4096)
        except BlockingIOError:
            continue
        if not part:
            break
        said += part
        if b"T" in part:  # the last word of a failed execve, after which it waits for us
            os.write(gate, b"1")
    os.close(gate)
    os.close(proof)
    return said


def pending(pipe: int) -> bytes:
    """All that comes out of a pipe until its end."""
    said = b""
    while part := os.read(pipe, 65536):
        said += part
    return said


def become_subreaper() -> None:
    """Nothing that the helper leaves may go to process 1."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
