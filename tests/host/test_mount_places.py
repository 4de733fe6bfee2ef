"""Where a mount may go, what it may be made of, and what becomes of a bad one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.bundles import DEFAULT_NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

FIRST, SIZE = 100000, 65536


def entry(bundle: Bundle, **members: Json) -> Bundle:
    """Adds an entry to mounts with just these members."""
    bundle.items("mounts").append(members)
    return bundle


def refused(runtime: Runtime, bundle: Bundle, *texts: str) -> None:
    """The bundle cannot be run; ocirun says why in these words."""
    result = runtime.run(bundle.args("true"))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused(*texts)


# -- destinations


@pytest.mark.parametrize("destination", ["/mnt/..", "mnt/../.."])
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_the_root_is_not_mounted_over_by_what_leads_there(
    runtime: Runtime, bundle: Bundle, scratch: Path, how: str, destination: str
) -> None:
    bundle.directory("mnt").mount(destination, how, str(scratch), *([how] if how == "bind" else []))
    refused(runtime, bundle, "/mounts/7/destination", "must be below the root", "/root/path")


@pytest.mark.parametrize("words", [[], ["bind"]])
def test_a_link_to_the_root_is_no_way_to_mount_over_it(
    runtime: Runtime, bundle: Bundle, scratch: Path, words: list[str]
) -> None:
    (bundle.rootfs / "trap").symlink_to("..")
    bundle.mount("/trap", "tmpfs", str(scratch), *words)
    refused(runtime, bundle, "/mounts/7", "EBUSY", "a link of the image leads to its root")


def test_dots_at_the_beginning_stay_in_the_root(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("../../mnt", "tmpfs", "tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").kind == "tmpfs"


def test_dots_behind_a_directory_lead_where_the_kernel_finds_them(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("one/two").directory("mnt").mount("/one/two/../../mnt", "tmpfs", "tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").kind == "tmpfs"


def test_dots_behind_what_is_missing_lead_nowhere(ocirun: Runtime, bundle: Bundle) -> None:
    """The peers strike both out."""
    bundle.writable().directory("mnt").mount("/missing/../mnt", "tmpfs", "tmpfs")
    refused(ocirun, bundle, "/mounts/7", 'a ".." behind a directory that is missing')


def test_a_mount_point_is_made_in_an_earlier_mount(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "note").write_text("note")
    bundle.directory("mnt").mount("/mnt", "tmpfs", "upper").mount("/mnt/a/b", "tmpfs", "lower")
    bundle.bind(scratch / "note", "/mnt/a/b/c/note")
    container = runtime.running(bundle.sleeping())
    assert observe.mount_at(container.pid, "/mnt/a/b").source == "lower"
    assert observe.inside(container.pid, "/mnt/a/b/c/note").read_text() == "note"
    assert list((bundle.rootfs / "mnt").iterdir()) == []


def test_a_mount_lies_over_an_earlier_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "first").mount("/mnt", "tmpfs", "second", "ro")
    container = runtime.running(bundle.sleeping())
    found = [one for one in observe.mounts(container.pid) if one.point == "/mnt"]
    assert [(one.source, "ro" in one.options) for one in found] == [("first", False), ("second", True)]


def test_what_lies_over_a_read_only_tmpfs_is_not_closed_in_its_place(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "first", "ro").bind(scratch, "/mnt")
    found = [one for one in observe.mounts(ocirun.running(bundle.sleeping()).pid) if one.point == "/mnt"]
    assert {one.kind == "tmpfs": "ro" in one.options for one in found} == {True: True, False: False}


def test_a_mount_point_that_is_missing_in_a_read_only_mount_is_an_error(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    (scratch / "tree").mkdir()
    bundle.directory("mnt").bind(scratch / "tree", "/mnt", "ro").mount("/mnt/below", "tmpfs", "tmpfs")
    refused(runtime, bundle, "/mounts/8", "EROFS")


def test_a_mount_point_that_is_there_in_a_read_only_mount_is_used(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    (scratch / "tree/below").mkdir(parents=True)
    bundle.directory("mnt").bind(scratch / "tree", "/mnt", "ro").mount("/mnt/below", "tmpfs", "tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt/below").kind == "tmpfs"


def test_a_directory_is_not_bound_on_a_file(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    refused(runtime, bundle.file("f", "").bind(scratch, "/f"), "/mounts/7", "only be bound on a directory")


def test_a_file_is_not_bound_on_a_directory(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "note").write_text("")
    refused(
        runtime, bundle.directory("d").bind(scratch / "note", "/d"), "/mounts/7", "only be bound on a file"
    )


def test_a_new_file_system_is_not_mounted_on_a_file(runtime: Runtime, bundle: Bundle) -> None:
    refused(runtime, bundle.file("f", "").mount("/f", "tmpfs", "tmpfs"), "/mounts/7", "ENOTDIR")


# -- sources and types


def test_a_file_system_needs_no_source_and_no_options(runtime: Runtime, bundle: Bundle) -> None:
    entry(bundle.directory("mnt"), destination="/mnt", type="tmpfs")
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").kind == "tmpfs"


def test_empty_options_are_no_options(runtime: Runtime, bundle: Bundle) -> None:
    entry(bundle.directory("mnt"), destination="/mnt", type="tmpfs", options=[])
    assert observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt").kind == "tmpfs"


@pytest.mark.parametrize("kind", [None, "none", "whatever"])
def test_the_type_of_a_bind_mount_means_nothing(
    runtime: Runtime, bundle: Bundle, scratch: Path, kind: str | None
) -> None:
    members: dict[str, Json] = {"destination": "/mnt", "source": str(scratch), "options": ["rbind"]}
    entry(bundle.directory("mnt"), **members, **({"type": kind} if kind else {}))
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert mount.root.endswith(scratch.name)


def test_a_config_without_mounts_is_complete(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop("mounts").put([], "linux", "maskedPaths").put([], "linux", "readonlyPaths").writable()
    assert runtime.run(bundle.sh("echo here")).ok().stdout == "here\n"


@pytest.mark.parametrize("kind", ["none", "bind", "no-such-file-system"])
def test_a_type_that_the_kernel_does_not_know(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    refused(runtime, bundle.directory("mnt").mount("/mnt", kind, "none"), "/mounts/7")


def test_a_source_that_does_not_exist(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    refused(runtime, bundle.bind(scratch / "none", "/mnt"), "/mounts/7", str(scratch / "none"))


def test_a_link_as_the_source_is_followed_on_the_host(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    (scratch / "real").mkdir()
    (scratch / "real/note").write_text("note")
    (scratch / "link").symlink_to("real")
    bundle.directory("mnt").bind(scratch / "link", "/mnt")
    assert runtime.run(bundle.args("cat", "/mnt/note")).ok().stdout == "note"


def test_ramfs(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "ramfs", "ramfs", "nosuid")
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert (mount.kind, "nosuid" in mount.options) == ("ramfs", True)


def test_a_procfs_takes_its_options(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_mount("/proc").mount("/proc", "proc", "proc", "hidepid=invisible", "nosuid")
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/proc")
    assert ("hidepid=invisible" in mount.data, "nosuid" in mount.options) == (True, True)


def test_a_procfs_of_processes_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_mount("/proc").mount("/proc", "proc", "proc", "subset=pid")
    bundle.put([], "linux", "maskedPaths").put([], "linux", "readonlyPaths")
    assert runtime.run(bundle.sh("echo /proc/[a-z]*")).ok().stdout == "/proc/self /proc/thread-self\n"


def test_devpts_is_new_even_when_nobody_says_so(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_mount("/dev/pts").mount("/dev/pts", "devpts", "devpts", "gid=5", "ptmxmode=0666")
    container = runtime.running(bundle.sleeping())
    assert observe.inside(container.pid, "/dev/pts").stat().st_dev != Path("/dev/pts").stat().st_dev
    assert [path.name for path in observe.inside(container.pid, "/dev/pts").iterdir()] == ["ptmx"]


@pytest.fixture
def disk(scratch: Path) -> Iterator[Path]:
    """A loop device that cannot be written, with an ext4 of which a file says who it is."""
    image, content = scratch / "image", scratch / "content"
    content.mkdir()
    (content / "note").write_text("on a disk")
    subprocess.run(["truncate", "-s", "8M", str(image)], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(content), str(image)], check=True)
    made = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", str(image)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    yield Path(made.stdout.strip())
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_a_disk_that_cannot_be_written_is_mounted_read_only(
    runtime: Runtime, bundle: Bundle, disk: Path
) -> None:
    number = disk.stat().st_rdev
    bundle.allow_device("b", os.major(number), os.minor(number), "rwm")
    bundle.directory("mnt").mount("/mnt", "ext4", str(disk), "ro", "nodev")
    container = runtime.running(bundle.sh("cat /mnt/note; sleep 1000"))
    mount = observe.mount_at(container.pid, "/mnt")
    assert ("ro" in mount.options, "ro" in mount.data) == (True, True)
    assert observe.inside(container.pid, "/mnt/note").read_text() == "on a disk"
    container.delete("--force").ok()


# -- long options


@pytest.fixture
def layers(scratch: Path) -> list[Path]:
    """Directories for an overlay with long names."""
    made = [scratch / f"{number:x}{'l' * 80}" for number in range(6)]
    for number, path in enumerate(made):
        path.mkdir()
        (path / f"file{number}").touch()
    return made


@pytest.mark.parametrize("in_user_namespace", [False, True])
def test_an_overlay_of_many_layers(
    runtime: Runtime, bundle: Bundle, layers: list[Path], *, in_user_namespace: bool
) -> None:
    word = "lowerdir=" + ":".join(map(str, layers))
    bundle.directory("mnt").mount("/mnt", "overlay", "overlay", word, "ro")
    if in_user_namespace:
        bundle.mapped(FIRST, SIZE)
    result = runtime.run(bundle.sh("echo /mnt/*")).ok()
    assert result.stdout.split() == [f"/mnt/file{number}" for number in range(6)]


def test_an_overlay_with_a_long_path_that_cannot_be_split(
    runtime: Runtime, bundle: Bundle, scratch: Path, layers: list[Path]
) -> None:
    """It goes to the kernel as one text by mount(2)."""
    deep = scratch / ("u" * 200) / ("v" * 200)
    for name in ("upper", "work"):
        (deep / name).mkdir(parents=True)
    words = (f"lowerdir={layers[0]}:{layers[1]}", f"upperdir={deep}/upper", f"workdir={deep}/work", "nosuid")
    bundle.directory("mnt").mount("/mnt", "overlay", "named", *words)
    container = runtime.running(bundle.sh("touch /mnt/made && echo /mnt/*; sleep 1000"))
    observe.eventually(lambda: bool(container.output), "it lists the files")
    assert container.output.split() == ["/mnt/file0", "/mnt/file1", "/mnt/made"]
    mount = observe.mount_at(container.pid, "/mnt")
    assert (mount.source, "nosuid" in mount.options) == ("named", True)
    assert (deep / "upper/made").exists()
    container.delete("--force").ok()


def test_the_same_in_a_user_namespace(
    ocirun: Runtime, bundle: Bundle, scratch: Path, layers: list[Path]
) -> None:
    """runc and crun are told by the kernel that the layers cannot be used there."""
    deep = scratch / ("u" * 200) / ("v" * 200)
    deep.mkdir(parents=True)
    bundle.mapped(FIRST, SIZE).directory("mnt")
    bundle.mount("/mnt", "overlay", "overlay", f"lowerdir={deep}:{layers[0]}", "userxattr")
    assert ocirun.run(bundle.sh("echo /mnt/*")).ok().stdout == "/mnt/file0\n"


def test_what_mount_refuses_is_told_by_its_pointer(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    word = f"upperdir={scratch}/{'u' * 250}"
    bundle.directory("mnt").mount("/mnt", "overlay", "overlay", word)
    ocirun.run(bundle.args("true")).refused("/mounts/7", "mount overlay on /mnt")


def test_options_that_no_call_takes(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "overlay", "overlay", "index=off", f"upperdir={'u' * 4090}")
    ocirun.run(bundle.args("true")).refused("/mounts/7/options/1", "4095 bytes", "shorten")


# -- namespaces


def in_user_namespace(bundle: Bundle, without: str) -> Bundle:
    """The default bundle with a user namespace, but without one of the others."""
    bundle.mapped(FIRST, SIZE)
    kinds = [kind for kind in DEFAULT_NAMESPACES if kind != without]
    return bundle.namespaces(*kinds, "user")


def test_a_sysfs_whose_network_is_not_its_own_is_the_hosts(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(in_user_namespace(bundle, "network").sleeping())
    mount = observe.mount_at(container.pid, "/sys")
    assert (mount.kind, "ro" in mount.options) == ("sysfs", True)
    names = {path.name for path in Path("/sys/class/net").iterdir()}
    assert {path.name for path in observe.inside(container.pid, "/sys/class/net").iterdir()} == names


def test_the_hosts_sysfs_is_guarded_with_all_below(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(in_user_namespace(bundle, "network").sleeping())
    below = [one for one in observe.mounts(container.pid) if one.point.startswith("/sys")]
    assert below
    assert all({"ro", "nosuid", "nodev", "noexec"} <= one.options for one in below)


@pytest.mark.parametrize(("kind", "without"), [("proc", "pid"), ("mqueue", "ipc")])
def test_what_the_kernel_makes_for_the_owner_of_a_namespace_alone(
    runtime: Runtime, bundle: Bundle, kind: str, without: str
) -> None:
    bundle.put([], "linux", "maskedPaths").put([], "linux", "readonlyPaths")
    refused(runtime, in_user_namespace(bundle, without), kind, "EPERM", "a namespace of the container's own")


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_without_a_cgroup_namespace_the_own_cgroup_alone_is_shown(
    ocirun: Runtime, bundle: Bundle, kind: str, *, user: bool
) -> None:
    """With runc it is the whole hierarchy of the host."""
    bundle.without_mount("/sys/fs/cgroup").mount(
        "/sys/fs/cgroup", kind, "cgroup", "ro", "nosuid", "nsdelegate"
    )
    if user:
        in_user_namespace(bundle, "cgroup")
    else:
        bundle.without_namespace("cgroup")
    container = ocirun.running(bundle.sleeping())
    mount = observe.mount_at(container.pid, "/sys/fs/cgroup")
    assert mount.root == observe.cgroup(container.pid)
    assert {"ro", "nosuid"} <= mount.options


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_with_a_cgroup_namespace_it_is_its_root(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", kind, "cgroup", "ro", "nosuid")
    container = runtime.running(bundle.sleeping())
    procs = observe.inside(container.pid, "/sys/fs/cgroup/cgroup.procs").read_text().split()
    assert str(container.pid) in procs


# -- bad words


@pytest.mark.parametrize(
    ("words", "place", "told"),
    [
        (["bind", "nosuid", "usrquota"], 2, "is not an option of a bind mount"),
        (["rbind", "tmpcopyup"], 1, "can be used only with a new tmpfs"),
        (["remount", "iversion"], 1, "new file system alone"),
        (["remount", f"mpol={'x' * 256}"], 1, "255 bytes"),
        (["nosuid", "copy-symlink"], 1, "can be used only with a new bind mount"),
        (["bind", "copy-symlink", "dest-nofollow"], 2, "cannot stand beside copy-symlink"),
        (["nosuid", "loop"], 1, "is not built"),
        (["nosuid", "nofail"], 1, "is not built"),
    ],
)
def test_a_bad_word_is_cited_where_it_stands(
    ocirun: Runtime, bundle: Bundle, words: list[str], place: int, told: str
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "/etc", *words)
    ocirun.run(bundle.args("true")).refused(f"/mounts/7/options/{place}", told)


def test_all_bad_words_are_told_at_once(
    ocirun: Runtime, bundles: Callable[[str], Bundle], scratch: Path
) -> None:
    bundle = bundles("bundle").bind(scratch, "/mnt", "usrquota", "nosiud").mount("/mnt/..", "tmpfs", "t")
    ocirun.run(bundle.args("true")).refused(
        "/mounts/7/options/1", "/mounts/7/options/2", "/mounts/8/destination"
    )


def test_words_of_mount_8_that_ask_for_nothing_here(ocirun: Runtime, bundle: Bundle) -> None:
    words = (
        "auto",
        "noauto",
        "nouser",
        "_netdev",
        "comment=of the table",
        "x-systemd.automount",
        "size=1024k",
    )
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", *words)
    mount = observe.mount_at(ocirun.running(bundle.sleeping()).pid, "/mnt")
    assert "size=1024k" in mount.data


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["user"], {"nosuid", "nodev", "noexec"}),
        (["users", "exec"], {"nosuid", "nodev"}),
        (["owner"], {"nosuid", "nodev"}),
        (["group", "suid"], {"nodev"}),
    ],
)
def test_words_of_mount_8_that_stand_for_others(
    ocirun: Runtime, bundle: Bundle, words: list[str], expected: set[str]
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", *words)
    mount = observe.mount_at(ocirun.running(bundle.sleeping()).pid, "/mnt")
    assert mount.options & {"nosuid", "nodev", "noexec"} == expected
