"""``tmpcopyup``: a tmpfs begins with what is in the directory that it covers."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

LONG_AGO = 1_000_000_000
#: Deeper than any image is, and than descriptors or a stack would allow for without a limit.
DEEP = 3000


def copied(runtime: Runtime, bundle: Bundle, *options: str) -> Path:
    """The directory /data of the running bundle, which was copied."""
    container = runtime.running(bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", *options).sleeping())
    mount = observe.mount_at(container.pid, "/data")
    assert mount.kind == "tmpfs"
    return observe.inside(container.pid, "/data")


def data(bundle: Bundle) -> Path:
    """The directory /data of the image."""
    directory = bundle.rootfs / "data"
    directory.mkdir(exist_ok=True)
    return directory


def test_files_are_copied_and_the_image_stays_as_it_is(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("data/kept", "kept").file("data/a/b/c", "deep").file("data/empty", "")
    directory = copied(runtime, bundle)
    assert (directory / "kept").read_text() == "kept"
    assert (directory / "a/b/c").read_text() == "deep"
    assert (directory / "empty").read_text() == ""
    (directory / "kept").write_text("changed")
    assert (bundle.rootfs / "data/kept").read_text() == "kept"


def test_a_file_larger_than_one_call_copies_is_copied_whole(runtime: Runtime, bundle: Bundle) -> None:
    content = bytes(range(256)) * 20000
    (data(bundle) / "large").write_bytes(content)
    assert (copied(runtime, bundle) / "large").read_bytes() == content


def test_owners_and_modes_are_kept(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("data/file", "x").file("data/sub/file", "x")
    for name, mode in (("file", 0o4755), ("sub", 0o2711), ("sub/file", 0)):
        os.chown(data(bundle) / name, 5, 6)
        (data(bundle) / name).chmod(mode)
    directory = copied(runtime, bundle)
    for name, mode in (("file", 0o4755), ("sub", 0o2711), ("sub/file", 0)):
        found = (directory / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (5, 6, mode)


def test_the_directory_itself_keeps_its_mode(runtime: Runtime, bundle: Bundle) -> None:
    data(bundle).chmod(0o1751)
    os.chown(data(bundle), 5, 6)
    found = copied(runtime, bundle).stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o1751)


def test_a_mode_that_is_given_comes_first(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("data/file", "x")
    directory = copied(runtime, bundle, "mode=0701")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o701
    assert (directory / "file").read_text() == "x"


def test_links_are_copied_and_not_followed(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "secret").write_text("secret")
    targets = {"dangling": "nowhere", "out": str(scratch / "secret"), "up": "../../..", "d": "/etc"}
    for name, target in targets.items():
        (data(bundle) / name).symlink_to(target)
        os.lchown(data(bundle) / name, 3, 4)
    directory = copied(runtime, bundle)
    for name in targets:
        assert (directory / name).readlink() == (data(bundle) / name).readlink()
        assert ((directory / name).lstat().st_uid, (directory / name).lstat().st_gid) == (3, 4)


def test_devices_fifos_and_sockets_are_made_again(runtime: Runtime, bundle: Bundle) -> None:
    os.mkfifo(data(bundle) / "fifo", 0o640)
    os.mknod(data(bundle) / "null", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    os.mknod(data(bundle) / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    os.mknod(data(bundle) / "socket", stat.S_IFSOCK | 0o777)
    directory = copied(runtime, bundle)
    for name in ("fifo", "null", "disk", "socket"):
        found, wanted = (directory / name).lstat(), (data(bundle) / name).lstat()
        assert (found.st_mode, found.st_rdev) == (wanted.st_mode, wanted.st_rdev)


def test_extended_attributes_are_kept(runtime: Runtime, bundle: Bundle) -> None:
    capability = bytes.fromhex("0000000200040000000000000000000000000000")
    bundle.file("data/file", "x").file("data/sub/file", "x")
    os.setxattr(data(bundle) / "file", "user.a", b"1")
    os.setxattr(data(bundle) / "file", "trusted.b", b"2")
    os.setxattr(data(bundle) / "sub", "user.c", b"3")
    os.chown(data(bundle) / "sub/file", 5, 6)
    os.setxattr(data(bundle) / "sub/file", "security.capability", capability)
    directory = copied(runtime, bundle)
    assert {name: os.getxattr(directory / "file", name) for name in os.listxattr(directory / "file")} == {
        "user.a": b"1",
        "trusted.b": b"2",
    }
    assert os.getxattr(directory / "sub", "user.c") == b"3"
    assert os.getxattr(directory / "sub/file", "security.capability") == capability


def test_times_are_kept(ocirun: Runtime, bundle: Bundle) -> None:
    """The peers do not."""
    bundle.file("data/file", "x").file("data/sub/file", "x")
    (data(bundle) / "link").symlink_to("file")
    for name in ("file", "sub", "link"):
        os.utime(data(bundle) / name, (LONG_AGO, LONG_AGO + 1), follow_symlinks=False)
    directory = copied(ocirun, bundle)
    for name in ("file", "sub", "link"):
        assert (directory / name).lstat().st_mtime == LONG_AGO + 1


def test_hard_links_become_files_of_their_own(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("data/one", "x")
    os.link(data(bundle) / "one", data(bundle) / "two")
    directory = copied(runtime, bundle)
    assert (directory / "one").stat().st_nlink == 1
    assert (directory / "two").read_text() == "x"


def test_many_entries_are_copied(runtime: Runtime, bundle: Bundle) -> None:
    names = {f"{number:04}" * 30 for number in range(500)}
    for name in names:
        bundle.file(f"data/{name}/{name}", name)
    directory = copied(runtime, bundle)
    assert {path.name for path in directory.iterdir()} == names
    assert all((directory / name / name).read_text() == name for name in names)


def test_a_read_only_tmpfs_is_filled_as_well(runtime: Runtime, bundle: Bundle) -> None:
    assert (copied(runtime, bundle.file("data/file", "x"), "ro") / "file").read_text() == "x"
    assert "Read-only" in runtime.run(bundle.sh("touch /data/more")).stderr


def test_a_directory_that_is_missing_has_nothing_to_copy(runtime: Runtime, bundle: Bundle) -> None:
    assert list(copied(runtime, bundle.writable()).iterdir()) == []


def test_what_an_earlier_mount_shows_is_copied(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "outside").mkdir()
    (scratch / "outside/file").write_text("from outside")
    data(bundle)
    bundle.bind(scratch / "outside", "/data")
    assert (copied(runtime, bundle) / "file").read_text() == "from outside"


def test_what_does_not_fit_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    with (data(bundle) / "huge").open("wb") as file:
        file.truncate(1 << 40)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "size=1m")
    result = runtime.run(bundle.args("true"))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/7", "ENOSPC", "huge", "size=")


def test_a_tree_too_deep_for_anybody_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    parent = os.open(data(bundle), os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=parent)
        child = os.open("d", os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    os.close(parent)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    try:
        result = runtime.run(bundle.args("true"))
    finally:
        _remove_deep(data(bundle))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/7", "ENAMETOOLONG", "deep")


def _remove_deep(top: Path) -> None:
    """What shutil.rmtree cannot: it recurses.  The chain is cut from its end up, by moving it to the top."""
    below = top / "d"
    number = 0
    while below.exists():
        number += 1
        moved = top / f"m{number}"
        below.rename(moved)
        below = moved / "d"
        if number > 1:
            (top / f"m{number - 1}").rmdir()
    (top / f"m{number}").rmdir()


def test_in_a_user_namespace_as_well(runtime: Runtime, bundle: Bundle) -> None:
    first = 100000
    bundle.file("data/file", "x")
    bundle.mapped(first, 65536)
    os.chown(data(bundle) / "file", first + 5, first + 6)
    directory = copied(runtime, bundle)
    found = (directory / "file").stat()
    assert (found.st_uid, found.st_gid) == (first + 5, first + 6)
    assert directory.stat().st_uid == first


@pytest.mark.parametrize(
    ("kind", "words"), [("ramfs", []), ("bind", ["bind"]), ("tmpfs", ["bind"]), ("tmpfs", ["remount"])]
)
def test_it_is_for_a_new_tmpfs_alone(ocirun: Runtime, bundle: Bundle, kind: str, words: list[str]) -> None:
    """crun says the same, runc ignores the word."""
    bundle.directory("data").mount("/data", kind, "/etc", *words, "tmpcopyup")
    ocirun.run(bundle.args("true")).refused(
        f"/mounts/7/options/{len(words)}", "tmpcopyup", "only with a new tmpfs"
    )
