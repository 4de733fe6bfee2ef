"""Older releases of containerd, which speak version 2 of the protocol and read a shim's ``address`` file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.private_view import eventually
from tests.engines.scenes import signalled

if TYPE_CHECKING:
    from tests.engines.scenes import Scene


def test_it_runs_executes_and_survives_a_restart(older_scene: Scene) -> None:
    scene = older_scene
    done = scene.run("sh", "-c", "echo out; exit 7")
    assert (done.code, done.stdout) == (7, "out\n")
    with scene.events() as recorder:
        task = scene.start().says("up")
        assert task.exec("sh", "-c", "exit 9").code == 9
        recorder.until(task.id, "create", "start", "exec-added", "exec-started", "exit")
    pid = task.pid
    scene.containerd.restart()
    assert (task.pid, task.status) == (pid, "RUNNING")
    assert task.shell("echo in").ok().stdout == "in\n"
    task.kill("TERM").ok()
    assert task.wait().remove() == 3


def test_a_killed_shim_takes_its_container_along(older_scene: Scene) -> None:
    scene = older_scene
    with scene.events() as recorder:
        task = scene.start().says("up")
        scene.containerd.kill(task.shim.pid)
        recorder.until(task.id, "create", "start", "exit", "delete")
    assert recorder.one(task.id, "exit")["exit_status"] == signalled("KILL")
    eventually(lambda: scene.tasks() == {}, "the task is gone")


def test_a_group_has_one_shim(older_scene: Scene) -> None:
    flags = ("--annotation", "io.containerd.runc.v2.group=g")
    one, two = older_scene.start(flags=flags).says("up"), older_scene.start(flags=flags).says("up")
    assert one.shim.pid == two.shim.pid
    for task in (one, two):
        task.kill("TERM").ok()
        assert task.wait().remove() == 3
