"""What a mount of the host forbids, its root in a user namespace cannot allow (mount_namespaces(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import kernel, observe
from tests.host.users import as_user, of_user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

FIRST, SIZE = 100000, 65536
GUARDED = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
FLAGS = {"ro", "nosuid", "nodev", "noexec"}
#: Takes one flag away after the other, and tells none of it.
OPEN_UP = "for word in rw suid dev exec; do mount -o remount,bind,$word none {} 2>/dev/null; done; "


@pytest.fixture
def guarded(scratch: Path) -> Iterator[Path]:
    """A mount that forbids all that can be forbidden, and one below it that does so, too."""
    tree = scratch / "tree"
    tree.mkdir()
    kernel.mount("tmpfs", tree, "tmpfs", data="mode=777")
    (tree / "below").mkdir()
    kernel.mount("tmpfs", tree / "below", "tmpfs", flags=GUARDED)
    kernel.mount("tmpfs", tree, "tmpfs", flags=GUARDED | kernel.MS_REMOUNT | kernel.MS_BIND)
    yield tree
    kernel.umount(tree, kernel.MNT_DETACH)


def powerful(bundle: Bundle) -> Bundle:
    """The program has a user namespace and may mount in it."""
    names = ["CAP_SYS_ADMIN"]
    return (
        bundle.directory("mnt")
        .mapped(FIRST, SIZE)
        .capabilities(bounding=names, effective=names, permitted=names)
    )


def flags(text: str, point: str) -> set[str]:
    """Those of a mount in the text of a mountinfo file."""
    (line,) = [words for words in map(str.split, text.splitlines()) if words[4] == point]
    return FLAGS & {*line[5].split(",")}


@pytest.mark.parametrize("how", ["bind", "rbind"])
def test_what_the_host_forbids_stays_forbidden(
    runtime: Runtime, bundle: Bundle, guarded: Path, how: str
) -> None:
    source = guarded if how == "rbind" else guarded / "below"
    powerful(bundle).mount("/mnt", "bind", str(source), how)
    result = runtime.run(bundle.sh(OPEN_UP.format("/mnt") + "cat /proc/self/mountinfo"))
    assert flags(result.stdout, "/mnt") == FLAGS


def test_what_the_host_forbids_below_stays_forbidden(runtime: Runtime, bundle: Bundle, guarded: Path) -> None:
    powerful(bundle).bind(guarded, "/mnt", "rbind")
    result = runtime.run(bundle.sh(OPEN_UP.format("/mnt/below") + "cat /proc/self/mountinfo"))
    assert flags(result.stdout, "/mnt/below") == FLAGS


def test_the_root_allows_no_more_than_the_mount_it_is_on(runtime: Runtime, bundle: Bundle) -> None:
    kernel.mount(str(bundle.rootfs), bundle.rootfs, flags=kernel.MS_BIND)
    forbidden = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("", bundle.rootfs, flags=kernel.MS_BIND | kernel.MS_REMOUNT | forbidden)
    try:
        powerful(bundle).writable()
        result = runtime.run(bundle.sh(OPEN_UP.format("/") + "cat /proc/self/mountinfo"))
        assert flags(result.stdout, "/") == {"nosuid", "nodev"}
    finally:
        kernel.umount(bundle.rootfs)


def test_what_lies_below_need_not_come_with_it(runtime: Runtime, bundle: Bundle, guarded: Path) -> None:
    """The kernel does not let a user namespace look below a mount; who asked is root."""
    powerful(bundle).bind(guarded, "/mnt")
    pid = runtime.running(bundle.sleeping()).pid
    assert {mount.point for mount in observe.mounts(pid) if mount.point.startswith("/mnt")} == {"/mnt"}
    assert observe.mount_at(pid, "/mnt").options >= FLAGS


@pytest.mark.parametrize("word", ["rw", "suid", "dev", "exec"])
def test_to_ask_for_what_the_host_forbids_is_an_error(
    ocirun: Runtime, bundle: Bundle, guarded: Path, word: str
) -> None:
    """As with runc; crun gives it."""
    powerful(bundle).bind(guarded, "/mnt", "rbind", word).sleeping()
    ocirun.attempt(bundle).refused("EPERM", "/mounts/7", "is locked (mount_namespaces(7))", "leave out words")


def test_a_remount_keeps_what_is_locked(runtime: Runtime, bundle: Bundle, guarded: Path) -> None:
    powerful(bundle).bind(guarded, "/mnt", "rbind").mount(
        "/mnt", "none", str(guarded), "remount", "bind", "ro"
    )
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").options >= FLAGS


def test_an_ordinary_users_mounts_are_locked(ocirun: Runtime, bundle: Bundle, guarded: Path) -> None:
    of_user(bundle.directory("mnt")).bind(guarded, "/mnt", "rbind")
    bundle.mount("/mnt", "none", str(guarded), "remount", "bind", "ro")
    pid = as_user(ocirun).running(bundle.sleeping()).pid
    assert observe.mount_at(pid, "/mnt").options >= FLAGS
