"""What a cgroup counted is told as the end of a container only where nobody else was counted there."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from ocirun import journal
from ocirun.errors import Fault, StateError
from ocirun.lifecycle.create import CreateOptions, _short_of_memory
from ocirun.lifecycle.memory import fault_of_kill
from ocirun.lifecycle.run import _tell_of_memory
from ocirun.lifecycle.start import _wrong_status
from ocirun.lifecycle.store import Store

CASES = pytest.mark.parametrize(("made", "told"), [(-1, False), (0, False), (1, True), (3, True)])


def _state(tmp_path: Path, made: int) -> Path:
    """The state of a container whose cgroup, so many directories of which were made, has seen a kill."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box/memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    (tmp_path / "box/memory.max").write_text("4096\n")
    state = tmp_path / "state" / "one"
    state.mkdir(parents=True)
    trace: dict[str, object] = {"step": 1, "undo": "remove_cgroup", "args": [str(tmp_path), "/box", 0]}
    event: dict[str, object] = {"cgroups_made": made, "note": ""}
    entries = [trace, event] if made >= 0 else [trace]
    (state / "journal").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return state


def test_a_look_that_fails_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What create has left is still to be undone: nothing else may come up."""
    directory = _state(tmp_path, 1)

    def read(path: str) -> bytes:
        raise OSError(errno.EMFILE, f"no descriptor for {path}")

    monkeypatch.setattr("ocirun.lifecycle.memory.read_file", read)
    first = StateError("no")
    assert _short_of_memory(first, str(directory)) is None
    assert "while looking at its memory" in first.__notes__[0]
    assert fault_of_kill(str(tmp_path / "box")) is None


@CASES
def test_by_create(made: int, told: bool, tmp_path: Path) -> None:
    error = _short_of_memory(StateError("no"), str(_state(tmp_path, made)))
    assert (error is not None and error.code == "memory-limit") == told


@CASES
def test_by_start(made: int, told: bool, tmp_path: Path) -> None:
    entries = journal.read(str(_state(tmp_path, made)))
    assert (_wrong_status("stopped", entries).code == "memory-limit") == told


@CASES
def test_by_run(made: int, told: bool, tmp_path: Path) -> None:
    _state(tmp_path, made)
    faults: list[Fault] = []
    _tell_of_memory(Store(str(tmp_path / "state")), "one", CreateOptions(warn=faults.append))
    assert bool(faults) == told
