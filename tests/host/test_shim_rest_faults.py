"""What must not go wrong around the rest of a shim: descriptors, statuses, failed hand-overs, its end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.types_pb2 import Status
from ocirun_shim.processes import DRAIN_SECONDS

from tests.host import observe, serving, shims
from tests.host.rests import left_to, made, rested, streams
from tests.host.serving import TASK, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PTRACE_SEIZE = 0x4206
O_CLOEXEC = 0o2000000


def inheritable(pid: int) -> dict[str, str]:
    """The descriptors above 2 of a process that an execve would keep, and what they are."""
    found: dict[str, str] = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        flags = int(info.read_text().split("flags:")[1].split()[0], 8)
        if int(info.name) > 2 and not flags & O_CLOEXEC:
            found[info.name] = str((info.parent.parent / "fd" / info.name).readlink())
    return found


@pytest.mark.parametrize("where", ["fifo", "file"])
def test_a_terminal_that_has_ended_is_deleted_at_once_after_a_rest(
    served: Serving, fds: dict[str, int], where: str
) -> None:
    stdout = (
        f"file://{served.ours.scratch}/log" if where == "file" else streams(served, fds, "stdout")["stdout"]
    )
    task = served.task()
    task.bundle.args("/bin/sh", "-c", "echo hi").put(True, "process", "terminal").write()
    task.shim().run(terminal=True, stdout=stdout)
    assert task.wait() == 0
    rested(task)
    began = time.monotonic()
    assert task.delete().exit_status == 0
    assert time.monotonic() - began < DRAIN_SECONDS


def test_what_was_handed_over_ends_with_execve(served: Serving, fds: dict[str, int]) -> None:
    task = made(served, "sleep", "1000").run(**streams(served, fds, "stdin", "stdout"))
    rested(task)
    assert task.running
    assert serving.of_worker(task, inheritable) == {}


def helpers(keeper: int) -> Iterator[int]:
    """The helpers below a keeper."""
    for pid in observe.descendants(keeper):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "ocirun-helper" in os.readlink(f"/proc/{pid}/exe"):
                yield pid


def test_the_helper_of_another_container_has_nothing_of_this_one(
    served: Serving, fds: dict[str, int]
) -> None:
    paths = streams(served, fds, "stdin", "stdout")
    keeper = rested(made(served, "sleep", "1000", group="pod").run(**paths))
    began, seen = served.ours.scratch / "began", served.ours.scratch / "seen"
    script = f": >{began}; until [ -e {seen} ]; do sleep 0.02; done"
    other = served.task("pod")
    other.bundle.put([{"path": "/bin/sh", "args": ["sh", "-c", script]}], "hooks", "createRuntime").write()
    stream = other.shim().client.send(TASK, "Create", other.request())
    observe.eventually(began.exists, "the hook has begun")
    held = [what for pid in helpers(keeper) for what in observe.descriptors(pid).values()]
    seen.touch()
    other.client.receive(stream, pb.CreateTaskResponse)
    assert [what for what in held if "socket:" in what] != [], "the helper was looked at"
    assert [what for what in held if what in paths.values() or "pidfd" in what] == []


@pytest.fixture
def tracers() -> Iterator[list[int]]:
    """The pids of those who trace."""
    pids: list[int] = []
    yield pids
    while pids:
        _end_tracer(pids)


def _end_tracer(pids: list[int]) -> None:
    os.kill(pids[-1], signal.SIGKILL)
    os.waitpid(pids.pop(), 0)


def _trace(pid: int) -> int:
    """A child that traces ``pid`` until it is killed, and sees its end before us (ptrace(2))."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        ok = ctypes.CDLL(None).ptrace(PTRACE_SEIZE, pid, 0, 0) == 0
        os.write(told, b"y" if ok else b"n")
        signal.pause()
        os._exit(0)
    assert os.read(ready, 1) == b"y"
    os.close(ready)
    os.close(told)
    return child


