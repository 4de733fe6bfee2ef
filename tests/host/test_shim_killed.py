"""SIGKILL for the processes of a shim, at any moment: `delete` tells the truth and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.ttrpc import codes

from conformance.ttrpc import CallError
from tests.host import observe, serving, shims
from tests.host.serving import TASK, Serving, Task, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.view import View


def kill_keeper(task: Task) -> None:
    """Kills the process of the shim that stays."""
    keeper = shims.the_shim(task.id)
    workers = shims.workers(keeper)
    serving.end(keeper)
    until(lambda: not any(observe.alive(pid) for pid in workers), "its worker ends with it")


def kill_worker(task: Task) -> None:
    """Kills the process of the shim that is at work."""
    keeper = serving.keeper(task)
    serving.end(task.served.awake(task))
    until(lambda: not observe.alive(keeper), "its keeper ends with it")


KILLS = pytest.mark.parametrize("kill", [kill_keeper, kill_worker])


class Hook:
    """A hook that sleeps, after it has written its pid to a file."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "hook"

    def add(self, task: Task, kind: str) -> None:
        """Puts it into the config of a container."""
        script = f"echo $$ >{self._file}.new; mv {self._file}.new {self._file}; exec sleep 1000"
        task.bundle.items("hooks", kind).append({"path": "/bin/sh", "args": ["sh", "-c", script]})
        task.bundle.write()

    def pid(self) -> int:
        """Waits until it runs."""
        until(self._file.exists, "the hook runs")
        return int(self._file.read_text())


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    """A hook, which the test must have started, and which is ended after it."""
    one = Hook(tmp_path)
    yield one
    with contextlib.suppress(ProcessLookupError):
        os.kill(one.pid(), signal.SIGKILL)


def gone(task: Task, view: View, pid: int, cgroup: str) -> None:
    """Fails the test unless nothing is left of a container but its bundle."""
    assert not observe.alive(pid)
    assert not (view.cgroup2 / cgroup.lstrip("/")).exists()
    assert not task.state_directory.exists()
    assert not Path(task.address).exists()


@KILLS
@pytest.mark.parametrize("state", ["created", "running"])
def test_a_container_dies_with_its_shim(
    served: Serving, view: View, kill: Callable[[Task], None], state: str
) -> None:
    task = served.task().shim()
    pid = task.create()
    if state == "running":
        task.start()
    cgroup = observe.cgroup(pid)
    kill(task)
    until(lambda: serving.serving_processes() == [], "keeper and worker end together")
    answers = [served.ours.delete(task.id) for _ in range(2)]
    assert answers[0] == answers[1]
    assert (answers[0].pid, answers[0].exit_status) == (pid, 137)
    gone(task, view, pid, cgroup)


@KILLS
def test_the_true_status_of_what_ended_before(
    served: Serving, view: View, kill: Callable[[Task], None]
) -> None:
    task = served.task().shim()
    task.bundle.sh("exit 7").write()
    pid = task.create()
    cgroup = observe.cgroup(pid)
    task.start()
    assert task.wait() == 7
    ended = task.state().exited_at
    kill(task)
    answer = served.ours.delete(task.id)
    assert (answer.pid, answer.exit_status, answer.exited_at) == (pid, 7, ended)
    gone(task, view, pid, cgroup)


@KILLS
def test_execs_die_with_the_shim(served: Serving, view: View, kill: Callable[[Task], None]) -> None:
    served.task().shim()  # makes the zygote, which reaps the exec; init dies no sooner (pid_namespaces(7))
    task = served.task().shim()
    pid = task.create()
    cgroup = observe.cgroup(pid)
    task.start()
    request = pb.ExecProcessRequest(id=task.id, exec_id="e")
    request.spec.value = b'{"args": ["/bin/sleep", "1000"], "cwd": "/", "user": {"uid": 0, "gid": 0}}'
    task.call("Exec", request, Empty)
    executed = task.call("Start", pb.StartRequest(id=task.id, exec_id="e"), pb.StartResponse).pid
    kill(task)
    assert served.ours.delete(task.id).exit_status == 137
    assert not observe.alive(executed)
    gone(task, view, pid, cgroup)


def hang(task: Task, hook: Hook, kind: str) -> int:
    """Sends the call in which a hook of that kind sleeps, and waits for the hook: the stream."""
    hook.add(task, kind)
    if kind == "createRuntime":
        stream = task.client.send(TASK, "Create", task.request())
    else:
        task.create()
        stream = task.client.send(TASK, "Start", pb.StartRequest(id=task.id))
    assert observe.alive(hook.pid())
    return stream


@KILLS
@pytest.mark.parametrize("kind", ["createRuntime", "poststart"])
def test_killed_while_a_hook_runs(
    served: Serving, view: View, hook: Hook, kill: Callable[[Task], None], kind: str
) -> None:
    task = served.task().shim()
    stream = hang(task, hook, kind)
    kill(task)
    with pytest.raises(ConnectionError):
        task.client.receive(stream, Empty)
    answer = served.ours.delete(task.id)
    assert answer.pid > 0
    assert answer.exit_status == 137
    gone(task, view, answer.pid, f"/ocirun/{task.id}")


