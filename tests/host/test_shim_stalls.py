"""Whatever holds up one container of a shim, State of another is answered from memory all the while.

Each test notes the median time of State during the stall as a ratio of that without one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, TypeAlias

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.copying import unread
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.ttrpc import codes

from conformance.ttrpc import CallError
from tests.host import serving
from tests.host.hanging import LOOKUP, hanging
from tests.host.rests import full, stuck
from tests.host.serving import TASK, Serving, Task, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.message import Message

    from tests.host.bundles import Json

    Measured: TypeAlias = "Callable[[Task, float], None]"

#: Seconds of a hook: more than enough for all that a test asks meanwhile.
STALL = 60.0


@pytest.fixture
def pair(served: Serving) -> tuple[Task, Task]:
    """A container that runs, and one in the same shim that is not created yet."""
    one = served.running("pod")
    other = served.task("pod").shim()
    assert one.address == other.address
    return one, other


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[Task, float], None]:
    """Measures State of a container now against what it took when all was quiet."""

    def measure(task: Task, idle: float) -> None:
        ratio = task.medians() / idle
        record_property("ratio", round(ratio, 2))
        record_property("idle_microseconds", round(idle * 1e6, 1))
        print(  # noqa: T201 - the number is what the test is for
            f"State takes {ratio:.2f} times what it takes without the stall ({idle * 1e6:.0f} us)"
        )

    return measure


class Sleeper:
    """A hook that sleeps until it is woken, STALL seconds at most, and leaves files as traces."""

    def __init__(self, directory: Path) -> None:
        self.began, self.woken, self.ended = (directory / name for name in ("began", "woken", "ended"))

    def hook(self) -> Json:
        """The entry for config.json."""
        sleeps = f"[ ! -e {self.woken} ] && [ $n -lt {int(STALL * 20)} ]"
        script = f": >{self.began}; n=0; while {sleeps}; do sleep 0.05; n=$((n+1)); done; : >{self.ended}"
        return {"path": "/bin/sh", "args": ["sh", "-c", script]}

    def sleeps(self) -> bool:
        """Whether it is at it."""
        return self.began.exists() and not self.ended.exists()


def ask(task: Task, method: str, request: Message) -> int:
    """Sends a call that is not waited for: its stream."""
    return task.client.send(TASK, method, request)


def stalls(task: Task, stream: int) -> bool:
    """Whether a call is not answered yet."""
    with contextlib.suppress(TimeoutError):
        task.client.receive(stream, Empty, 0.05)
        return False
    return True


ANSWERS = {
    "prestart": pb.CreateTaskResponse,
    "createRuntime": pb.CreateTaskResponse,
    "poststart": pb.StartResponse,
    "poststop": pb.DeleteResponse,
}


def ask_until_hook(task: Task, kind: str) -> int:
    """Sends the call in which hooks of that kind run: its stream."""
    if ANSWERS[kind] is pb.CreateTaskResponse:
        return ask(task, "Create", task.request())
    task.create()
    if kind == "poststart":
        return ask(task, "Start", pb.StartRequest(id=task.id))
    return ask(task, "Delete", pb.DeleteRequest(id=task.id))


# -- hooks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "poststart", "poststop"])
def test_a_hook_that_sleeps(pair: tuple[Task, Task], measured: Measured, tmp_path: Path, kind: str) -> None:
    one, other = pair
    sleeper = Sleeper(tmp_path)
    other.bundle.items("hooks", kind).append(sleeper.hook())
    other.bundle.write()
    idle = one.medians()
    stream = ask_until_hook(other, kind)
    until(sleeper.began.exists, "the hook has begun")
    measured(one, idle)
    assert sleeper.sleeps(), "the answers came before the end of the hook"
    sleeper.woken.touch()
    other.client.receive(stream, ANSWERS[kind])
    if kind != "poststop":
        assert other.end() == 137
    assert one.end() == 137


# -- streams -----------------------------------------------------------------------------------------------


def read_to_the_end(fd: int) -> bool:
    """Reads what is there; whether that was the last."""
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 65536):
            pass
        return True
    return False


def test_a_reader_that_never_reads(served: Serving, measured: Measured) -> None:
    one, other = served.running("pod"), served.task("pod").shim()
    idle = one.medians()
    stdout = served.fifo()
    reader = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK)
    other.bundle.sh("while :; do echo and so on and on; done").write()
    other.run(stdout=stdout)
    until(lambda: stuck(other, stdout), "the FIFO is full")
    there = unread(reader)
    measured(one, idle)
    assert other.running
    assert full(stdout), "nobody has read it"
    assert unread(reader) >= there > 0, "the last page may take a few bytes more"
    other.kill()
    assert other.wait() == 137, "the end of a container does not wait for its reader"
    stream = ask(other, "Delete", pb.DeleteRequest(id=other.id))
    measured(one, idle)
    assert stalls(other, stream), "what was written before is not thrown away"
    until(lambda: read_to_the_end(reader), "the FIFO is closed when all was read")
    assert other.client.receive(stream, pb.DeleteResponse).exit_status == 137
    os.close(reader)
    assert one.end() == 137


# -- hanging mounts ----------------------------------------------------------------------------------------


def bind_source(other: Task, inside: Path) -> pb.CreateTaskRequest:
    """A create that binds from the hanging file system."""
    other.bundle.bind(inside, "/etc").write()
    return other.request()


def root_mount(other: Task, inside: Path) -> pb.CreateTaskRequest:
    """A create whose root file system comes from there."""
    shutil.rmtree(other.bundle.rootfs)
    other.bundle.rootfs.mkdir()
    request = other.request()
    request.rootfs.add(type="bind", source=str(inside), options=["rbind", "rw"])
    return request


def root_path(other: Task, inside: Path) -> pb.CreateTaskRequest:
    """A create whose config names its root there."""
    other.bundle.put(str(inside), "root", "path").write()
    return other.request()


def bundle_itself(other: Task, inside: Path) -> pb.CreateTaskRequest:
    """A create of a bundle that is there."""
    return other.request(bundle=str(inside))


def output_fifo(other: Task, inside: Path) -> pb.CreateTaskRequest:
    """A create whose output goes there."""
    return other.request(stdout=str(inside))


def output_file(other: Task, inside: Path) -> pb.CreateTaskRequest:
    """A create whose output goes there."""
    return other.request(stdout=f"file://{inside}")


in_process = pytest.mark.xfail(
    strict=True,
    raises=TimeoutError,
    reason="the worker looks this path up itself, and answers nobody meanwhile",
)


@pytest.mark.parametrize(
    "made",
    [
        bind_source,
        root_mount,
        root_path,
        pytest.param(bundle_itself, marks=in_process),
        pytest.param(output_fifo, marks=in_process),
        pytest.param(output_file, marks=in_process),
    ],
)
def test_a_hanging_mount(
    pair: tuple[Task, Task], measured: Measured, scratch: Path,
    made: Callable[[Task, Path], pb.CreateTaskRequest],
) -> None:  # fmt: skip
    one, other = pair
    assert other.refused("State", pb.StateRequest(id=other.id))[0] == codes.NOT_FOUND
    before = serving.descriptors(one)
    idle = one.medians()
    with hanging(scratch / "hanging") as mount:
        stream = ask(other, "Create", made(other, mount.point / "inside"))
        mount.read(serving.PATIENCE)
        assert mount.asked[-1] == LOOKUP
        measured(one, idle)
        assert stalls(other, stream), "the answers came before the end of the hang"
        mount.close()
        with pytest.raises(CallError):
            other.client.receive(stream, pb.CreateTaskResponse)
    assert other.refused("State", pb.StateRequest(id=other.id))[0] == codes.NOT_FOUND
    assert not other.state_directory.exists()
    serving.no_more_descriptors(one, before)
    assert one.end() == 137


@pytest.mark.parametrize("made", [bind_source, root_mount])
def test_delete_of_a_container_that_hangs_in_a_mount(
    served: Serving, pair: tuple[Task, Task], scratch: Path,
    made: Callable[[Task, Path], pb.CreateTaskRequest],
) -> None:  # fmt: skip
    one, other = pair
    with hanging(scratch / "hanging") as mount:
        stream = ask(other, "Create", made(other, mount.point / "inside"))
        assert mount.asks(serving.PATIENCE)
        served.deleted_in_time(other)
        with pytest.raises(CallError):
            other.client.receive(stream, pb.CreateTaskResponse)
        assert not other.state_directory.exists()
        assert one.end() == 137


def test_delete_of_what_nothing_can_kill(served: Serving, pair: tuple[Task, Task], scratch: Path) -> None:
    """Who waits for an answer in the kernel does not die; it is given up, and dies when the hang ends."""
    one, other = pair
    with hanging(scratch / "hanging") as mount:
        stream = ask(other, "Create", bind_source(other, mount.point / "inside"))
        mount.read(serving.PATIENCE)
        served.deleted_in_time(other)
        with pytest.raises(CallError):
            other.client.receive(stream, pb.CreateTaskResponse)
        assert not other.state_directory.exists()
        assert one.running
    assert one.end() == 137
