"""What a worker hands over, and a keeper that takes it: in this process, and in children that end at once."""

from __future__ import annotations

import _socket
import os
import select
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from ocirun_shim import handover, keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sockets() -> Iterator[tuple[_socket.socket, _socket.socket]]:
    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    yield ends
    for one in ends:
        one.close()


def test_a_descriptor_has_one_place_and_none_has_none() -> None:
    parcel = handover.Parcel()
    assert [parcel.put(fd) for fd in (7, 9, 7, -1)] == [0, 1, 0, -1]
    assert [parcel.take(place) for place in (0, 1, -1)] == [7, 9, -1]


def test_state_and_descriptors_come_out_as_they_went_in() -> None:
    parcel = handover.Parcel()
    state = {"numbers": [1, -1], "text": "\udcff", "bytes": b"\0", "nothing": None, "place": parcel.put(1)}
    fds = handover.pack(state, parcel)
    found, again = handover.unpack(fds)
    assert found == state
    assert again.fds == [1]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])


@pytest.mark.parametrize("count", [1, 250, 251, 600])
def test_any_number_of_descriptors_arrives_in_order(
    sockets: tuple[_socket.socket, _socket.socket], count: int
) -> None:
    ours, theirs = sockets
    pipes = [os.pipe() for _ in range(2)]
    mine = [pipes[number % 2][0] for number in range(count)]
    taken: list[int] = []
    attending = threading.Thread(target=lambda: taken.extend(keeper._attend(ours)))
    attending.start()
    assert keeper.Keeping(theirs, os.getpid()).hand_over(mine, pipes[0][1])
    attending.join()
    assert [os.fstat(fd).st_ino for fd in taken] == [os.fstat(fd).st_ino for fd in (*mine, pipes[0][1])]
    for fd in (*taken, *(end for pipe in pipes for end in pipe)):
        os.close(fd)


def test_a_hand_over_that_lacks_descriptors_is_refused(
    sockets: tuple[_socket.socket, _socket.socket],
) -> None:
    ours, theirs = sockets
    theirs.send(keeper.PART)
    theirs.send(keeper.LAST)
    attending = threading.Thread(target=lambda: keeper._attend(ours), daemon=True)
    attending.start()
    assert theirs.recv(1) == b"m"
    assert keeper.Keeping(theirs, os.getpid()).hand_over([0], 0), "the next one is whole"
    attending.join()


def test_what_the_kernel_refuses_is_tried_again() -> None:
    refusals = [OSError("no memory"), OSError("no processes")]

    def call() -> int:
        if refusals:
            raise refusals.pop()
        return 5

    assert keeper._persistently(call) == 5


def test_a_worker_has_what_the_one_before_it_had() -> None:
    """Two workers in a row: the second sees the descriptor of the first, and the keeper none of them."""
    reader, writer = os.pipe()
    listener, client = os.pipe()
    os.write(client, b"x")

    def work(keeping: keeper.Keeping, fds: list[int]) -> None:
        keeping.up()
        if fds:
            os.write(fds[0], b"second")
            os._exit(0)
        _hand_over(keeping, writer)

    child = _keeper_child(listener, work)
    os.close(writer)
    assert os.read(reader, 10) == b"second"
    assert os.waitpid(child, 0)[1] == 1 << 8, "a worker that ends without a word ends the keeper"
    for fd in (reader, listener, client):
        os.close(fd)


def test_a_worker_that_fails_before_it_is_up_is_followed_by_one_with_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "_AGAIN", 1)
    reader, writer = os.pipe()
    listener, client = os.pipe()
    os.write(client, b"x")

    def work(keeping: keeper.Keeping, fds: list[int]) -> None:
        if fds:
            os.write(fds[0], b"f")
            os._exit(1)
        keeping.up()
        _hand_over(keeping, writer)

    child = _keeper_child(listener, work)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 1 << 8, "it gives up in the end"
    assert os.read(reader, 99) == b"f" * keeper._ATTEMPTS
    for fd in (reader, listener, client):
        os.close(fd)


def _hand_over(keeping: keeper.Keeping, fd: int) -> None:
    epoll = select.epoll()
    epoll.register(fd, select.EPOLLOUT)
    keeping.hand_over([fd], epoll.fileno())
    os._exit(0)


def _keeper_child(listener: int, work: Callable[[keeper.Keeping, list[int]], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            keeper.keep(listener, work)  # type: ignore[arg-type]  # it ends in every way
        finally:
            os._exit(9)
    return child


def test_the_status_of_a_child_is_told_and_the_child_stays(
    sockets: tuple[_socket.socket, _socket.socket],
) -> None:
    ours, theirs = sockets
    ended, killed = _child(7), _child(-9)
    living = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    attending = threading.Thread(target=lambda: keeper._attend(ours), daemon=True)
    attending.start()
    keeping = keeper.Keeping(theirs, os.getpid())
    told = [keeping.status(pid) for pid in (ended, killed, os.getpid(), living)]
    assert told == [7, 137, keeper.UNKNOWN, None]
    os.kill(living, signal.SIGKILL)
    os.waitpid(living, 0)
    assert os.waitpid(ended, 0)[1] == 7 << 8
    assert os.waitpid(killed, 0)[1] == 9
    assert keeping.hand_over([0], 0)
    attending.join()


def _child(status: int) -> int:
    """A zombie that exited with ``status``, or died of the signal ``-status``."""
    child = os.fork()
    if child == 0:
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child
