"""Making cgroups counts what it made; a plain directory behaves as cgroup2 does for mkdir and rmdir."""

from __future__ import annotations

import contextlib
import errno
import signal
import subprocess
from pathlib import Path

import pytest

from ocirun.cgroup import files
from ocirun.cgroup.files import make_cgroup, remove_if_empty
from ocirun.cgroup.ownership import delegated, give
from ocirun.errors import DriverError


def test_it_counts_from_the_last_one_up(tmp_path: Path) -> None:
    assert make_cgroup(str(tmp_path), "/a/b/c") == 3
    assert make_cgroup(str(tmp_path), "/a/b/d") == 1


def test_controllers_are_enabled_above_it_and_not_in_it(tmp_path: Path) -> None:
    asked = "cgroup.subtree_control"
    for directory in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
        directory.mkdir(exist_ok=True)
        (directory / asked).touch()
    (tmp_path / "a/b/cgroup.events").write_text("populated 0\n")
    make_cgroup(str(tmp_path), "/a/b", "cpu memory")
    texts = [(tmp_path / name / asked).read_text() for name in ("", "a", "a/b")]
    assert texts == ["+cpu +memory", "+cpu +memory", ""]


def test_a_controller_that_cannot_be_had_stands_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []

    def refusing(path: str, text: bytes) -> None:
        if b"+io" in text:
            raise FileNotFoundError(path)
        written.append(text)

    monkeypatch.setattr(files, "write_file", refusing)
    make_cgroup(str(tmp_path), "/a", "cpu io memory")
    assert written == [b"+cpu", b"+memory"]


@pytest.mark.parametrize(
    ("events", "raises"), [("populated 0\nfrozen 0\n", False), ("populated 1\nfrozen 0\n", True)]
)
def test_one_that_was_there_must_be_empty(events: str, raises: bool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cgroup.events").write_text(events)
    if raises:
        with pytest.raises(DriverError, match="is not empty"):
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
    assert remove_if_empty(str(tmp_path / "a/b/c"), 2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "other"]


def test_without_a_list_of_the_kernel_there_is_one(tmp_path: Path) -> None:
    assert delegated(str(tmp_path / "none")) == ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
    (tmp_path / "delegate").write_text("cgroup.procs\nmemory.oom.group\n")
    assert delegated(str(tmp_path / "delegate")) == ("cgroup.procs", "memory.oom.group")


def test_what_is_delegated_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def chown(path: str, owner: int, group: int, *, follow_symlinks: bool) -> None:
        assert (owner, group, follow_symlinks) == (77, 78, False)
        if not Path(path).exists():
            raise FileNotFoundError
        given.append(Path(path).name)

    monkeypatch.setattr("posix.chown", chown)
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "memory.max").touch()
    give(str(tmp_path), 77, 78)
    assert given == [tmp_path.name, "cgroup.procs"]


def test_a_number_that_changes_hands_is_not_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that was listed has left the cgroup, when a second look is taken: somebody may have its
    number."""
    told = iter((b"%d\n", b"\n"))
    with subprocess.Popen(("sleep", "1000")) as other:
        text = [line % other.pid if b"%d" in line else line for line in told]

        def read(path: str) -> bytes:
            assert path == f"{tmp_path}/cgroup.procs"
            return text.pop(0)

        monkeypatch.setattr(files, "read_file", read)
        files.signal_cgroup(str(tmp_path), signal.SIGTERM)
        assert text == []
        assert other.poll() is None
        other.kill()


def test_each_of_many_is_signalled(tmp_path: Path) -> None:
    """More than pidfds are held at once."""
    several = [subprocess.Popen(("sleep", "1000")) for _ in range(70)]
    (tmp_path / "cgroup.procs").write_text("".join(f"{one.pid}\n" for one in several))
    files.signal_cgroup(str(tmp_path), signal.SIGTERM)
    assert {one.wait() for one in several} == {-signal.SIGTERM}


def test_who_has_no_number_here_saves_nobody_else(tmp_path: Path) -> None:
    """A process of another pid namespace is listed as 0, in the cgroup or in one below it."""
    (tmp_path / "one").mkdir()
    several = [subprocess.Popen(("sleep", "1000")) for _ in range(2)]
    for where, one in zip((tmp_path, tmp_path / "one"), several, strict=True):
        (where / "cgroup.procs").write_text(f"0\n{one.pid}\n")
    try:
        with pytest.raises(DriverError, match="has a process of another pid namespace") as caught:
            files.signal_cgroup(str(tmp_path), signal.SIGTERM)
        assert [one.wait(60) for one in several] == [-signal.SIGTERM] * 2
    finally:
        for one in several:
            one.kill()
            one.wait()
    assert caught.value.path == str(tmp_path)


def _parted(where: Path, monkeypatch: pytest.MonkeyPatch, trouble: int) -> subprocess.Popen[bytes]:
    """A process in the last of two cgroups below ``where``, the first of which cannot be read."""
    other = subprocess.Popen(("sleep", "1000"))
    texts = {f"{where}/cgroup.procs": b"", f"{where}/two/cgroup.procs": b"%d\n" % other.pid}

    def read(path: str) -> bytes:
        if path not in texts:
            raise OSError(trouble, "")
        return texts[path]

    def tree(top: str) -> list[str]:
        return [top, f"{top}/one", f"{top}/two"]

    monkeypatch.setattr(files, "read_file", read)
    monkeypatch.setattr(files, "_tree", tree)
    return other


@pytest.mark.parametrize("trouble", [errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP])
def test_one_that_cannot_be_listed_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    """It was removed a moment ago, or is threaded and lists nobody (cgroup-v2.rst, Threads)."""
    with _parted(tmp_path, monkeypatch, trouble) as other:
        try:
            listed = files.processes(str(tmp_path))
            files.signal_cgroup(str(tmp_path), signal.SIGTERM)
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                other.wait(60)
            other.kill()
    assert (listed, other.returncode) == ([other.pid], -signal.SIGTERM)
