"""A signal at any moment: nothing is left, and nobody sees a traceback."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.host.runtimes import Result, Runtime, new_id

if TYPE_CHECKING:
    from tests.host.bundles import Bundle

ROUNDS = 25
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def duration(runtime: Runtime, bundle: Bundle, command: str) -> float:
    """How long the command takes when nobody disturbs it."""
    ident = new_id()
    began = time.monotonic()
    runtime.call(command, "--bundle", str(bundle.path), ident).ok()
    ended = time.monotonic()
    if command == "create":
        runtime.call("delete", "--force", ident).ok()
    return ended - began


def disturb(
    runtime: Runtime, bundle: Bundle, command: str, signum: int, delay: float
) -> tuple[str, int, Result]:
    """Sends ``signum`` to ``command`` after ``delay`` seconds; gives id, exit code and what was printed."""
    ident = new_id()
    process, result = runtime.popen(command, "--bundle", str(bundle.path), ident)
    time.sleep(delay)
    process.send_signal(signum)
    return ident, process.wait(30), result


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_an_interrupted_run_leaves_nothing(ocirun: Runtime, bundle: Bundle, signum: signal.Signals) -> None:
    # After `start` the signal goes to the program, which as process 1 ignores it and soon ends by itself.
    bundle.args("sleep", "0.2").write()
    chance = random.Random(signum)  # noqa: S311 - moments, not secrets
    window = duration(ocirun, bundle, "run") - 0.15
    for _ in range(ROUNDS):
        delay = chance.uniform(0, window)
        ident, code, result = disturb(ocirun, bundle, "run", signum, delay)
        assert code in {0, 1, -signum, 128 + signum}, f"after {delay:.4f} s: {code} {result.stderr}"
        assert "Traceback" not in result.stderr, f"after {delay:.4f} s: {result.stderr}"
        assert ocirun.call("state", ident).code == 1, f"after {delay:.4f} s it is still there"


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_an_interrupted_create_leaves_nothing_or_a_whole_container(
    ocirun: Runtime, bundle: Bundle, signum: signal.Signals
) -> None:
    bundle.sleeping().write()
    chance = random.Random(signum)  # noqa: S311 - moments, not secrets
    window = duration(ocirun, bundle, "create") * 1.1
    for _ in range(ROUNDS):
        delay = chance.uniform(0, window)
        ident, code, result = disturb(ocirun, bundle, "create", signum, delay)
        known = ocirun.call("state", ident).code == 0
        ocirun.call("delete", "--force", ident).ok()
        assert "Traceback" not in result.stderr, f"after {delay:.4f} s: {result.stderr}"
        assert known == (code == 0), f"after {delay:.4f} s: {code} {result.stderr}"


@pytest.mark.parametrize("command", ["create", "run"])
def test_what_a_killed_command_leaves_is_removed_by_delete(
    ocirun: Runtime, bundle: Bundle, command: str
) -> None:
    bundle.sleeping().write()
    chance = random.Random(command)  # noqa: S311 - moments, not secrets
    bundle.args("true").write()
    window = duration(ocirun, bundle, command) * 1.1
    bundle.sleeping().write()
    for _ in range(ROUNDS):
        ident, _, _ = disturb(ocirun, bundle, command, signal.SIGKILL, chance.uniform(0, window))
        ocirun.call("delete", "--force", ident).ok()
