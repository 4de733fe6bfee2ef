"""What `start` says is true: the program was executed, or start fails with the reason."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.host import observe
from tests.host.bundles import Bundle
from tests.host.runtimes import Container, Runtime

#: Seconds after which the kill comes: from before the launcher runs to long after execve.
DELAYS = [0.0, *(0.0005 * number for number in range(1, 60)), 0.1]


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _killed_after(delay: float, ocirun: Runtime, bundle: Bundle) -> tuple[bool, bool]:
    """Whether the program of a container ran whose init is killed so long after its start, and whether start
    said so."""
    container = ocirun.create(bundle.sleeping())
    process, result = ocirun.popen("start", container.id)
    time.sleep(delay)
    os.kill(container.pid, signal.SIGKILL)
    code = process.wait(30)
    container.wait()
    ran = _comm(container.pid) != "ocirun-init"  # a zombie, for we have not reaped it
    assert ran or code == 1, f"killed after {delay} s: {result.stderr}"
    container.delete("--force").ok()
    return ran, code == 0


@pytest.mark.slow
def test_start_never_reports_success_for_a_program_that_did_not_run(ocirun: Runtime, bundle: Bundle) -> None:
    random.seed(7)
    outcomes = {_killed_after(delay, ocirun, bundle) for delay in random.sample(DELAYS, len(DELAYS))}
    late = DELAYS[-1]
    while (True, True) not in outcomes:  # a machine may be too busy for all of them
        late *= 2
        outcomes.add(_killed_after(late, ocirun, bundle))
    while (False, False) not in outcomes:
        outcomes.add(_killed_after(0.0, ocirun, bundle))


def test_start_tells_that_init_was_killed_while_it_waited(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    ocirun.call("start", container.id).refused("cannot start a container that has stopped")
    container.delete().ok()


def test_a_program_that_ends_at_once_was_still_started(ocirun: Runtime, bundle: Bundle) -> None:
    for _ in range(20):
        container = ocirun.create(bundle.args("true"))
        ocirun.call("start", container.id).ok()
        container.delete("--force").ok()


def test_the_handshake_is_gone_after_start_and_held_by_init_alone_before(
    ocirun: Runtime, bundle: Bundle
) -> None:
    container = ocirun.create(bundle.sleeping())
    state = ocirun.root / container.id
    held = sorted(
        Path(target).name for target in observe.descriptors(container.pid).values() if str(state) in target
    )
    assert held == ["gate", "proof"]
    container.start()
    assert sorted(path.name for path in state.iterdir()) == ["config.json", "journal"]
    assert not [target for target in observe.descriptors(container.pid).values() if str(state) in target]


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("script", b"#!/opt/missing -x\necho\n", "/opt/missing, which is not in the image"),
        ("dos", b"#!/bin/sh\r\necho\r\n", "CR LF"),
        ("text", b"echo hello\n", "neither an ELF program nor a script"),
    ],
)
def test_start_tells_why_the_program_could_not_be_executed(
    name: str, content: bytes, hint: str, ocirun: Runtime, bundle: Bundle
) -> None:
    program = bundle.rootfs / "bin" / name
    program.write_bytes(content)
    program.chmod(0o755)
    container: Container = ocirun.create(bundle.args(name))
    ocirun.call("start", container.id).refused(f'exec: "{name}"', hint)
    container.delete().ok()
