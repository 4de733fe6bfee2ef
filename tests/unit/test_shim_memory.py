"""Who was killed for want of memory is told once, and nothing is told of what was known before."""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

import pytest
from ocirun_shim.loop import Loop
from ocirun_shim.memory import MemoryWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocirun_shim.loop import Watch


class Watching(Loop):
    """A loop that takes files, which epoll refuses; kernfs's it takes."""

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> Watch:
        with contextlib.suppress(PermissionError):
            super().watch(fd, mask, callback)
        self.asked = (fd, mask)
        return super().watch(self.fileno(), 0, callback)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """The file memory.events of a cgroup in which one was killed."""
    path = tmp_path / "memory.events"
    path.write_text("low 0\nhigh 0\nmax 9\noom 5\noom_kill 1\noom_group_kill 0\n")
    return path


@pytest.fixture
def told() -> list[str]:
    """What was told."""
    return []


def _watch(events: Path, told: list[str], killed: int = -1) -> MemoryWatch:
    return MemoryWatch(Watching(), str(events.parent), lambda: told.append("oom"), killed)


def test_only_what_is_new_is_told_and_only_once(events: Path, told: list[str]) -> None:
    watch = _watch(events, told)
    watch.look()
    assert told == []
    events.write_text("oom 9\noom_kill 3\n")
    watch.look()
    watch.look()
    assert (told, watch.killed) == (["oom"], 3)
    watch.close()


def test_what_happened_between_two_workers_is_told_by_the_second(events: Path, told: list[str]) -> None:
    watch = _watch(events, told, killed=0)
    watch.look()
    assert told == ["oom"]
    watch.close()


def test_it_asks_epoll_for_what_cgroup2_tells(events: Path, told: list[str]) -> None:
    loop = Watching()
    watch = MemoryWatch(loop, str(events.parent), lambda: None)
    fd, mask = loop.asked
    assert (os.readlink(f"/proc/self/fd/{fd}"), mask) == (str(events), select.EPOLLPRI)
    watch.close()


def test_without_the_controller_nothing_is_told(tmp_path: Path, told: list[str]) -> None:
    watch = MemoryWatch(Loop(), str(tmp_path), lambda: told.append("oom"))
    watch.look()
    watch.close()
    assert (told, watch.killed) == ([], 0)


def test_when_the_cgroup_is_gone_it_lets_go(events: Path, told: list[str]) -> None:
    loop = Watching()
    watch = MemoryWatch(loop, str(events.parent), lambda: told.append("oom"))
    events.write_text("")
    watch.look()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(loop.asked[0])
    watch.close()
    assert told == []
