"""A shim that serves: started as containerd starts one, and asked over ttrpc as containerd asks."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.types_pb2 import Status

from conformance.ttrpc import CallError, Client
from tests.host import observe, shims
from tests.host.bundles import Bundle
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from tests.host.shims import Shims

    Response = TypeVar("Response", bound=Message)
    Seen = TypeVar("Seen")

TASK = shims.TASK
GROUP = "io.containerd.runc.v2.group"
#: Where the shims of our namespace keep the state of their containers.
STATE = Path("/run/containerd/ocirun") / shims.NAMESPACE
#: No answer takes so many seconds unless the shim hangs.
PATIENCE = 30.0
#: An answer from memory that takes so many seconds was held up (a drain takes 10).
HELD_UP = 9.5
#: A `delete` that takes so many seconds has waited for more than it may: containerd gives it 5, of which it
#: spends 4 at most, and the others are for a machine that is slow.  Whatever else we wait for takes 10.
IN_TIME = 9.5


class Task:
    """One container of a shim: its bundle, and a connection of its own for the calls about it."""

    def __init__(self, served: Serving, container: str, bundle: Bundle) -> None:
        self.served = served
        self.id = container
        self.bundle = bundle
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The connection, made when it is first used."""
        if self._client is None:
            self._client = self.served.client(self.address)
        return self._client

    @property
    def address(self) -> str:
        """The path of the shim's socket, as `start` has written it down."""
        return (self.bundle.path / "address").read_text().removeprefix("unix://")

    @property
    def state_directory(self) -> Path:
        """Where its journal is while it exists."""
        return STATE / self.id

    def hang_up(self) -> None:
        """Closes the connection; the next call makes another one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def shim(self) -> Task:
        """Runs `start` in the bundle."""
        self.served.ours.start(self.id)
        return self

    def call(self, method: str, request: Message, response: type[Response]) -> Response:
        """One call of the Task service."""
        return self.client.call(TASK, method, request, response, PATIENCE)

    def request(self, **fields: object) -> pb.CreateTaskRequest:
        """What containerd sends to create the container; ``fields`` beside its id and bundle."""
        request = pb.CreateTaskRequest(id=self.id, bundle=str(self.bundle.path))
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    def create(self, **fields: object) -> int:
        """Creates it and gives its pid."""
        return self.call("Create", self.request(**fields), pb.CreateTaskResponse).pid

    def start(self) -> int:
        """Starts it and gives its pid."""
        return self.call("Start", pb.StartRequest(id=self.id), pb.StartResponse).pid

    def run(self, **fields: object) -> Task:
        """Create and start."""
        self.create(**fields)
        self.start()
        return self

    def state(self, exec_id: str = "") -> pb.StateResponse:
        """What the shim knows of it; an answer that was held up fails the test."""
        request = pb.StateRequest(id=self.id, exec_id=exec_id)
        return self.client.call(TASK, "State", request, pb.StateResponse, HELD_UP)

    @property
    def running(self) -> bool:
        """Whether the shim says that it runs."""
        return self.state().status == Status.RUNNING

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to init."""
        self.call("Kill", pb.KillRequest(id=self.id, signal=number), Empty)

    def wait(self) -> int:
        """Waits for the end of init: its exit status."""
        return self.call("Wait", pb.WaitRequest(id=self.id), pb.WaitResponse).exit_status

    def delete(self) -> pb.DeleteResponse:
        """Deletes it in the shim, which must have stopped it."""
        return self.call("Delete", pb.DeleteRequest(id=self.id), pb.DeleteResponse)

    def end(self) -> int:
        """Kills and deletes it: its exit status."""
        self.kill()
        self.wait()
        return self.delete().exit_status

    def medians(self, calls: int = 60) -> float:
        """The median seconds of that many calls of State."""
        seconds: list[float] = []
        for _ in range(calls):
            began = time.monotonic()
            assert self.state().id == self.id
            seconds.append(time.monotonic() - began)
        return statistics.median(seconds)

    def refused(self, method: str, request: Message) -> tuple[int, str]:
        """Code and text of the status that a call is answered with; fails the test when it succeeds."""
        with pytest.raises(CallError) as caught:
            self.call(method, request, Empty)
        return caught.value.code, caught.value.message


