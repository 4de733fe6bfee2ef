"""``ctr task``: the life of a container in the background, and what is to be learnt of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from conformance.private_view import TIMEOUT, eventually
from tests.engines.scenes import signalled

if TYPE_CHECKING:
    from tests.engines.scenes import Scene


def test_a_task_runs_is_listed_and_is_removed_when_it_has_stopped(scene: Scene) -> None:
    task = scene.start().says("up")
    assert task.status == "RUNNING"
    assert scene.containerd.path(f"/proc/{task.pid}").exists()
    assert task.kill("TERM").code == 0
    assert task.wait().remove() == 3
    assert task.output == "up\nbye\n"
    assert scene.tasks() == {}


@pytest.mark.parametrize("flags", [(), ("--all",)], ids=["init", "all"])
def test_a_task_is_killed(scene: Scene, flags: tuple[str, ...]) -> None:
    task = scene.start("sh", "-c", "sleep 100 & echo up; wait").says("up")
    task.kill("KILL", *flags).ok()
    assert task.wait().remove() == signalled("KILL")


def test_a_signal_to_all_reaches_those_that_were_executed_too(scene: Scene) -> None:
    task = scene.start().says("up")
    process, result = scene.containerd.popen(
        "ctr", "task", "exec", "--exec-id", "other", task.id, "sh", "-c", "echo up; sleep 100"
    )
    eventually(lambda: result.stdout == "up\n", "the other program is up")
    task.kill("KILL", "--all").ok()
    assert process.wait(TIMEOUT) == signalled("KILL")
    assert task.wait().remove() == signalled("KILL")


def test_a_running_task_is_not_removed(scene: Scene) -> None:
    task = scene.start().says("up")
    refused = scene.containerd.ctr("task", "rm", task.id)
    assert refused.code == 1
    assert "must be stopped" in refused.stderr
    assert task.status == "RUNNING"


def test_a_running_task_is_removed_by_force(scene: Scene) -> None:
    task = scene.start().says("up")
    scene.containerd.ctr("task", "rm", "--force", task.id).ok()
    assert scene.tasks() == {}


def test_a_stopped_task_is_not_killed(scene: Scene) -> None:
    task = scene.start("true").wait()
    refused = task.kill()
    assert refused.code == 1
    assert "not found" in refused.stderr
    assert task.remove() == 0


def test_a_task_that_is_not_there_is_not_found(scene: Scene) -> None:
    refused = scene.containerd.ctr("task", "kill", scene.new_id())
    assert refused.code == 1
    assert "not found" in refused.stderr


def test_a_task_is_started_again_after_its_removal(scene: Scene) -> None:
    task = scene.start("sh", "-c", "echo once; exit 4").wait()
    scene.containerd.ctr("task", "rm", task.id).ok()
    log = f"file://{task.log}"
    scene.containerd.ctr("task", "start", "--detach", "--log-uri", log, task.id).ok()
    assert task.wait().remove() == 4
    assert task.output == "once\nonce\n"


def test_the_processes_are_listed(scene: Scene) -> None:
    task = scene.start().says("up")
    task.exec("sleep", "100", flags=("--detach",)).ok()
    lines = scene.containerd.ctr("task", "ps", task.id).ok().stdout.splitlines()[1:]
    table = dict(line.split(maxsplit=1) for line in lines)
    assert table[str(task.pid)].strip() == "-"
    (executed,) = [pid for pid, info in table.items() if info.strip() == 'exec_id:"e1"']
    words = scene.containerd.path(f"/proc/{executed}/cmdline").read_bytes()
    assert words.split(b"\0")[:2] == [b"sleep", b"100"]


def _metrics(scene: Scene) -> dict[str, object]:
    task = scene.start().says("up")
    done = scene.containerd.ctr("task", "metrics", "--format", "json", task.id).ok()
    return cast("dict[str, object]", json.loads(done.stdout))


def _controllers(scene: Scene) -> list[str]:
    return scene.containerd.path("/sys/fs/cgroup/cgroup.controllers").read_text().split()


def test_metrics_are_there_whichever_controllers_are(scene: Scene) -> None:
    metrics = _metrics(scene)
    # Docker and the CRI read these without asking whether they are there.
    assert {"pids", "cpu", "memory"} <= {*metrics}
    if "pids" in _controllers(scene):
        assert metrics["pids"] != {}


def test_metrics_count_huge_pages(scene: Scene) -> None:
    if "hugetlb" not in _controllers(scene):
        pytest.skip("the host's cgroup2 has no hugetlb controller")
    assert _metrics(scene).get("hugetlb")


def test_the_runtime_introduces_itself(scene: Scene) -> None:
    done = scene.containerd.ctr("plugins", "inspect-runtime", "--runtime", scene.runtime, *scene.below).ok()
    told = cast("dict[str, object]", json.loads(done.stdout))
    assert told["Name"] == scene.runtime
    features = cast("dict[str, object]", told["Features"])
    assert features["ociVersionMin"] == "1.0.0"


def test_its_features_name_the_hooks(scene: Scene) -> None:
    done = scene.containerd.ctr("plugins", "inspect-runtime", "--runtime", scene.runtime, *scene.below).ok()
    features = cast("dict[str, object]", cast("dict[str, object]", json.loads(done.stdout))["Features"])
    assert "createRuntime" in cast("list[str]", features.get("hooks", []))


def test_the_shim_tells_its_version(scene: Scene) -> None:
    program = "containerd-shim-" + "-".join(scene.runtime.split(".")[-2:])
    told = scene.containerd.run(program, "-v").ok().stdout
    assert "Version:" in told


def test_two_containers_of_one_group_share_a_shim(scene: Scene) -> None:
    flags = ("--annotation", "io.containerd.runc.v2.group=g")
    one, two = scene.start(flags=flags).says("up"), scene.start(flags=flags).says("up")
    alone = scene.start().says("up")
    assert one.shim.pid == two.shim.pid != alone.shim.pid
    shim = one.shim.pid
    one.kill().ok()
    assert one.wait().remove() == signalled("KILL")
    assert two.shim.pid == shim
    assert two.shell("echo still here").ok().stdout == "still here\n"
    two.kill("TERM").ok()
    assert two.wait().remove() == 3
    eventually(lambda: shim not in {one.pid for one in scene.containerd.processes()}, "the shim has gone")


def test_the_containers_are_in_cgroups_of_their_own(scene: Scene) -> None:
    task = scene.start().says("up")
    lines = scene.containerd.path(f"/proc/{task.pid}/cgroup").read_text().splitlines()
    assert f"0::/{scene.containerd.namespace}/{task.id}" in lines
