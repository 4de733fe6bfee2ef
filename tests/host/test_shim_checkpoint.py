"""Checkpoints by a shim, told by what the processes write before and after, and by what its client hears.

criu has to be installed, and needs a stock kernel: the full guest of tests/vm has both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import events_pb2 as events
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.metrics_pb2 import Metrics
from ocirun_shim.messages.runc_options_pb2 import CheckpointOptions
from ocirun_shim.messages.types_pb2 import Status

from conformance.ttrpc import CallError
from tests.host import checkpoints, observe, rests
from tests.host.checkpoints import counted, counts_on
from tests.host.hearing import Hearing
from tests.host.serving import TASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from tests.host.serving import Serving, Task

pytestmark = [
    pytest.mark.skipif(checkpoints.CRIU is None, reason="criu is not installed"),
    pytest.mark.timeout(300),
]

#: Counts to its standard output.
TELLING = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done"


@pytest.fixture
def hearing(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hearing]:
    """Hears the events of the shims that are started from now on."""
    monkeypatch.setenv("TTRPC_ADDRESS", str(scratch / "events"))
    with Hearing(scratch / "events") as hears:
        yield hears


@pytest.fixture
def fifo(served: Serving) -> Iterator[Callable[[], Fifo]]:
    """Makes FIFOs with our end open."""
    made: list[Fifo] = []

    def make() -> Fifo:
        made.append(Fifo(served.fifo()))
        return made[-1]

    yield make
    for one in made:
        os.close(one.fd)


class Fifo:
    """A FIFO as the client of a shim has it, and what came out of it so far."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._read = b""

    @property
    def text(self) -> str:
        """All of it."""
        try:
            while piece := os.read(self.fd, 65536):
                self._read += piece
        except BlockingIOError:
            pass
        return self._read.decode()

    @property
    def numbers(self) -> list[int]:
        """The numbers on whole lines."""
        return [int(word) for word in self.text.rpartition("\n")[0].split()]

    def counts_on(self) -> None:
        """Waits for more of them."""
        before = len(self.numbers)
        observe.eventually(lambda: len(self.numbers) > before + 3, "it counts on", checkpoints.SECONDS)


def _call(task: Task, method: str, request: Message) -> None:
    """A call that has criu do something, for which there is more time than for others."""
    task.client.call(TASK, method, request, Empty, checkpoints.SECONDS)


def _take(task: Task, images: Path, *, ending: bool = False) -> None:
    options = CheckpointOptions(exit=ending)
    request = pb.CheckpointTaskRequest(id=task.id, path=str(images))
    request.options.type_url = options.DESCRIPTOR.full_name
    request.options.value = options.SerializeToString()
    _call(task, "Checkpoint", request)


def _restore(task: Task, images: Path, **fields: object) -> int:
    """Creates and starts it from a checkpoint; gives its pid."""
    assert task.create(checkpoint=str(images), **fields) == 0
    assert task.state().status == Status.CREATED
    return _start(task)


def _start(task: Task) -> int:
    request = pb.StartRequest(id=task.id)
    pid = task.client.call(TASK, "Start", request, pb.StartResponse, checkpoints.SECONDS).pid
    assert task.running
    assert task.state().pid == pid
    assert observe.alive(pid)
    return pid


def _counting(task: Task) -> None:
    """Has it count into a file of its root; it has begun to."""
    task.bundle.writable().sh(checkpoints.COUNTING).write()
    task.shim().run()
    observe.eventually((task.bundle.rootfs / "count").exists, "it has begun")
    counts_on(task.bundle)


