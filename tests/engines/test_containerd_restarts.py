"""containerd ends, is killed and comes back; the containers live on or are told of."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from conformance.private_view import eventually
from tests.engines.scenes import signalled

if TYPE_CHECKING:
    from tests.engines.scenes import Scene, Task

COUNTING = ("sh", "-c", "trap 'exit 7' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done")


def _gone(task: Task, pid: int) -> bool:
    """Whether a process has ended, be it a zombie still."""
    return all(process.pid != pid or process.state == "Z" for process in task.containerd.processes())


def _counts_on(task: Task) -> None:
    """Waits until the container has written more, without a gap."""
    before = len(task.output.split())
    eventually(lambda: len(task.output.split()) > before, "it counts on")
    numbers = task.output.split()
    assert numbers == [*map(str, range(1, len(numbers) + 1))]


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_a_running_container_goes_on(scene: Scene, name: str) -> None:
    task = scene.start(*COUNTING).says("3\n")
    pid, shim = task.pid, task.shim.pid
    scene.containerd.stop(signal.Signals[f"SIG{name}"])
    _counts_on(task)
    scene.containerd.start()
    assert (task.pid, task.shim.pid, task.status) == (pid, shim, "RUNNING")
    _counts_on(task)
    assert task.exec("sh", "-c", "echo in; exit 5").code == 5
    task.kill("TERM").ok()
    assert task.wait().remove() == 7


def test_events_come_after_a_restart(scene: Scene) -> None:
    task = scene.start().says("up")
    scene.containerd.restart()
    with scene.events() as recorder:
        task.exec("true").ok()
        task.kill("TERM").ok()
        assert task.wait().remove() == 3
        recorder.until(task.id, "exec-added", "exec-started", "exit", "exit", "delete")


def test_an_exit_while_containerd_is_down_is_not_lost(scene: Scene) -> None:
    task = scene.start(*COUNTING).says("3\n")
    pid = task.pid
    scene.containerd.stop()
    scene.containerd.kill(pid, signal.SIGTERM)
    eventually(lambda: _gone(task, pid), "the program ends")
    scene.containerd.start()
    assert task.wait().remove() == 7


def test_the_exit_event_of_the_time_without_containerd_comes(scene: Scene) -> None:
    task = scene.start(*COUNTING).says("3\n")
    pid = task.pid
    scene.containerd.stop()
    scene.containerd.kill(pid, signal.SIGTERM)
    eventually(lambda: _gone(task, pid), "the program ends")
    scene.containerd.start()
    with scene.events() as recorder:
        assert task.wait().remove() == 7
        eventually(lambda: "delete" in recorder.topics(task.id), "the delete event")
    assert recorder.one(task.id, "delete")["exit_status"] == 7


def test_a_program_executed_before_is_killed_after(scene: Scene) -> None:
    task = scene.start().says("up")
    task.exec("sleep", "100", flags=("--detach",)).ok()
    scene.containerd.restart()
    with scene.events() as recorder:
        task.kill("KILL", "--exec-id", "e1").ok()
        recorder.until(task.id, "exit")
    ended = recorder.one(task.id, "exit")
    assert (ended["id"], ended["exit_status"]) == ("e1", signalled("KILL"))
    assert task.status == "RUNNING"


def test_a_shim_that_died_meanwhile_leaves_nothing(scene: Scene) -> None:
    task = scene.start().says("up")
    pid, shim = task.pid, task.shim.pid
    scene.containerd.stop()
    scene.containerd.kill(shim)
    eventually(lambda: _gone(task, shim), "the shim ends")
    scene.containerd.start()
    eventually(lambda: scene.tasks() == {}, "the task is gone")
    eventually(lambda: _gone(task, pid), "the program is killed")


def test_several_containers_survive_several_restarts(scene: Scene) -> None:
    tasks = [scene.start(*COUNTING).says("3\n") for _ in range(3)]
    pids = [task.pid for task in tasks]
    for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        scene.containerd.restart(signum)
        assert [scene.tasks()[task.id] for task in tasks] == [(pid, "RUNNING") for pid in pids]
    for task in tasks:
        _counts_on(task)
        task.kill("TERM").ok()
        assert task.wait().remove() == 7