@pytest.mark.parametrize("rests", [False, True])
def test_the_status_of_a_traced_container_is_its_own(
    served: Serving, tracers: list[int], *, rests: bool
) -> None:
    task = made(served, "/bin/sh", "-c", "read word </gate; exit 7")
    os.mkfifo(gate := task.bundle.rootfs / "gate")
    task.create()
    pid = task.start()
    tracers.append(_trace(pid))
    if rests:
        rested(task)
    stream = task.client.send(TASK, "Wait", pb.WaitRequest(id=task.id))
    os.close(os.open(gate, os.O_WRONLY))
    observe.eventually(lambda: observe.state_letter(pid) == "Z", "it has ended")
    time.sleep(0.5)
    assert task.state().status == Status.RUNNING, "for nobody but the tracer"
    _end_tracer(tracers)
    assert task.client.receive(stream, pb.WaitResponse).exit_status == 7
    assert task.delete().exit_status == 7


def test_a_shutdown_that_waits_does_not_end_a_container_that_came_meanwhile(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTRPC_ADDRESS", "/run/containerd/nobody.ttrpc")  # the events wait for it
    one, other = served.task("pod").shim(), served.task("pod").shim()
    one.run()
    one.end()
    asked = pb.ShutdownRequest(id=one.id).SerializeToString()
    stream = other.client.connection.call(TASK, "Shutdown", asked)  # sent with what comes next
    other.create()
    other.client.receive(stream, Empty)
    other.start()
    time.sleep(2.5)
    assert other.running
    other.end()


def test_a_worker_that_could_not_hand_over_does_so_later(served: Serving) -> None:
    task = served.running()
    keeper, worker = shims.the_shim(task.id), served.awake(task)
    allowed = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (6, allowed[1]))
    served.hang_up_others()
    time.sleep(2.5)
    assert shims.workers(keeper) == [worker]
    resource.prlimit(worker, resource.RLIMIT_NOFILE, allowed)
    assert task.running
    observe.eventually(lambda: shims.workers(keeper) == [], "it rests again", patience=40)


def test_a_worker_that_cannot_restore_is_tried_again(served: Serving) -> None:
    task = served.running()
    keeper = rested(task)
    allowed = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (7, allowed[1]))
    stream = task.client.send(TASK, "State", pb.StateRequest(id=task.id))
    time.sleep(1.5)
    assert observe.alive(keeper)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, allowed)
    assert task.client.receive(stream, pb.StateResponse).status == Status.RUNNING
    task.end()


def test_a_shim_is_as_its_containerd_not_as_the_zygote(served: Serving) -> None:
    first, later = served.task().shim(), served.task()
    served.ours.start(later.id, prefix=("choom", "-n", "500", "--", "nice", "-n", "7", "taskset", "-c", "0"))
    keeper = shims.the_shim(later.id)
    assert int(Path(f"/proc/{keeper}/oom_score_adj").read_text()) == 501
    assert os.getpriority(os.PRIO_PROCESS, keeper) == 7
    assert os.sched_getaffinity(keeper) == {0}
    assert os.getpriority(os.PRIO_PROCESS, shims.the_shim(first.id)) == os.getpriority(os.PRIO_PROCESS, 0)


def test_shutdown_answers_while_another_start_holds_the_lock(served: Serving) -> None:
    task = served.running()
    task.end()
    directory = os.open(shims.SOCKETS, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    keeper = shims.the_shim(task.id)
    task.call("Shutdown", pb.ShutdownRequest(id=task.id), Empty)  # which would wait for its deadline
    os.close(directory)
    observe.eventually(lambda: not observe.alive(keeper), "the keeper ends")
    observe.eventually(lambda: not os.path.lexists(task.address), "the socket is gone")


def test_waits_of_clients_that_went_are_forgotten(served: Serving) -> None:
    task = served.running()
    before = serving.memory(task)
    for _ in range(3000):
        client = served.client(task.address)
        client.send(TASK, "Wait", pb.WaitRequest(id=task.id))
        client.close()
    assert task.running
    assert serving.memory(task) - before < 2000


def test_many_orphans_do_not_keep_it_awake(served: Serving) -> None:
    task = served.task()
    task.bundle.without_namespace("pid").writable()
    script = "i=0; while [ $i -lt 1000 ]; do (sh -c : &); i=$((i+1)); done; echo > /done; exec sleep 1000"
    task.bundle.args("/bin/sh", "-c", script).write()
    task.shim().run()
    done = Path(f"/proc/{task.state().pid}/root/done")
    observe.eventually(done.exists, "all were started", patience=60)
    keeper, init = shims.the_shim(task.id), task.state().pid
    observe.eventually(lambda: left_to(keeper) == [init], "all have ended, and were reaped")
    rested(task)
    time.sleep(1)
    assert shims.workers(keeper) == []