def test_a_task_goes_on_from_its_checkpoint(
    served: Serving, images: Path, hearing: Hearing, fifo: Callable[[], Fifo]
) -> None:
    task = served.task()
    task.bundle.sh(TELLING).write()
    first, second = fifo(), fifo()
    task.shim().run(stdout=first.path)
    first.counts_on()
    _take(task, images, ending=True)
    assert task.wait() == 137
    assert task.state().status == Status.STOPPED
    assert task.delete().exit_status == 137
    topics = hearing.topics("/tasks/delete")
    assert topics[:2] == ["/tasks/create", "/tasks/start"]
    assert sorted(topics[2:-1]) == ["/tasks/checkpointed", "/tasks/exit"]
    assert hearing.event("/tasks/checkpointed", events.TaskCheckpointed).checkpoint == str(images)
    pid = _restore(task, images, stdout=second.path)
    second.counts_on()
    told = [*first.numbers, *second.numbers]
    assert told == [*range(1, len(told) + 1)]
    pids = task.call("Pids", pb.PidsRequest(id=task.id), pb.PidsResponse).processes
    assert pid in [one.pid for one in pids]
    stats = task.call("Stats", pb.StatsRequest(id=task.id), pb.StatsResponse).stats
    assert Metrics.FromString(stats.value).pids.current >= 1
    assert task.end() == 137
    assert not observe.alive(pid)


def test_a_restored_task_is_an_ordinary_one(served: Serving, images: Path, fifo: Callable[[], Fifo]) -> None:
    task = served.task()
    _counting(task)
    _take(task, images, ending=True)
    task.wait()
    task.delete()
    pid = _restore(task, images)
    told = fifo()
    request = pb.ExecProcessRequest(id=task.id, exec_id="e", stdout=told.path)
    request.spec.value = b'{"args": ["/bin/hostname"], "cwd": "/", "user": {"uid": 0, "gid": 0}}'
    task.call("Exec", request, Empty)
    task.call("Start", pb.StartRequest(id=task.id, exec_id="e"), pb.StartResponse)
    observe.eventually(lambda: told.text == "runc\n", "the exec tells its name")
    task.call("Wait", pb.WaitRequest(id=task.id, exec_id="e"), pb.WaitResponse)
    task.call("Delete", pb.DeleteRequest(id=task.id, exec_id="e"), pb.DeleteResponse)
    task.call("Pause", pb.PauseRequest(id=task.id), Empty)
    assert task.state().status == Status.PAUSED
    task.call("Resume", pb.ResumeRequest(id=task.id), Empty)
    counts_on(task.bundle)
    assert task.state().pid == pid
    assert task.end() == 137


@pytest.mark.parametrize("paused", [False, True])
def test_a_task_is_left_running(served: Serving, images: Path, hearing: Hearing, paused: bool) -> None:
    """The client library of containerd pauses a task first, and lets it go on afterwards."""
    task = served.task()
    _counting(task)
    if paused:
        task.call("Pause", pb.PauseRequest(id=task.id), Empty)
    _take(task, images)
    if paused:
        assert task.state().status == Status.PAUSED
        task.call("Resume", pb.ResumeRequest(id=task.id), Empty)
    assert task.running
    counts_on(task.bundle)
    assert (images / "inventory.img").exists()
    assert "/tasks/exit" not in hearing.topics("/tasks/checkpointed")
    assert task.end() == 137


def test_a_paused_task_ends_with_its_checkpoint(served: Serving, images: Path) -> None:
    task = served.task()
    _counting(task)
    task.call("Pause", pb.PauseRequest(id=task.id), Empty)
    stood = counted(task.bundle)
    _take(task, images, ending=True)
    assert task.wait() == 137
    task.delete()
    _restore(task, images)
    counts_on(task.bundle)
    assert counted(task.bundle)[: len(stood)] == stood
    assert task.end() == 137


def test_a_terminal_is_the_clients_again(served: Serving, images: Path, fifo: Callable[[], Fifo]) -> None:
    task = served.task()
    script = "echo hello; while read line; do echo got $line; done"
    task.bundle.put(True, "process", "terminal").sh(script).write()
    written, told = fifo(), fifo()
    task.shim().run(terminal=True, stdin=written.path, stdout=told.path)
    observe.eventually(lambda: "hello" in told.text, "it says hello")
    _take(task, images, ending=True)
    task.wait()
    task.delete()
    written, told = fifo(), fifo()
    _restore(task, images, terminal=True, stdin=written.path, stdout=told.path)
    os.write(written.fd, b"answer\n")
    observe.eventually(lambda: "got answer" in told.text, "it has heard")
    assert task.end() == 137


