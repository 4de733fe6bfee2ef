"""The loopback interface of a network namespace is set up from outside, which stays where it was."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import HostError
from ocirun.lifecycle import loopback
from ocirun.waiting import drive
from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def holder() -> Iterator[int]:
    """A process with a network namespace of its own."""
    own = observe.namespace("self", "net")
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as process:
        observe.eventually(lambda: observe.namespace(process.pid, "net") != own, "it is in there")
        yield process.pid
        process.kill()


def _flags(pid: int) -> set[str]:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "link", "show", "lo"]
    done = subprocess.run(command, capture_output=True, check=True)
    return set(json.loads(done.stdout)[0]["flags"])


def test_it_is_up(holder: int) -> None:
    own = observe.namespace("self", "net")
    assert "UP" not in _flags(holder)
    drive(loopback.set_up(holder))
    assert _flags(holder) == {"LOOPBACK", "UP", "LOWER_UP"}
    assert observe.namespace("self", "net") == own


def test_who_is_gone_has_none() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(HostError, match=r"loopback interface of the container up: .*\(ENOENT\)") as caught:
        drive(loopback.set_up(process.pid))
    assert caught.value.code == "criu"


def test_what_is_no_network_is_refused(monkeypatch: pytest.MonkeyPatch, holder: int) -> None:
    monkeypatch.setattr(loopback, "_CLONE_NEWNET", 0x08000000)  # of another kind: EINVAL (setns(2))
    with pytest.raises(HostError, match=r"\(EINVAL\)"):
        drive(loopback.set_up(holder))


def test_who_closes_it_waits_for_nothing(holder: int) -> None:
    before, there = observe.descriptors(os.getpid()), observe.descendants(os.getpid())
    task = loopback.set_up(holder)
    next(task)
    (child,) = observe.descendants(os.getpid()) - there
    task.close()
    assert observe.descriptors(os.getpid()).items() <= before.items()
    observe.eventually(lambda: not observe.alive(child), "its child has ended")
    with contextlib.suppress(ChildProcessError):  # it was reaped at once
        os.waitpid(child, 0)