class Serving:
    """The shims of one test; whatever is left of its containers is deleted afterwards."""

    def __init__(self, ours: Shims, busybox: Path) -> None:
        self.ours = ours
        self._busybox = busybox
        self._tasks: list[Task] = []
        self._clients: list[Client] = []
        self._connections: list[socket.socket] = []
        self._names = itertools.count(1)

    def task(self, group: str = "") -> Task:
        """A container that is not created yet, with a sleeping program; its config.json is written."""
        container = new_id()
        bundle = Bundle(self.ours.bundle(container), self._busybox).sleeping()
        if group:
            bundle.put(group, "annotations", GROUP)
        self._tasks.append(Task(self, container, bundle.write()))
        return self._tasks[-1]

    def running(self, group: str = "") -> Task:
        """A container that runs, in a shim of its own or that of its group."""
        return self.task(group).shim().run()

    def client(self, path: str) -> Client:
        """A connection that is closed after the test."""
        self._clients.append(Client(path, timeout=PATIENCE))
        return self._clients[-1]

    def connection(self, path: str) -> socket.socket:
        """A connection without a protocol, closed after the test."""
        connected = socket.socket(socket.AF_UNIX)
        self._connections.append(connected)
        connected.connect(path)  # blocking: with a timeout a full backlog would be EAGAIN
        connected.settimeout(PATIENCE)
        return connected

    def awake(self, task: Task) -> int:
        """The pid of the process that serves a container, which does not rest while half a frame is on its
        way: until ``hang_up_others``."""
        self.connection(task.address).sendall(frame(1, 1, 0, bytes(10))[:5])
        return worker(task)

    def hang_up_others(self) -> None:
        """Closes the connections without a protocol."""
        for connection in self._connections:
            connection.close()

    def fifo(self) -> str:
        """The path of a new FIFO."""
        path = str(self.ours.scratch / f"fifo{next(self._names)}")
        os.mkfifo(path)
        return path

    def deleted_in_time(self, task: Task) -> pb.DeleteResponse:
        """What `delete` answers, which must come before containerd would kill it."""
        flags = ("-bundle", str(task.bundle.path))
        with self.ours.popen(task.id, "delete", flags=flags) as process:
            try:
                out, err = process.communicate(b"", IN_TIME)
            finally:
                process.kill()
        assert (process.returncode, err) == (0, b"")
        return pb.DeleteResponse.FromString(out)

    def clean_up(self) -> None:
        """Kills the shims and runs `delete` for every container, as containerd does."""
        self.hang_up_others()
        for client in self._clients:
            client.close()
        kill_shims()
        for task in self._tasks:
            self.ours.delete(task.id)
            assert not task.state_directory.exists()


def kill_shims() -> None:
    """Kills every shim at once and waits until they and their workers are dead."""
    observe.eventually(lambda: not shims.kill_all("containerd-shim"), "the shims are dead")
    observe.eventually(lambda: not serving_processes(), "their workers are dead")


def serving_processes() -> list[int]:
    """Keepers and workers of all shims."""
    return [*shims.processes("containerd-shim"), *shims.processes("ocirun-worker")]


def keeper(task: Task) -> int:
    """The pid of the shim that serves the container."""
    answer = task.call("Connect", pb.ConnectRequest(id=task.id), pb.ConnectResponse)
    return int(answer.shim_pid)


def worker(task: Task) -> int:
    """The pid of the process that serves the container now, woken if need be; a second later it may rest."""
    return shims.only(lambda: shims.workers(keeper(task)), "the shim is awake")


def of_worker(task: Task, look: Callable[[int], Seen]) -> Seen:
    """What ``look`` sees of the process that serves the container; once more where that goes to rest."""
    seen: list[Seen] = []

    def looked() -> bool:
        pid = worker(task)
        seen[:] = [look(pid)]
        return observe.alive(pid)

    observe.eventually(looked, "the process that serves is looked at")
    return seen[0]


def end(pid: int) -> None:
    """Kills a process and waits until it is dead."""
    os.kill(pid, signal.SIGKILL)
    observe.eventually(lambda: not observe.alive(pid), f"{pid} is dead")


def descriptors(task: Task) -> int:
    """How many descriptors the process that serves the container has open."""
    return of_worker(task, lambda pid: len(observe.descriptors(pid)))


def no_more_descriptors(task: Task, before: int) -> None:
    """Waits until the shim has as many descriptors as ``before``."""
    observe.eventually(lambda: descriptors(task) <= before, f"the shim has {before} descriptors again")


def memory(task: Task) -> int:
    """The resident kibibytes of the process that serves the container."""
    return of_worker(task, lambda pid: int(observe.status(pid).get("VmRSS", "0").split()[0]))


def frame(stream: int, kind: int, flags: int, data: bytes, length: int | None = None) -> bytes:
    """A frame of ttrpc by hand; ``length`` may lie about ``data``."""
    return struct.pack(">IIBB", len(data) if length is None else length, stream, kind, flags) + data


def serving(ours: Shims, busybox: Path) -> Iterator[Serving]:
    """The body of a fixture."""
    served = Serving(ours, busybox)
    yield served
    served.clean_up()


def until(condition: Callable[[], bool], meaning: str) -> None:
    """Waits patiently for something that a stalled system may be slow to do."""
    observe.eventually(condition, meaning, PATIENCE)
