"""Pause, resume and ps, told by cgroup.events and by what the processes do."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime

COUNTING = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done"


def _is_frozen(container: Container) -> bool:
    return "frozen 1" in execs.cgroup_file(container, "cgroup.events").read_text()


def _status(container: Container) -> str:
    return str(json.loads(container.runtime.call("state", container.id).ok().stdout)["status"])


def _within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether something happens in that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.01)
    return False


def _told(container: Container) -> int:
    return len(container.output.splitlines())


def test_a_paused_container_stands_still_and_goes_on(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sh(COUNTING))
    observe.eventually(lambda: _told(container) > 2, "it counts")
    runtime.call("pause", container.id).ok()
    if runtime.name == "crun":  # which writes cgroup.freeze and does not wait for the kernel
        observe.eventually(lambda: _is_frozen(container), "it is frozen")
    assert _is_frozen(container)
    assert _status(container) == "paused"
    stood = _told(container)
    assert not _within(0.3, lambda: _told(container) > stood)
    assert [one["status"] for one in json.loads(runtime.call("list", "-f", "json").stdout)] == ["paused"]
    runtime.call("resume", container.id).ok()
    assert not _is_frozen(container)
    assert _status(container) == "running"
    observe.eventually(lambda: _told(container) > stood + 2, "it counts on")


def test_what_is_refused_to_and_of_a_paused_container(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    ocirun.call("resume", container.id).refused("container not paused")
    ocirun.call("pause", container.id).ok()
    ocirun.call("pause", container.id).refused("container not running", "paused already: `ocirun resume")
    ocirun.call("start", container.id).refused("cannot start a container in the paused state")
    ocirun.call("delete", container.id).refused("that is not stopped: paused")
    assert "cannot exec in a paused container" in ocirun.call("exec", container.id, "true").stderr
    assert _is_frozen(container)


def test_a_created_container_can_be_paused(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    ocirun.call("pause", container.id).ok()
    assert _status(container) == "paused"
    ocirun.call("resume", container.id).ok()
    assert _status(container) == "created"
    container.start()


def test_what_stopped_or_never_was_cannot_be_paused(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    container.kill("KILL").ok()
    container.wait()
    ocirun.call("pause", container.id).refused("container not running")
    ocirun.call("resume", container.id).refused("container not paused")
    for command in ("pause", "resume", "ps"):
        ocirun.call(command, new_id()).refused("does not exist")


@pytest.mark.parametrize("command", [("kill", "KILL"), ("delete", "--force")])
def test_sigkill_reaches_a_paused_container(
    runtime: Runtime, bundle: Bundle, command: tuple[str, str]
) -> None:
    container = runtime.running(bundle.sleeping())
    runtime.call("pause", container.id).ok()
    words = (command[0], container.id, command[1]) if command[0] == "kill" else (*command, container.id)
    runtime.call(*words).ok()
    container.wait()
    container.deleted = command[0] == "delete"


def test_a_signal_waits_until_a_container_is_resumed(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sh("trap 'echo had it; exit 3' TERM; echo up; sleep 1000 & wait"))
    observe.eventually(lambda: "up" in container.output, "the trap is set")
    runtime.call("pause", container.id).ok()
    container.kill("TERM").ok()
    assert not _within(0.2, lambda: "had it" in container.output)
    runtime.call("resume", container.id).ok()
    assert container.exit_status() == 3


def test_ps_names_every_process(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    process, _ = ocirun.popen("exec", container.id, "sleep", "1000")
    observe.eventually(lambda: len(execs.members_of(container)) == 2, "both run")
    members = sorted(execs.members_of(container))
    assert json.loads(ocirun.call("ps", "--format", "json", container.id).ok().stdout) == members
    head, *lines = ocirun.call("ps", container.id).ok().stdout.splitlines()
    at = head.split().index("PID")
    assert sorted(int(line.split()[at]) for line in lines) == members
    head, *lines = ocirun.call("ps", container.id, "-o", "pid,comm", "-A").ok().stdout.splitlines()
    assert head.split() == ["PID", "COMMAND"]
    assert len(lines) == 2
    ocirun.call("ps", container.id, "-o", "comm").refused("no column PID")
    container.kill("KILL").ok()
    process.wait(30)


def test_ps_without_ps(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    nowhere = ocirun.scratch / "no-programs"
    nowhere.mkdir()
    ocirun.environment["PATH"] = str(nowhere)
    head, line = ocirun.call("ps", container.id).ok().stdout.splitlines()
    assert head.split() == ["UID", "PID", "PPID", "TIME", "CMD"]
    words = Path(f"/proc/{container.pid}/cmdline").read_text().rstrip("\0").split("\0")
    assert line.split()[:3] == ["0", str(container.pid), str(os.getpid())]
    assert line.split()[4:] == " ".join(words).split()
    ocirun.call("ps", container.id, "-ef").refused("ps(1) is not installed")