def test_delete_while_a_create_hangs(served: Serving, view: View, hook: Hook) -> None:
    """containerd's patience may end before the hook's: it runs `delete` while the shim still creates."""
    task = served.task("pod").shim()
    other = served.running("pod")
    stream = hang(task, hook, "createRuntime")
    answer = served.deleted_in_time(task)
    assert answer.exit_status == 137
    assert not observe.alive(answer.pid)
    assert other.running
    assert not observe.alive(hook.pid())
    with pytest.raises(CallError):
        task.client.receive(stream, Empty)
    assert not task.state_directory.exists()
    assert not (view.cgroup2 / f"ocirun/{task.id}").exists()
    assert other.end() == 137


@KILLS
def test_a_hook_does_not_outlive_its_shim(served: Serving, hook: Hook, kill: Callable[[Task], None]) -> None:
    task = served.task().shim()
    hang(task, hook, "createRuntime")
    kill(task)
    served.ours.delete(task.id)
    observe.eventually(lambda: not observe.alive(hook.pid()), "the hook is dead")


@KILLS
def test_an_idle_shim_is_killed(served: Serving, kill: Callable[[Task], None]) -> None:
    task = served.task().shim()
    kill(task)
    assert not shims.answers(f"unix://{task.address}")
    answer = served.ours.delete(task.id)
    assert (answer.pid, answer.exit_status) == (0, 255)
    assert not Path(task.address).exists()
    task.hang_up()
    assert task.shim().run().end() == 137, "a new shim takes its place"


def test_a_resting_shim_is_killed(served: Serving, view: View) -> None:
    task = served.task().shim()
    pid = task.create()
    cgroup = observe.cgroup(pid)
    task.start()
    until(lambda: shims.processes("ocirun-worker") == [], "the worker has nothing to do and ends")
    kill_keeper(task)
    answer = served.ours.delete(task.id)
    assert (answer.pid, answer.exit_status) == (pid, 137)
    gone(task, view, pid, cgroup)


def test_two_deletes_at_once_after_a_killed_shim(served: Serving, view: View) -> None:
    task = served.task().shim()
    pid = task.create()
    cgroup = observe.cgroup(pid)
    task.start()
    kill_keeper(task)
    flags = ("-bundle", str(task.bundle.path))
    answers: set[bytes] = set()
    for process in [served.ours.popen(task.id, "delete", flags=flags) for _ in range(3)]:
        with process:
            out, err = process.communicate(b"", shims.TIMEOUT)
        assert (process.returncode, err) == (0, b"")
        answers.add(out)
    (answer,) = answers
    response = pb.DeleteResponse.FromString(answer)
    assert (response.pid, response.exit_status) == (pid, 137)
    gone(task, view, pid, cgroup)


def test_members_of_a_group_are_deleted_one_by_one(served: Serving, view: View) -> None:
    tasks = [served.task("pod").shim() for _ in range(3)]
    pids = [task.create() for task in tasks]
    cgroups = [observe.cgroup(pid) for pid in pids]
    for task in tasks[:2]:
        task.start()
    kill_keeper(tasks[0])
    for task, pid in zip(tasks, pids, strict=True):
        assert (answer := served.ours.delete(task.id)).pid == pid
        assert answer.exit_status == 137
    for task, pid, cgroup in zip(tasks, pids, cgroups, strict=True):
        gone(task, view, pid, cgroup)


def forgotten(task: Task) -> bool:
    """Whether its shim says that there is no such container."""
    try:
        task.state()
    except CallError as error:
        return error.code == codes.NOT_FOUND
    return False


def test_delete_of_a_container_whose_shim_lives(served: Serving, view: View) -> None:
    """containerd may lose its connection only: then it runs `delete` while the shim serves."""
    task, other = served.running("pod"), served.running("pod")
    pid = task.state().pid
    cgroup = observe.cgroup(pid)
    waiting = task.client.send(TASK, "Wait", pb.WaitRequest(id=task.id))
    answer = served.ours.delete(task.id)
    assert (answer.pid, answer.exit_status) == (pid, 137)
    assert task.client.receive(waiting, pb.WaitResponse).exit_status == 137
    until(lambda: forgotten(task), "the shim does not know it any more")
    assert not (view.cgroup2 / cgroup.lstrip("/")).exists()
    assert not task.state_directory.exists()
    assert other.running
    assert served.ours.delete(task.id) == answer
    assert other.end() == 137


@KILLS
def test_delete_of_a_container_whose_shim_is_mute(
    served: Serving, view: View, kill: Callable[[Task], None]
) -> None:
    """What is stopped, or hangs in the kernel, accepts connections and answers none."""
    task = served.running()
    pid = task.state().pid
    cgroup = observe.cgroup(pid)
    keeper = serving.keeper(task)
    os.kill(keeper if kill is kill_keeper else served.awake(task), signal.SIGSTOP)
    answer = served.deleted_in_time(task)
    assert (answer.pid, answer.exit_status) == (pid, 137)
    assert not observe.alive(pid)
    assert not (view.cgroup2 / cgroup.lstrip("/")).exists()
    assert not task.state_directory.exists()
    serving.kill_shims()


def test_a_killed_zygote_is_missed_by_no_container(served: Serving) -> None:
    served.running()  # the first shim is forked before there is a zygote
    task = served.running()
    os.kill(shims.the_zygote(), signal.SIGKILL)
    assert task.running
    assert served.running().end() == 137
    assert task.end() == 137
