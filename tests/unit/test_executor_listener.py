"""The packet with a listener comes whenever it comes, and whoever dies meanwhile is noticed."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import HelperError
from ocirun.executor import wire
from ocirun.executor.listener import Arrival
from ocirun.executor.run import Execution, Observer
from ocirun.plan import steps
from ocirun.waiting import drive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.plan.model import Step
    from ocirun.waiting import Task

SEND = steps.send_listener(listener="listener", path="/a", metadata="", pointer="/linux/seccomp/listenerPath")


def packet(kind: int) -> bytes:
    return kind.to_bytes(4, "little") + bytes(12)


class Helper:
    """The helper's end of the socket, and a process in the place of stage and another in that of init."""

    def __init__(self) -> None:
        self.ours, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.execution = Execution()
        self.execution.control = self.ours
        self.execution.stage = self._waiting()
        self.execution.pid = self._waiting()
        self.execution.pidfd = os.pidfd_open(self.execution.pid)
        self.done: list[str] = []
        self.arrival = Arrival(7, SEND, {"send_listener": self._perform}, Observer())

    def _waiting(self) -> int:
        return os.posix_spawn("/bin/sleep", ["sleep", "100"], {})

    def _perform(self, step: Step, slots: dict[str, int]) -> Task[None]:
        yield from ()
        self.done.append(step.verb)
        os.close(slots.pop("listener"))

    def says(self, kind: int) -> None:
        fds = [0] if kind == wire.LISTENER else []
        socket.send_fds(self.end, [packet(kind)], fds)

    def next(self) -> bytes:
        return drive(self.arrival.next_packet(self.execution))[0]

    def end_all(self) -> None:
        for pid in (self.execution.stage, self.execution.pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self.execution.pidfd)
        self.ours.close()
        self.end.close()


@pytest.fixture
def helper() -> Iterator[Helper]:
    made = Helper()
    yield made
    made.end_all()


@pytest.mark.parametrize("kinds", [(wire.LISTENER, wire.READY), (wire.READY, wire.LISTENER)])
def test_ready_counts_when_the_listener_has_been_handed_on(helper: Helper, kinds: tuple[int, int]) -> None:
    for kind in kinds:
        helper.says(kind)
    assert helper.next() == packet(wire.READY)
    assert helper.done == ["send_listener"]


def test_everything_else_passes_before_and_after(helper: Helper) -> None:
    for kind in (wire.WARNING, wire.LISTENER, wire.WARNING):
        helper.says(kind)
    assert [helper.next(), helper.done] == [packet(wire.WARNING), []]
    assert [helper.next(), helper.done] == [packet(wire.WARNING), ["send_listener"]]


@pytest.mark.parametrize("ready", [False, True])
def test_a_stage_that_dies_before_it_told_is_noticed(helper: Helper, ready: bool) -> None:
    """init holds the socket open."""
    if ready:
        helper.says(wire.READY)
    os.kill(helper.execution.stage, signal.SIGKILL)
    with pytest.raises(HelperError, match="was killed"):
        helper.next()


def test_what_stage_told_before_its_end_is_heard(helper: Helper) -> None:
    helper.says(wire.LISTENER)
    helper.says(wire.READY)
    os.kill(helper.execution.stage, signal.SIGKILL)
    assert helper.next() == packet(wire.READY)


def test_stage_hears_of_a_dead_init_and_looks_once_more(helper: Helper) -> None:
    os.kill(helper.execution.pid, signal.SIGKILL)
    going = helper.arrival.next_packet(helper.execution)
    wanted = next(going)
    assert helper.execution.pidfd in wanted.reads
    os.waitid(os.P_PID, helper.execution.pid, os.WEXITED | os.WNOWAIT)
    wanted = going.send((helper.execution.pidfd,))
    assert helper.end.recv(1) == b"", "we have hung up one way"
    assert helper.execution.pidfd not in wanted.reads
    helper.says(wire.LISTENER)
    going.send((helper.ours.fileno(),))
    assert helper.done == ["send_listener"]
    going.close()
