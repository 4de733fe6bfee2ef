"""Making cgroups counts what it made; a plain directory behaves as cgroup2 does for mkdir and rmdir."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirun.cgroup.files import make_cgroup, remove_if_empty
from ocirun.errors import DriverError


def test_it_counts_from_the_last_one_up(tmp_path: Path) -> None:
    assert make_cgroup(str(tmp_path), "/a/b/c") == 3
    assert make_cgroup(str(tmp_path), "/a/b/d") == 1


@pytest.mark.parametrize(
    ("events", "raises"), [("populated 0\nfrozen 0\n", False), ("populated 1\nfrozen 0\n", True)]
)
def test_one_that_was_there_must_be_empty(events: str, raises: bool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cgroup.events").write_text(events)
    if raises:
        with pytest.raises(DriverError, match="processes already"):
            make_cgroup(str(tmp_path), "/a")
    else:
        assert make_cgroup(str(tmp_path), "/a") == 0


def test_a_failure_leaves_nothing_made(tmp_path: Path) -> None:
    with pytest.raises(DriverError) as caught:
        make_cgroup(str(tmp_path), "/a/b/" + "x" * 300)
    assert caught.value.path.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_only_empty_ones_are_removed_and_no_more_than_asked(tmp_path: Path) -> None:
    make_cgroup(str(tmp_path), "/a/b/c")
    make_cgroup(str(tmp_path), "/a/other")
    remove_if_empty(str(tmp_path / "a/b/c"), 2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "other"]
