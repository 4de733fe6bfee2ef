"""create, start, state, kill, delete: what each does, and what it refuses."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.host import observe
from tests.host.runtimes import ID_PREFIX, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime


def state(runtime: Runtime, ident: str) -> dict[str, Json]:
    """What the command `state` prints."""
    return cast("dict[str, Json]", json.loads(runtime.call("state", ident).ok().stdout))


def test_a_created_container_has_a_process_that_does_not_run_the_program_yet(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    bundle.directory("out").bind(scratch / "tmp", "/out").sh("echo ran > /out/proof")
    container = runtime.create(bundle)
    assert observe.alive(container.pid)
    assert not (scratch / "tmp/proof").exists()
    container.start()
    container.wait()
    assert (scratch / "tmp/proof").read_text() == "ran\n"
    (scratch / "tmp/proof").unlink()


def test_the_status_goes_from_created_to_running_to_stopped(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    assert state(runtime, container.id)["status"] == "created"
    container.start()
    assert state(runtime, container.id)["status"] == "running"
    container.kill("KILL").ok()
    container.wait()
    assert state(runtime, container.id)["status"] == "stopped"


def test_the_status_is_stopped_once_the_process_is_reaped(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.args("true"))
    assert container.exit_status() == 0
    assert state(runtime, container.id)["status"] == "stopped"


@pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)
def test_without_a_process_a_container_is_created_entered_and_never_started(
    runtime: Runtime, bundle: Bundle
) -> None:
    """Create needs none, start does (runtime.md#start).  runc refuses the create."""
    container = runtime.create(bundle.drop("process"))
    assert observe.status(container.pid)["CapEff"] == observe.status(container.pid)["CapBnd"] == "0" * 16
    for _ in range(2):
        runtime.call("start", container.id).refused(
            "config.json:1:1 /process: must be there for a start: without it there is no program "
            "(add it and create the container anew)"
        )
        assert state(runtime, container.id)["status"] == "created"
    assert runtime.call("exec", container.id, "/bin/hostname").ok().stdout == "runc\n"
    container.delete("--force").ok()


@pytest.mark.parametrize("runtime", ["ocirun"], indirect=True)
def test_a_run_without_a_process_is_refused_before_anything_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put([{"path": "/bin/false"}], "hooks", "createRuntime")
    runtime.run(bundle.drop("process")).refused("/process: must be there for a start")


def test_the_state_has_the_members_of_the_specification(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put({"org.example.key": "value"}, "annotations")
    container = runtime.running(bundle.sleeping())
    found = state(runtime, container.id)
    assert (found["id"], found["pid"], found["bundle"]) == (container.id, container.pid, str(bundle.path))
    assert found["annotations"] == {"org.example.key": "value"}
    assert str(found["ociVersion"]).startswith("1.")


def test_every_version_that_features_tells_is_taken(runtime: Runtime, bundle: Bundle) -> None:
    """features.md: the first and the last, which are in their order."""
    features = json.loads(runtime.call("features").ok().stdout)
    versions = [str(features["ociVersionMin"]), str(features["ociVersionMax"])]
    first, last = (
        [int(part) for part in one.partition("-")[0].partition("+")[0].split(".")] for one in versions
    )
    assert first <= last
    for version in versions:
        runtime.run(bundle.put(version, "ociVersion").args("true")).ok()


def test_the_state_of_a_stopped_container_has_no_process(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.args("true"))
    container.exit_status()
    assert state(runtime, container.id).get("pid", 0) == 0


def test_the_exit_status_of_the_process_is_its_own(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.running(bundle.sh("exit 7")).exit_status() == 7


def test_the_pid_file_holds_the_number_and_nothing_else(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    assert container.pid_file.read_text() == str(container.pid)
    assert container.id in observe.cgroup(container.pid)


def test_a_change_of_the_config_after_create_has_no_effect(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sh("echo as created"))
    bundle.sh("echo as changed").write()
    container.start()
    container.wait()
    assert container.output == "as created\n"


def test_start_works_without_the_config(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sh("echo ran"))
    (bundle.path / "config.json").unlink()
    container.start()
    container.wait()
    assert container.output == "ran\n"


def test_a_detached_run_returns_while_the_program_runs(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.detach(bundle.sleeping())
    assert observe.alive(container.pid)
    assert state(runtime, container.id)["status"] == "running"


def test_an_id_can_be_used_again_after_delete(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    container.delete("--force").ok()
    assert state(runtime, runtime.create(bundle, ident=container.id).id)["status"] == "created"


def test_two_containers_live_side_by_side(runtime: Runtime, bundles: Callable[[str], Bundle]) -> None:
    first = runtime.running(bundles("one").sleeping())
    second = runtime.running(bundles("two").sleeping())
    first.kill().ok()
    first.wait()
    assert state(runtime, second.id)["status"] == "running"


def test_containers_of_another_root_are_not_seen(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    container = runtime.create(bundle.sleeping())
    here = runtime.root
    runtime.root = scratch / "elsewhere"
    try:
        assert runtime.call("state", container.id).code == 1
    finally:
        runtime.root = here


# -- refusals --------------------------------------------------------------------------------------


def test_create_with_an_id_in_use_is_refused_and_the_container_lives_on(
    runtime: Runtime, bundle: Bundle
) -> None:
    container = runtime.create(bundle.sleeping())
    runtime.attempt(bundle, ident=container.id).refused("exist")
    assert state(runtime, container.id)["status"] == "created"
    assert observe.alive(container.pid)


def test_start_of_a_running_container_is_refused_and_it_runs_on(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    runtime.call("start", container.id).refused()
    assert observe.alive(container.pid)


def test_start_of_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.args("true"))
    container.exit_status()
    runtime.call("start", container.id).refused()


def test_delete_of_a_running_container_is_refused_and_it_runs_on(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    container.delete().refused("running")
    assert observe.alive(container.pid)


def test_delete_by_force_ends_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    container.delete("--force").ok()
    assert not observe.alive(container.pid)


def test_delete_of_a_created_container_ends_it(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    container.delete().ok()
    assert not observe.alive(container.pid)


def test_delete_of_a_stopped_container_makes_it_unknown(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.args("true"))
    container.exit_status()
    container.delete().ok()
    runtime.call("state", container.id).refused("does not exist")


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete"])
def test_a_command_for_an_unknown_container_is_refused(runtime: Runtime, command: str) -> None:
    runtime.call(command, new_id(), *(["TERM"] if command == "kill" else [])).refused("does not exist")


def test_delete_by_force_of_an_unknown_container_succeeds(runtime: Runtime) -> None:
    runtime.call("delete", "--force", new_id()).ok()


@pytest.mark.parametrize("command", ["create", "run", "state", "start", "kill", "delete"])
def test_a_command_without_an_id_is_refused(runtime: Runtime, command: str) -> None:
    assert runtime.call(command).code != 0


@pytest.mark.parametrize("ident", ["a/b", "../escape", "/etc", "a b", "..", ".", "a\nb", "é"])
def test_an_id_that_is_not_a_plain_word_is_refused(runtime: Runtime, bundle: Bundle, ident: str) -> None:
    assert runtime.attempt(bundle.sleeping(), ident=ident).code == 1


@pytest.mark.parametrize("end", ["plain", "UPPER", "with_under.dot+plus-dash", "9" * 40])
def test_an_id_may_have_letters_digits_and_some_signs(runtime: Runtime, bundle: Bundle, end: str) -> None:
    assert (
        state(runtime, runtime.create(bundle.sleeping(), ident=ID_PREFIX + end).id)["id"] == ID_PREFIX + end
    )


# -- kill ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "10", "usr1"])
def test_kill_takes_a_signal_by_name_and_number(runtime: Runtime, bundle: Bundle, name: str) -> None:
    container = runtime.create(
        bundle.sh("trap 'exit 42' USR1; echo ready; while :; do sleep 0.05; done")
    ).start()
    observe.eventually(lambda: container.output == "ready\n", "the trap is set")
    container.kill(name).ok()
    assert container.exit_status() == 42


def test_kill_without_a_signal_terminates(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(
        bundle.sh("trap 'exit 43' TERM; echo ready; while :; do sleep 0.05; done")
    ).start()
    observe.eventually(lambda: container.output == "ready\n", "the trap is set")
    runtime.call("kill", container.id).ok()
    assert container.exit_status() == 43


def test_kill_of_a_created_container_ends_it(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    container.kill("KILL").ok()
    assert container.exit_status() == 128 + signal.SIGKILL


def test_kill_of_a_stopped_container_says_that_it_is_not_running(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.args("true"))
    container.exit_status()
    container.kill("TERM").refused("container not running")


def test_an_unknown_signal_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    container.kill("NOSUCH").refused()
    assert observe.alive(container.pid)


def test_a_signal_to_run_in_the_foreground_reaches_the_program(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("trap 'exit 44' TERM; echo ready; while :; do sleep 0.05; done").write()
    process, result = runtime.popen("run", "--bundle", str(bundle.path), new_id())
    observe.eventually(lambda: result.stdout == "ready\n", "the trap is set")
    process.terminate()
    assert process.wait(30) == 44


# -- list ------------------------------------------------------------------------------------------


def test_list_shows_a_table(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    head, row = runtime.call("list").ok().stdout.splitlines()
    assert head.split()[:4] in (["ID", "PID", "STATUS", "BUNDLE"], ["NAME", "PID", "STATUS", "BUNDLE"])
    assert row.split()[:4] == [container.id, str(container.pid), "running", str(bundle.path)]


def test_list_gives_the_bare_ids(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    assert runtime.call("list", "--quiet").ok().stdout == f"{container.id}\n"
    assert runtime.call("list", "-q").ok().stdout == f"{container.id}\n"


def test_list_speaks_json(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    (found,) = cast("list[dict[str, Json]]", json.loads(runtime.call("list", "--format", "json").ok().stdout))
    assert (found["id"], found["pid"], found["status"]) == (container.id, container.pid, "created")
    assert found["bundle"] == str(bundle.path)


def test_list_without_containers_is_an_empty_table(runtime: Runtime) -> None:
    assert len(runtime.call("list").ok().stdout.splitlines()) == 1


def test_state_tells_no_secrets_to_other_users(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.env("PASSWORD=secret").sleeping())
    for path in Path(runtime.root, container.id).rglob("*"):
        if path.is_file() and b"PASSWORD" in path.read_bytes():
            ways = [parent for parent in (path, *path.parents) if runtime.root in (parent, *parent.parents)]
            assert not all(way.stat().st_mode & 0o005 for way in ways), f"{path} can be read by anyone"
