"""Mounts, as the kernel lists them in the mountinfo of the container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import kernel, observe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: Flags of a mount that options can set, as mountinfo prints them.
FLAGS = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"}

DEFAULT = {
    "/": ("", {"ro"}),
    "/proc": ("proc", set[str]()),
    "/dev": ("tmpfs", {"nosuid"}),
    "/dev/pts": ("devpts", {"nosuid", "noexec"}),
    "/dev/shm": ("tmpfs", {"nosuid", "nodev", "noexec"}),  # noqa: S108 - a mount point
    "/dev/mqueue": ("mqueue", {"nosuid", "nodev", "noexec"}),
    "/sys": ("sysfs", {"ro", "nosuid", "nodev", "noexec"}),
    "/sys/fs/cgroup": ("cgroup2", {"ro", "nosuid", "nodev", "noexec"}),
}


def flags(mount: observe.Mount) -> set[str]:
    """The flags of a mount, without the way it keeps access times."""
    return (FLAGS & mount.options) - {"relatime"}


@pytest.mark.parametrize("point", DEFAULT)
def test_a_mount_of_the_default_config_is_what_it_says(runtime: Runtime, bundle: Bundle, point: str) -> None:
    kind, expected = DEFAULT[point]
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, point)
    assert flags(mount) == expected
    assert kind in {"", mount.kind}


def test_nothing_else_is_mounted_than_configured_masked_and_read_only_paths(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.put([], "linux", "maskedPaths").put([], "linux", "readonlyPaths")
    container = runtime.running(bundle.sleeping())
    assert [mount.point for mount in observe.mounts(container.pid)] == list(DEFAULT)


def test_the_root_is_the_root_of_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    ours, theirs = bundle.rootfs.stat(), observe.inside(container.pid, "/").stat()
    assert (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def test_nothing_of_the_host_is_mounted_in_the_container(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    assert not [one.point for one in observe.mounts(container.pid) if "var/tmp" in one.point]


def test_a_read_only_root_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    assert "Read-only file system" in runtime.run(bundle.sh("touch /made")).stderr


def test_a_writable_root_can_be_written(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.writable().sh("echo text > /made")).ok()
    assert (bundle.rootfs / "made").read_text() == "text\n"


def test_a_root_path_may_be_absolute(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put(str(bundle.rootfs), "root", "path")
    assert runtime.run(bundle.sh("echo in")).ok().stdout == "in\n"


def test_tmpfs_takes_its_data(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "named", "size=1024k", "mode=0711", "nr_inodes=50")
    container = runtime.running(bundle.sleeping())
    mount = observe.mount_at(container.pid, "/mnt")
    assert {"size=1024k", "mode=711", "nr_inodes=50"} <= mount.data
    assert mount.source == "named"


def test_a_file_is_bound(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "note").write_text("from outside")
    bundle.file("etc/note", "covered").bind(scratch / "note", "/etc/note")
    assert runtime.run(bundle.args("cat", "/etc/note")).ok().stdout == "from outside"


def test_a_relative_source_is_relative_to_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "note").write_text("from the bundle")
    bundle.file("etc/note", "").bind("note", "/etc/note")
    assert runtime.run(bundle.args("cat", "/etc/note")).ok().stdout == "from the bundle"


def test_missing_mount_points_are_made(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "note").write_text("file")
    bundle.writable().mount("/new/directory", "tmpfs", "tmpfs").bind(scratch / "note", "/other/new/note")
    container = runtime.running(bundle.sleeping())
    assert observe.inside(container.pid, "/new/directory").is_dir()
    assert observe.inside(container.pid, "/other/new/note").read_text() == "file"


@pytest.fixture
def mounted(scratch: Path) -> Iterator[Path]:
    """A directory with a second file system below it."""
    tree = scratch / "tree"
    (tree / "below").mkdir(parents=True)
    kernel.mount("tmpfs", tree / "below", "tmpfs")
    (tree / "below/deep").write_text("deep")
    yield tree
    kernel.umount(tree / "below")


def test_bind_does_not_take_what_is_mounted_below(runtime: Runtime, bundle: Bundle, mounted: Path) -> None:
    container = runtime.running(bundle.directory("mnt").bind(mounted, "/mnt").sleeping())
    assert list(observe.inside(container.pid, "/mnt/below").iterdir()) == []


def test_rbind_takes_what_is_mounted_below(runtime: Runtime, bundle: Bundle, mounted: Path) -> None:
    container = runtime.running(bundle.directory("mnt").bind(mounted, "/mnt", "rbind").sleeping())
    assert observe.inside(container.pid, "/mnt/below/deep").read_text() == "deep"


def test_ro_holds_for_the_upper_mount_of_an_rbind_alone(
    runtime: Runtime, bundle: Bundle, mounted: Path
) -> None:
    pid = runtime.running(bundle.directory("mnt").bind(mounted, "/mnt", "rbind", "ro").sleeping()).pid
    assert "ro" in observe.mount_at(pid, "/mnt").options
    assert "rw" in observe.mount_at(pid, "/mnt/below").options


@pytest.mark.parametrize(
    "propagation", ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared"]
)
def test_the_root_has_the_configured_propagation(runtime: Runtime, bundle: Bundle, propagation: str) -> None:
    bundle.put(propagation, "linux", "rootfsPropagation")
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/")
    assert mount.shared is propagation.endswith("shared")
    assert ("unbindable" in mount.tags) is (propagation == "unbindable")


def test_mounts_are_made_in_the_order_of_the_list(
    runtime: Runtime, bundles: Callable[[str], Bundle], scratch: Path
) -> None:
    for name in ("one", "two"):
        (scratch / name).mkdir()
        (scratch / name / "name").write_text(name)
    bundle = bundles("bundle").directory("mnt").bind(scratch / "one", "/mnt").bind(scratch / "two", "/mnt")
    assert runtime.run(bundle.args("cat", "/mnt/name")).ok().stdout == "two"


def test_a_mount_without_options_is_accepted(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").kind == "tmpfs"


def test_a_relative_destination_is_relative_to_the_root(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("mnt", "tmpfs", "tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").kind == "tmpfs"


def test_a_link_on_the_way_to_a_mount_point_is_followed_inside_the_root(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.directory("real").rootfs.joinpath("alias").symlink_to("/real")
    bundle.mount("/alias", "tmpfs", "tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/real").kind == "tmpfs"


@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="this host has SELinux")
def test_a_label_for_mounts_is_left_out_where_nothing_has_a_label(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put("system_u:object_r:container_file_t:s0", "linux", "mountLabel")
    container = runtime.running(bundle.sleeping())
    mounts = observe.mounts(container.pid)
    assert len(mounts) > 1
    assert not [mount for mount in mounts if any("context" in word for word in mount.data)]
    if runtime.name == "ocirun":
        assert "/linux/mountLabel" in container.result.stderr
