"""The agent of plugins where the host is short of processes, or somebody exchanges a plugin."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import HostError
from ocirun.lifecycle.plugins import hand_on
from ocirun.seccomp.plugins import Conf, Plugin, RefusedError
from ocirun.waiting import drive

if TYPE_CHECKING:
    from pathlib import Path

POINTER = "/annotations/run.oci.seccomp.plugins"


@pytest.mark.parametrize("left", [0, 1], ids=["first", "second"])
def test_a_fork_that_is_refused_is_told_with_the_pointer(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    fork, allowed = os.fork, iter(range(left))

    def forked() -> int:
        if next(allowed, None) is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", forked)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostError, match=r"(?i)resource temporarily unavailable") as caught:
        drive(hand_on(0, "/none.so", ("", "", "", ""), POINTER))
    assert caught.value.pointer == POINTER
    assert os.listdir("/proc/self/fd") == before


def test_a_plugin_that_is_exchanged_for_another_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("one.so", "other.so"):
        (tmp_path / name).touch(mode=0o644)

    def exchanged(_path: str) -> str:
        return str(tmp_path / "other.so")

    monkeypatch.setattr(os, "readlink", exchanged)
    with pytest.raises(RefusedError, match="was exchanged"):
        Plugin(str(tmp_path / "one.so"), Conf())
