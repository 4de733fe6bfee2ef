"""What a shim makes of bad bytes and bad clients: a clear status or a clean end, and all others go on."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.ttrpc_pb2 import Request, Response
from ocirun_shim.ttrpc import codes, frames

from tests.host import serving, shims
from tests.host.serving import TASK, Serving, Task, frame, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MEBI = 1 << 20
NOBODY = 65534
#: More than a shim may keep of what a client sends or does not read, in kibibytes.
MUCH = 6 * 1024
#: What malloc may keep of eight frames of 4 MiB, in kibibytes; a heap shrinks from its top (mallopt(3)).
HALF_OF_EIGHT = 16 * 1024
#: A turn of the loop for a client that asks as fast as it can is some hundred times one call, not thousands.
FLOODED = 1500

#: Connects as somebody else, asks, and prints what comes: "" is the end of the connection.
STRANGER = """
import os, socket, sys
os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
client = socket.socket(socket.AF_UNIX)
client.settimeout(20)
client.connect(sys.argv[1])
try:
    client.sendall(bytes.fromhex(sys.argv[4]))
    print(client.recv(65536).hex())
except ConnectionError:
    print()
"""


@pytest.fixture
def task(served: Serving) -> Iterator[Task]:
    """A container that runs, still does after the test, and whose shim has no more descriptors then."""
    one = served.running()
    before = serving.descriptors(one)
    yield one
    assert one.running
    served.hang_up_others()
    serving.no_more_descriptors(one, before)
    assert one.end() == 137


def asking(container: str, method: str = "State") -> bytes:
    """The data of a request about a container."""
    payload = pb.StateRequest(id=container).SerializeToString()
    return Request(service=TASK, method=method, payload=payload).SerializeToString()


def received(connection: socket.socket, count: int) -> list[tuple[int, int]]:
    """Stream and code of the next ``count`` answers."""
    parser = frames.Parser()
    found: list[tuple[int, int]] = []
    while len(found) < count:
        data = connection.recv(65536)
        assert data, f"the shim hung up after {found}"
        for one in parser.feed(data):
            assert isinstance(one, frames.Frame)
            assert (one.kind, one.flags) == (frames.RESPONSE, 0)
            found.append((one.stream, Response.FromString(one.data).status.code))
    assert len(found) == count
    return found


def hung_up(connection: socket.socket) -> bool:
    """Whether the shim ends the connection, and says nothing before."""
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


# -- bytes -------------------------------------------------------------------------------------------------


def test_garbage_hurts_nobody(served: Serving, task: Task) -> None:
    numbers = random.Random(1)  # noqa: S311 - the same garbage every time
    for _ in range(30):
        with served.connection(task.address) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(numbers.randbytes(numbers.randrange(1, 100_000)))
        assert task.running


@pytest.mark.parametrize("length", [1, 9, 10, 40])
def test_half_a_frame(served: Serving, task: Task, length: int) -> None:
    half = frame(1, frames.REQUEST, 0, asking(task.id))[:length]
    silent = [served.connection(task.address) for _ in range(5)]
    for connection in silent:
        connection.sendall(half)
    for _ in range(5):
        with served.connection(task.address) as connection:
            connection.sendall(half)
    assert task.running
    silent[0].sendall(frame(1, frames.REQUEST, 0, asking(task.id))[length:])
    assert received(silent[0], 1) == [(1, codes.OK)]


def test_a_frame_beyond_the_limit_is_refused_and_kept_by_nobody(served: Serving, task: Task) -> None:
    connection = served.connection(task.address)
    before = serving.memory(task)
    for stream in (1, 5, 9):
        connection.sendall(frame(stream, frames.REQUEST, 0, bytes(5 * MEBI)))
        connection.sendall(frame(stream + 2, frames.REQUEST, 0, asking(task.id)))
        assert received(connection, 2) == [(stream, codes.RESOURCE_EXHAUSTED), (stream + 2, codes.OK)]
        assert serving.memory(task) < before + MUCH
    connection.sendall(frame(99, frames.REQUEST, 0, b"and here it ends", length=0xFFFFFFFF))
    assert received(connection, 1) == [(99, codes.RESOURCE_EXHAUSTED)]


def test_whole_frames_up_to_the_limit_are_given_back(served: Serving, task: Task) -> None:
    request = Request(service="s" * (4 * MEBI - 5), method="").SerializeToString()
    assert len(request) == frames.LIMIT
    before = serving.memory(task)
    for _ in range(8):
        connection = served.connection(task.address)
        connection.sendall(frame(1, frames.REQUEST, 0, request))
        assert received(connection, 1) == [(1, codes.UNIMPLEMENTED)]
    until(lambda: serving.memory(task) < before + HALF_OF_EIGHT, "the memory is given back")


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ([(2, 1, 0)], [(2, codes.INVALID_ARGUMENT)]),
        ([(0, 1, 0)], [(0, codes.INVALID_ARGUMENT)]),
        ([(5, 1, 0), (5, 1, 0)], [(5, codes.OK), (5, codes.INVALID_ARGUMENT)]),
        ([(5, 1, 0), (3, 1, 0)], [(5, codes.OK), (3, codes.INVALID_ARGUMENT)]),
        ([(1, 1, 1)], [(1, codes.UNIMPLEMENTED)]),
        ([(1, 1, 2)], [(1, codes.UNIMPLEMENTED)]),
        ([(1, 3, 0)], [(1, codes.INVALID_ARGUMENT)]),
        ([(0xFFFFFFFF, 1, 0)], [(0xFFFFFFFF, codes.OK)]),
        ([(1, 0, 0), (1, 2, 0), (1, 4, 0), (1, 255, 255)], []),
    ],
)
def test_what_breaks_the_protocol_is_answered_and_the_connection_goes_on(
    served: Serving, task: Task, sent: list[tuple[int, int, int]], answers: list[tuple[int, int]]
) -> None:
    connection = served.connection(task.address)
    connection.sendall(b"".join(frame(*header, asking(task.id)) for header in sent))
    last = frame(0xFFFFFFFE, frames.REQUEST, 0, asking(task.id))  # even, and so answered in any case
    connection.sendall(last)
    wanted = [*answers, (0xFFFFFFFE, codes.INVALID_ARGUMENT)]
    assert sorted(received(connection, len(wanted))) == sorted(wanted)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\xff", codes.INVALID_ARGUMENT),
        (Request(service=TASK, method="State", payload=b"\xff").SerializeToString(), codes.INVALID_ARGUMENT),
        (Request(service=TASK, method="state").SerializeToString(), codes.UNIMPLEMENTED),
        (Request(service=TASK, method="__init__").SerializeToString(), codes.UNIMPLEMENTED),
        (Request(service="containerd.task.v9.Task", method="State").SerializeToString(), codes.UNIMPLEMENTED),
        (b"", codes.UNIMPLEMENTED),
    ],
)
def test_a_request_that_is_none(served: Serving, task: Task, data: bytes, code: int) -> None:
    connection = served.connection(task.address)
    connection.sendall(frame(1, frames.REQUEST, 0, data))
    assert received(connection, 1) == [(1, code)]


# -- clients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uid", "gid"), [(NOBODY, NOBODY), (NOBODY, 0), (0, NOBODY)])
def test_a_client_of_another_user_or_group_is_turned_away(task: Task, uid: int, gid: int) -> None:
    for path in (Path(task.address), shims.SOCKETS, shims.SOCKETS.parent):
        path.chmod(0o777)
    request = frame(1, frames.REQUEST, 0, asking(task.id)).hex()
    command = [sys.executable, "-c", STRANGER, task.address, str(uid), str(gid), request]
    done = subprocess.run(command, capture_output=True, text=True, timeout=shims.TIMEOUT, check=True)
    assert done.stdout == "\n"
    own = subprocess.run(
        [*command[:4], "0", "0", request], capture_output=True, text=True, timeout=shims.TIMEOUT, check=True
    )
    assert own.stdout != "\n", "our own user is heard in the same way"


def test_two_hundred_connections_that_say_nothing(served: Serving, task: Task) -> None:
    silent = [served.connection(task.address) for _ in range(200)]
    assert task.running
    silent[-1].sendall(frame(1, frames.REQUEST, 0, asking(task.id)))
    assert received(silent[-1], 1) == [(1, codes.OK)]


def test_a_client_that_asks_and_never_reads(served: Serving, task: Task) -> None:
    before = serving.memory(task)
    connection = served.connection(task.address)
    connection.setblocking(False)
    asked = b"".join(frame(stream, frames.REQUEST, 0, asking(task.id)) for stream in range(1, 100_000, 2))
    sent, first = 0, asked.find(frame(20_001, frames.REQUEST, 0, asking(task.id)))
    while (
        sent < len(asked) and select.select([], [connection], [], 1 if sent > first else serving.PATIENCE)[1]
    ):
        sent += connection.send(asked[sent : sent + 65536])
        assert task.running
    assert sent < len(asked), "the shim does not listen to it for ever"
    assert serving.memory(task) < before + MUCH
    assert task.medians() < serving.HELD_UP / 10
    connection.setblocking(True)
    assert sent > first, "it is listened to for a while"
    assert received_at_least(connection, 10_000)


def received_at_least(connection: socket.socket, count: int) -> bool:
    """Whether so many answers come, all of them good and in order."""
    parser, found = frames.Parser(), 0
    while found < count:
        for one in parser.feed(connection.recv(65536)):
            assert isinstance(one, frames.Frame)
            assert one.stream == 2 * found + 1
            found += 1
    return True


def test_a_client_that_asks_much_at_once_keeps_nobody_waiting(
    served: Serving, task: Task, record_property: Callable[[str, object], None]
) -> None:
    worker = served.awake(task)
    before = worked(worker)
    task.medians(60)
    idle = (worked(worker) - before) / 60
    asked = b"".join(frame(stream, frames.REQUEST, 0, asking(task.id)) for stream in range(1, 20_000, 2))
    slowest = slowest_state_under(served.connection(task.address), asked, task, worker)
    record_property("ratio", round(slowest / idle))
    print(  # noqa: T201 - the number is what the test is for
        f"State costs {slowest / idle:.0f} times what it costs without the flood, at most"
    )
    assert slowest / idle < FLOODED


def worked(pid: int) -> int:
    """The nanoseconds that a process has run so far: who shares its processor does not count."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def slowest_state_under(connection: socket.socket, flood: bytes, task: Task, worker: int) -> int:
    """The most that the worker does, in nanoseconds, until State of another client is answered, while
    ``flood`` is sent and never read."""
    connection.setblocking(False)
    slowest = 0
    for start in range(0, len(flood), 65536):
        if select.select([], [connection], [], 1)[1]:
            connection.send(flood[start : start + 65536])
        before = worked(worker)
        assert task.running
        slowest = max(slowest, worked(worker) - before)
    return slowest


