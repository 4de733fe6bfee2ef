"""What must not happen, happens: the shim is killed, containerd is killed while it creates."""

from __future__ import annotations

import json
import shutil
import signal
import time
from typing import TYPE_CHECKING, cast

import pytest

from conformance.image import BUSYBOX, IMAGE
from conformance.private_view import TIMEOUT, end, eventually
from tests.engines.leftovers import zygotes
from tests.engines.scenes import signalled

if TYPE_CHECKING:
    from tests.engines.scenes import Scene


def test_a_killed_shim_takes_its_container_along_and_containerd_tells(scene: Scene) -> None:
    with scene.events() as recorder:
        task = scene.start().says("up")
        pid, shim = task.pid, task.shim.pid
        scene.containerd.kill(shim)
        recorder.until(task.id, "create", "start", "exit", "delete")
    ended = recorder.one(task.id, "exit")
    assert (ended["id"], ended["pid"], ended["exit_status"]) == (task.id, pid, signalled("KILL"))
    # containerd tells of the end before it forgets the task, and process 1 reaps when it comes to that.
    eventually(lambda: scene.tasks() == {}, "the task is gone")
    eventually(lambda: pid not in {one.pid for one in scene.containerd.processes()}, "and its process")
    eventually(lambda: not scene.bundle(task.id).exists(), "and its directory")


def test_a_killed_shim_takes_executed_programs_along(scene: Scene) -> None:
    task = scene.start().says("up")
    task.exec("sleep", "1000", flags=("--detach",)).ok()
    scene.containerd.kill(task.shim.pid)
    eventually(lambda: scene.tasks() == {}, "the task is gone")
    eventually(lambda: not _executes(scene, "sleep", "1000"), "the executed program is gone")


def test_a_killed_shim_does_no_harm_to_others(scene: Scene) -> None:
    one, two = scene.start().says("up"), scene.start().says("up")
    scene.containerd.kill(one.shim.pid)
    eventually(lambda: [*scene.tasks()] == [two.id], "one task is gone")
    assert two.shell("echo fine").ok().stdout == "fine\n"
    two.kill("TERM").ok()
    assert two.wait().remove() == 3


def test_a_new_container_starts_after_a_shim_was_killed(scene: Scene) -> None:
    task = scene.start().says("up")
    scene.containerd.kill(task.shim.pid)
    eventually(lambda: scene.tasks() == {}, "the task is gone")
    assert scene.run("echo", "fine").ok().stdout == "fine\n"


@pytest.mark.parametrize("scene", ["ocirun"], indirect=True)
def test_a_killed_zygote_is_missed_by_nobody(scene: Scene) -> None:
    task = scene.start().says("up")
    for zygote in zygotes(scene.containerd):
        scene.containerd.kill(zygote.pid)
    assert task.shell("echo fine").ok().stdout == "fine\n"
    assert scene.run("echo", "fine too").ok().stdout == "fine too\n"
    task.kill("TERM").ok()
    assert task.wait().remove() == 3
    eventually(lambda: len(zygotes(scene.containerd)) == 1, "there is one again, and only one")


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.08, 0.11])
def test_containerd_killed_while_it_starts_a_container(scene: Scene, delay: float) -> None:
    words = ("ctr", *scene.arguments("--detach", "--null-io"), IMAGE, scene.new_id(), "sleep", "1000")
    process, _ = scene.containerd.popen(*words)
    time.sleep(delay)  # the kill is to fall anywhere into the start; nothing is there to be waited for
    scene.containerd.stop(signal.SIGKILL)
    process.wait(TIMEOUT)
    scene.containerd.start()
    scene.clean_up()
    eventually(lambda: not _executes(scene, "sleep", "1000"), "the program is gone")
    assert scene.run("echo", "fine").ok().stdout == "fine\n"


@pytest.mark.parametrize("end_of_hook", ["before", "after"])
def test_containerd_killed_while_a_hook_runs(scene: Scene, end_of_hook: str) -> None:
    """The shim answers its Create request to nobody; the container must not stay."""
    ident = scene.new_id()
    config = _config_with_hook(scene, ident, "touch /run/hooked; while [ ! -e /run/go ]; do sleep 0.02; done")
    words = ("ctr", *scene.arguments("--detach", "--null-io", "--config", config), ident)
    process, result = scene.containerd.popen(*words)
    try:
        eventually(scene.containerd.path("/run/hooked").exists, f"the hook runs: {result.stderr}")
        scene.containerd.stop(signal.SIGKILL)
        process.wait(TIMEOUT)
        if end_of_hook == "after":
            scene.containerd.start()
        scene.containerd.path("/run/go").touch()
        if end_of_hook == "before":
            scene.containerd.start()
        scene.clean_up()
        eventually(lambda: not _executes(scene, "sleep", "1000"), "the program is gone")
    finally:
        end(process)
        for name in ("/run/hooked", "/run/go"):
            scene.containerd.path(name).unlink(missing_ok=True)


def _config_with_hook(scene: Scene, ident: str, script: str) -> str:
    """A config.json of ``ctr oci spec`` with a root file system of its own and a createRuntime hook."""
    rootfs = scene.containerd.scratch / ident
    rootfs.mkdir(mode=0o755)
    for name in ("bin", "dev", "proc", "sys", "run"):
        (rootfs / name).mkdir()
    shutil.copy2(BUSYBOX, rootfs / "bin/sleep")
    config = cast("dict[str, dict[str, object]]", json.loads(scene.containerd.ctr("oci", "spec").ok().stdout))
    config["root"] = {"path": str(rootfs)}
    config["process"]["args"] = ["/bin/sleep", "1000"]
    config["linux"]["cgroupsPath"] = f"/{scene.containerd.namespace}/{ident}"
    config["linux"]["resources"] = {}
    config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    file = scene.containerd.scratch / f"{ident}.json"
    file.write_text(json.dumps(config))
    return str(file)


def _executes(scene: Scene, *words: str) -> bool:
    """Whether any process executes this command."""
    return any(process.command[-len(words) :] == words for process in scene.containerd.processes())
