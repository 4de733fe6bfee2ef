"""What update reads of a cgroup before it writes to it, on a directory that has its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ocirun.cgroup.restoring import Before
from ocirun.cli.commands_update import _from_file, amount
from ocirun.errors import ConfigError, HostError, StateError, UsageError
from ocirun.lifecycle import update as under_test
from ocirun.lifecycle.state import RUNNING
from ocirun.lifecycle.store import Store
from ocirun.waiting import drive
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocirun.host import Host

FILES = {"memory.max": "1000\n", "memory.current": "600\n", "memory.swap.max": "max\n", "pids.max": "max\n"}


class _Entries:
    scope = None

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

    def config(*_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(under_test, "frozen", config)
    store = Store(str(tmp_path / "state"))
    store.make("c").close()

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


def test_who_has_the_lock_keeps_others_out(
    change: Callable[[dict[str, Any]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two updates at once one would take back what the other has set."""
    monkeypatch.setattr("ocirun.lifecycle.store._PATIENCE", 0.1)
    other = drive(Store(str(tmp_path / "state")).lock("c"))
    with pytest.raises(StateError, match="locked by another command"):
        change({"pids": {"limit": 5}})
    assert (tmp_path / "c/pids.max").read_text() == "max\n"
    other.close()
    assert (change({"pids": {"limit": 500}}) / "pids.max").read_text() == "500\n"


def test_all_is_checked_before_anything_is_written(
    change: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        change({"pids": {"limit": 5}, "memory": {"disableOOMKiller": True}})
    with pytest.raises(HostError):
        change({"pids": {"limit": 5}, "cpu": {"shares": 512}})
    assert (tmp_path / "c/pids.max").read_text() == "max\n"


def test_amounts() -> None:
    sizes = {
        "-1": -1, "7": 7, "9b": 9, "512m": 512 << 20, "2G": 2 << 30, "1.5g": 3 << 29, "64 MiB": 64 << 20,
        "1kb": 1024, "0.5k": 512,
    }  # fmt: skip
    assert {text: amount("m", text, units=True) for text in sizes} == sizes
    for text in ("", "m", "1mm", "1.5", "1..5g", "٣", "1" * 30, "--1", "1 2m", "0x10"):
        with pytest.raises(UsageError):
            amount("m", text, units=True)
    for text in ("1k", "1.5", ""):
        with pytest.raises(UsageError):
            amount("m", text, units=False)


@pytest.mark.parametrize(
    ("name", "before", "value", "after"),
    [
        ("memory.max", "max\n", "7", "max"),
        ("cpuset.cpus", "\n", "0-1", "\n"),
        ("cpu.max", "max 100000\n", "50000", "max 100000"),
        ("cgroup.subtree_control", "cpu memory\n", "+cpu +io", ""),
        ("io.max", "", "8:0 rbps=9", "8:0 rbps=max wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n", "8:0 wbps=9",
         "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("io.weight", "default 100\n8:16 300\n", "200", "default 100"),
        ("io.weight", "default 100\n8:16 300\n", "8:16 20", "8:16 300"),
        ("io.bfq.weight", "default 100\n8:0 5\n", "8:16 20", "8:0 5lt 100"),
        ("rdma.max", "a hca_handle=3 hca_object=max\n", "a hca_object=4", "a hca_handle=3 hca_object=max"),
    ],
)  # fmt: skip
def test_what_was_there_is_written_back(
    tmp_path: Path, name: str, before: str, value: str, after: str
) -> None:
    """A plain file takes what is written over its beginning; a kernel's takes it as a whole."""
    file = tmp_path / name
    file.write_text(before)
    kept = Before()
    kept.note(str(file), value)
    file.write_text("")
    assert kept.restore() == []
    assert file.read_text() == after


def test_what_cannot_be_written_back_is_told(tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    file.write_text("max\n")
    kept = Before()
    kept.note(str(file), "5")
    kept.note(str(tmp_path / "nothing"), "5")
    file.unlink()
    assert kept.restore() == [str(file)]


def test_limits_may_come_through_a_pipe() -> None:
    inside, outside = os.pipe()
    os.write(outside, b'{"pids": {"limit": 77}}')
    os.close(outside)
    assert _from_file(f"/proc/self/fd/{inside}") == {"pids": {"limit": 77}}
    os.close(inside)


def test_a_missing_file_of_limits_is_not_told_of_bundles() -> None:
    with pytest.raises(ConfigError, match="on the host, not in the container"):
        _from_file("/nonexist")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (b'{"pids":\n  {"limit": 7,}}', ["2:14 ", "comma"]),
        (b'{"pids": {"limit": 7}, "pids": {}}', ["1:24 /pids"]),
        (b'{"pids": ', ["1:10 "]),
        (b"", ["1:1 "]),
        (b"[]", ["1:1 /: []: must be a JSON object"]),
        (b'{"cpu": {"cpus": "\xff"}}', ["1:19 /: ff: must be UTF-8"]),
    ],
)
def test_limits_that_are_no_json_are_told_with_their_place(
    tmp_path: Path, text: bytes, places: list[str]
) -> None:
    file = tmp_path / "limits.json"
    file.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        _from_file(str(file))
    first, *more = places
    assert f"{file}:{first}" in str(caught.value)
    for word in more:
        assert word in str(caught.value)