@pytest.mark.parametrize("method", ["State", "Wait"])
def test_a_client_that_is_gone_before_its_answer(served: Serving, task: Task, method: str) -> None:
    """SIGPIPE would end the shim, and an answer that goes nowhere must not."""
    for _ in range(50):
        with served.connection(task.address) as connection:
            for stream in range(1, 40, 2):
                connection.sendall(frame(stream, frames.REQUEST, 0, asking(task.id, method)))
    assert task.running


def test_a_client_that_is_gone_before_its_container_ends(served: Serving) -> None:
    task = served.running()
    with served.connection(task.address) as connection:
        connection.sendall(frame(1, frames.REQUEST, 0, asking(task.id, "Wait")))
        assert not select.select([connection], [], [], 0.1)[0]
    assert task.end() == 137


def test_a_containerd_that_hangs_up_on_every_event(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(served.ours.scratch / "events")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        monkeypatch.setenv("TTRPC_ADDRESS", path)
        task = served.task().shim()
        told: list[int] = []
        with ThreadPoolExecutor() as pool:
            hangs_up = pool.submit(hang_up_on_everybody, listener, told)
            assert task.run().running
            assert task.end() == 137
            until(lambda: told != [], "it is told of something")
            listener.shutdown(socket.SHUT_RDWR)
            hangs_up.result()
    assert task.refused("State", pb.StateRequest(id=task.id))[0] == codes.NOT_FOUND


def hang_up_on_everybody(listener: socket.socket, told: list[int]) -> None:
    """Accepts and closes connections until ``listener`` is shut down, and counts them in ``told``."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()
            told.append(1)


def test_half_frames_of_clients_that_are_gone_are_not_kept(served: Serving, task: Task) -> None:
    """A call of Wait outlives its connection; what came half over it must not."""
    before = serving.memory(task)
    for _ in range(8):
        with served.connection(task.address) as connection:
            connection.sendall(frame(1, frames.REQUEST, 0, asking(task.id, "Wait")))
            connection.sendall(frame(3, frames.REQUEST, 0, bytes(4 * MEBI - 1), length=4 * MEBI))
    until(lambda: serving.memory(task) < before + HALF_OF_EIGHT, "the memory is given back")
