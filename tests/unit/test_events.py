"""What the command events knows of kills at its beginning, on a directory that has the files of a cgroup."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from ocirun.lifecycle import events

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_kill_at_the_beginning_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first count, and before the kernel is asked to tell of changes."""
    file = tmp_path / "memory.events"
    file.write_text("oom 0\noom_kill 2\n")
    epoll = select.epoll

    def kill() -> select.epoll:
        file.write_text("oom 1\noom_kill 3\n")
        return epoll()

    monkeypatch.setattr(select, "epoll", kill)
    watch: Any = getattr(events, "_Kills")(str(tmp_path))  # noqa: B009 - it is private
    monkeypatch.undo()
    assert watch.look()
    assert not watch.look()
    watch.close()
