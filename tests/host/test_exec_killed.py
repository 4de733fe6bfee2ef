"""An exec that is killed or interrupted at any moment leaves the container with init alone, or whole."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import Interrupted
from ocirun.lifecycle.exec import Executed, ProcessOptions, exec_process
from ocirun.lifecycle.store import Store
from ocirun.waiting import Wait, drive, wait
from tests.host import execs, observe
from tests.host.faults import VICTIMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Process

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime

REPOSITORY = Path(__file__).parents[2]
ROUNDS = 25


def _exec(what: str, container: Container, index: int) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tests.host.exec_faults", what, str(container.runtime.root))
    return subprocess.run(
        [*command, container.id, str(index)],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _alone(container: Container) -> bool:
    return execs.members_of(container) == {container.pid}


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_before_any_step_it_leaves_init_alone(victim: str, ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    count = int(_exec("count", container, 0).stdout)
    assert count > 20
    for index in range(count):
        result = _exec(victim, container, index)
        assert result.returncode == (-9 if victim == "ocirun" else 1), f"record {index}: {result.stderr}"
        assert victim == "ocirun" or "the helper was killed" in result.stderr
        observe.eventually(lambda: _alone(container), f"killed before record {index}")
    assert execs.execute(container, "echo", "well").ok().stdout == "well\n"
    reap()  # what a killed ocirun had as children came to us


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_interrupted_it_leaves_init_alone(ocirun: Runtime, bundle: Bundle, signum: signal.Signals) -> None:
    container = ocirun.running(bundle.sleeping())
    chance = random.Random(signum)  # noqa: S311 - moments, not secrets
    for _ in range(ROUNDS):
        process, result = ocirun.popen("exec", container.id, "sleep", "0.2")
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signum)
        code = process.wait(30)
        assert code in {0, -signum, 128 + signum}, result.stderr
        assert "Traceback" not in result.stderr
        observe.eventually(lambda: _alone(container), "init is alone")


def test_success_is_never_told_of_a_program_that_did_not_run(ocirun: Runtime, bundle: Bundle) -> None:
    """Somebody kills all of the container but init while detached execs are on their way."""
    container = ocirun.running(bundle.sleeping())
    chance = random.Random(5)  # noqa: S311 - moments, not secrets
    for number in range(ROUNDS):
        process, result = ocirun.popen("exec", "-d", container.id, "sh", "-c", f"echo {number}; sleep 1000")
        time.sleep(0.08 * chance.random() ** 4)  # most of them soon: an exec takes some milliseconds
        killed: set[int] = set()
        while process.poll() is None:
            killed |= _kill_others(container)
        assert process.returncode in (0, 255), result.stderr
        killed |= _kill_others(container)
        observe.eventually(lambda: not any(map(observe.alive, killed)), "they are dead")  # noqa: B023
        comm = {_comm(pid) for pid in killed}
        assert process.returncode != 0 or "ocirun-init" not in comm
        observe.eventually(lambda: _alone(container), "init is alone")
        reap()


def test_success_is_not_told_of_one_that_was_killed_before_its_execve(
    ocirun: Runtime, bundle: Bundle
) -> None:
    container = ocirun.running(bundle.sleeping())
    ocirun.call("pause", container.id).ok()  # who is born into it waits at its first instruction
    process, result = ocirun.popen("exec", "--ignore-paused", "-d", container.id, "sleep", "1000")
    observe.eventually(lambda: not _alone(container), "it is born")
    assert _kill_others(container)
    ocirun.call("resume", container.id).ok()
    assert process.wait(30) == 255, result.stderr
    observe.eventually(lambda: _alone(container), "init is alone")
    reap()


def _kill_others(container: Container) -> set[int]:
    """Kills all in its cgroup but init, and tells whom."""
    others = execs.members_of(container) - {container.pid}
    for pid in others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return others


def _comm(pid: int) -> str:
    """The name of a process, which a zombie still has; "" when it was reaped."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _zombies() -> set[int]:
    return {pid for pid in observe.descendants(os.getpid()) if observe.state_letter(pid) == "Z"}


def reap() -> None:
    """Reaps who came to us: the children of a command that was killed, and who was executed detached."""
    for pid in _zombies():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def thrower(at: int) -> Callable[[Wait], tuple[int, ...]]:
    """Waits as usual, but throws at the wait number ``at``."""
    seen = 0

    def waiter(what: Wait) -> tuple[int, ...]:
        nonlocal seen
        seen += 1
        if seen == at:
            raise Interrupted(signal.SIGINT)
        return wait(what)

    return waiter


def test_thrown_at_any_wait_it_leaves_init_alone(ocirun: Runtime, bundle: Bundle) -> None:
    """As a shim ends a call: no child and no descriptor of ours may be left."""
    container = ocirun.running(bundle.sleeping())
    store = Store(str(ocirun.root))
    process: Process = {"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "terminal": True}
    made: Executed | None = None
    at = 0
    while made is None:
        at += 1
        before = ours()
        task = exec_process(store, container.id, process, ProcessOptions(foreground=True))
        notes: list[str] = []
        try:
            made = drive(task, thrower(at))
            continue
        except Interrupted as error:
            notes = getattr(error, "__notes__", notes)
        assert not notes, f"thrown at wait {at}: {notes}"
        assert ours() == before, f"thrown at wait {at}"
        assert _alone(container), f"thrown at wait {at}"
    assert at > 5
    os.close(made.pidfd)
    os.close(made.console)
    container.executed.append(made.pid)


def ours() -> tuple[set[str], set[str]]:
    tasks = Path("/proc/self/task").iterdir()
    children = {pid for task in tasks for pid in (task / "children").read_text().split()}
    return children, set(os.listdir("/proc/self/fd"))
