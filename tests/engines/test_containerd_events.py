"""The events that containerd hands on: all of them, once, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.private_view import TIMEOUT
from tests.engines.scenes import signalled

if TYPE_CHECKING:
    from tests.engines.scenes import Scene

LIFE = ("create", "start", "exit", "delete")


def test_the_life_of_a_container(scene: Scene) -> None:
    with scene.events() as recorder:
        scene.run("sh", "-c", "exit 7")
        ident = scene.ids[-1]
        recorder.until(ident, *LIFE)
    pids = {content["pid"] for _, content in recorder.of(ident)}
    assert len(pids) == 1
    assert recorder.one(ident, "exit")["exit_status"] == 7
    assert recorder.one(ident, "exit")["id"] == ident
    assert recorder.one(ident, "delete")["exit_status"] == 7
    assert recorder.one(ident, "delete")["exited_at"] == recorder.one(ident, "exit")["exited_at"]


def test_the_birth_tells_what_was_asked_for(scene: Scene) -> None:
    with scene.events() as recorder:
        task = scene.start().says("up")
        recorder.until(task.id, "create", "start")
    birth = recorder.one(task.id, "create")
    log = f"file://{task.log}"
    assert birth["io"] == {"stdout": log, "stderr": log}
    assert str(birth["bundle"]).endswith(f"/{scene.containerd.namespace}/{task.id}")
    assert isinstance(birth["rootfs"], list)
    assert birth["pid"] == task.pid


def test_the_life_of_an_executed_program(scene: Scene) -> None:
    with scene.events() as recorder:
        task = scene.start().says("up")
        task.exec("sh", "-c", "exit 9")
        recorder.until(task.id, "create", "start", "exec-added", "exec-started", "exit")
    started, ended = recorder.one(task.id, "exec-started"), recorder.one(task.id, "exit")
    assert (started["exec_id"], ended["id"], ended["exit_status"]) == ("e1", "e1", 9)
    assert started["pid"] == ended["pid"]


def test_a_program_that_cannot_be_executed_was_added_only(scene: Scene) -> None:
    with scene.events() as recorder:
        task = scene.start().says("up")
        task.exec("/no/such/program")
        task.kill().ok()
        task.wait().remove()
        recorder.until(task.id, "create", "start", "exec-added", "exit", "delete")


def test_the_container_exits_after_its_executed_programs(scene: Scene) -> None:
    with scene.events() as recorder:
        task = scene.start().says("up")
        for _ in range(3):
            task.exec("sleep", "100", flags=("--detach",)).ok()
        task.kill().ok()
        task.wait().remove()
        added = ("exec-added", "exec-started") * 3
        recorder.until(task.id, "create", "start", *added, "exit", "exit", "exit", "exit", "delete")
    ends = [content for topic, content in recorder.of(task.id) if topic == "exit"]
    assert {end["id"] for end in ends[:3]} == {"e1", "e2", "e3"}
    assert ends[3]["id"] == task.id
    assert {end["exit_status"] for end in ends} == {signalled("KILL")}


def test_a_container_that_ends_at_once_has_every_event_ten_times_over(scene: Scene) -> None:
    with scene.events() as recorder:
        started = [scene.popen("true") for _ in range(10)]
        idents = scene.ids[-10:]
        assert [process.wait(TIMEOUT) for process, _ in started] == [0] * 10
        for ident in idents:
            recorder.until(ident, *LIFE)


def test_a_paused_task_is_told_and_resumed(scene: Scene) -> None:
    with scene.events() as recorder:
        task = scene.start().says("up")
        scene.containerd.ctr("task", "pause", task.id).ok()
        assert task.status == "PAUSED"
        assert scene.containerd.path(f"/proc/{task.pid}/stat").exists()
        scene.containerd.ctr("task", "resume", task.id).ok()
        assert task.status == "RUNNING"
        task.kill().ok()
        task.wait().remove()
        recorder.until(task.id, "create", "start", "paused", "resumed", "exit", "delete")
