"""What update reads of a cgroup before it writes to it, on a directory that has its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirun.cli.commands_update import amount
from ocirun.errors import ConfigError, HostError, StateError, UsageError
from ocirun.lifecycle import update as under_test
from ocirun.lifecycle.state import RUNNING
from ocirun.waiting import drive
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocirun.host import Host

FILES = {"memory.max": "1000\n", "memory.current": "600\n", "memory.swap.max": "max\n", "pids.max": "max\n"}


class _Entries:
    def __init__(self, cgroup: str) -> None:
        self.cgroup = cgroup


class _Running:
    status = RUNNING


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Path]:
    """Updates a running container whose cgroup is a plain directory, and gives that."""
    own = tmp_path / "c"
    own.mkdir()
    (tmp_path / "cgroup.subtree_control").touch()
    for name, text in FILES.items():
        (own / name).write_text(text)
    host = cases.a_host(cgroup_mount=str(tmp_path), controllers=frozenset(("memory", "pids")))

    def entries(*_: object) -> _Entries:
        return _Entries(str(own))

    def running(*_: object) -> type[_Running]:
        return _Running

    def gathered() -> Host:
        return host

    monkeypatch.setattr(under_test, "entries_of", entries)
    monkeypatch.setattr(under_test, "State", running)
    monkeypatch.setattr("ocirun.host.gather", gathered)
    store: Any = None

    def go(wanted: dict[str, Any]) -> Path:
        drive(under_test.update(store, "c", wanted))
        return own

    return go


def test_swap_alone_counts_from_the_present_limit(change: Callable[[dict[str, Any]], Path]) -> None:
    assert (change({"memory": {"swap": 1500}}) / "memory.swap.max").read_text() == "500\n"


def test_a_limit_below_what_is_used_is_refused(change: Callable[[dict[str, Any]], Path]) -> None:
    with pytest.raises(StateError, match="below the 600 bytes in use"):
        change({"memory": {"limit": 500, "checkBeforeUpdate": True}})
    assert (
        change({"memory": {"limit": 7000, "checkBeforeUpdate": True}}) / "memory.max"
    ).read_text() == "7000\n"


def test_all_is_checked_before_anything_is_written(
    change: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        change({"pids": {"limit": 5}, "memory": {"disableOOMKiller": True}})
    with pytest.raises(HostError):
        change({"pids": {"limit": 5}, "cpu": {"shares": 512}})
    assert (tmp_path / "c/pids.max").read_text() == "max\n"


def test_amounts() -> None:
    assert [amount("m", text, units=True) for text in ("-1", "512m", "2G", "7", "9b")] == [
        -1,
        512 << 20,
        2 << 30,
        7,
        9,
    ]
    for text in ("", "m", "1mm", "1.5g", "٣", "1" * 30, "--1"):
        with pytest.raises(UsageError):
            amount("m", text, units=True)