def test_its_status_is_known_when_the_worker_that_has_restored_it_is_gone(
    served: Serving, images: Path
) -> None:
    task = served.task()
    script = f"exec </dev/null >/out 2>&1; ({checkpoints.COUNTING}) & until [ -e /go ]; do sleep 0.02; done"
    task.bundle.writable().sh(f"{script}; kill $!; exit 7").write()
    task.shim().run()
    observe.eventually((task.bundle.rootfs / "count").exists, "it has begun")
    _take(task, images, ending=True)
    task.wait()
    task.delete()
    _restore(task, images)
    counts_on(task.bundle)
    task.hang_up()
    rests.rested(task)
    (task.bundle.rootfs / "go").touch()
    assert task.wait() == 7
    assert task.delete().exit_status == 7


def _bind(task: Task, image: Path) -> tuple[pb.CreateTaskRequest, Path]:
    """A root that is one bind mount, and where its files are written."""
    request = task.request()
    request.rootfs.add(type="bind", source=str(image), options=["rbind", "rw"])
    return request, image


def _overlay(task: Task, image: Path) -> tuple[pb.CreateTaskRequest, Path]:
    """A root as containerd makes it of the layers of an image."""
    upper, work = image.with_name("upper"), image.with_name("work")
    upper.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    request = task.request()
    options = [f"lowerdir={image}", f"upperdir={upper}", f"workdir={work}"]
    request.rootfs.add(type="overlay", source="overlay", options=options)
    return request, upper


@pytest.mark.parametrize("root", [_bind, _overlay])
def test_a_root_that_is_mounts_comes_back(
    served: Serving,
    scratch: Path,
    images: Path,
    root: Callable[[Task, Path], tuple[pb.CreateTaskRequest, Path]],
) -> None:
    task = served.task()
    task.bundle.writable().sh(checkpoints.COUNTING).write()
    image = task.bundle.rootfs.rename(scratch / "image")
    task.bundle.rootfs.mkdir()
    request, files = root(task, image)
    before = Path("/proc/self/mountinfo").read_text()
    task.shim().call("Create", request, pb.CreateTaskResponse)
    task.start()

    def last() -> int:
        found = files / "count"
        lines = found.read_text().rpartition("\n")[0].split() if found.exists() else []
        return int(lines[-1]) if lines else 0

    observe.eventually(lambda: last() > 3, "it has begun")
    _take(task, images, ending=True)
    task.wait()
    task.delete()
    stood = last()
    request.checkpoint = str(images)
    task.call("Create", request, pb.CreateTaskResponse)
    pid = _start(task)
    observe.eventually(lambda: last() > stood + 3, "it counts on", checkpoints.SECONDS)
    numbers = [int(line) for line in (files / "count").read_text().rpartition("\n")[0].split()]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert observe.mount_at(pid, "/").kind == (
        "overlay" if files.name == "upper" else observe.mount_at(1, "/").kind
    )
    assert Path("/proc/self/mountinfo").read_text() == before
    assert task.end() == 137


def test_a_checkpoint_that_cannot_be_restored_leaves_the_task_to_be_tried_again(
    served: Serving, images: Path
) -> None:
    task = served.task()
    _counting(task)
    _take(task, images, ending=True)
    task.wait()
    task.delete()
    whole = (images / "inventory.img").read_bytes()
    task.create(checkpoint=str(images))
    (images / "inventory.img").write_bytes(b"")
    text = _refused_start(task)
    assert "OCI runtime restore failed: criu cannot restore the container" in text
    assert task.state().status == Status.CREATED
    (images / "inventory.img").write_bytes(whole)
    _start(task)
    counts_on(task.bundle)
    assert task.end() == 137


def _refused_start(task: Task) -> str:
    with pytest.raises(CallError) as caught:
        task.client.call(TASK, "Start", pb.StartRequest(id=task.id), Empty, checkpoints.SECONDS)
    return caught.value.message
