"""Every word of the table of mount options, as mountinfo shows what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import kernel, observe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: Flags of a mount that options can set, as mountinfo prints them.
FLAGS = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"}

#: Options of a mount, and the flags that must come of them; the last word wins.
OPTIONS: dict[str, set[str]] = {
    "ro": {"ro"},
    "rw": set(),
    "nosuid": {"nosuid"},
    "nodev": {"nodev"},
    "noexec": {"noexec"},
    "nosuid,nodev,noexec,ro": {"nosuid", "nodev", "noexec", "ro"},
    "nosuid,suid": set(),
    "nodev,dev": set(),
    "noexec,exec": set(),
    "suid,nosuid": {"nosuid"},
    "dev,nodev": {"nodev"},
    "exec,noexec": {"noexec"},
    "ro,rw": set(),
    "rw,ro": {"ro"},
    "nodiratime": {"nodiratime"},
    "nodiratime,diratime": set(),
    "diratime,nodiratime": {"nodiratime"},
    "nosymfollow": {"nosymfollow"},
    "symfollow,nosymfollow": {"nosymfollow"},
    "nosymfollow,symfollow": set(),
    "defaults": set(),
    "ro,defaults": {"ro"},
}

#: How access times are kept; strictatime shows as nothing.
ACCESS_TIMES: dict[str, set[str]] = {
    "noatime": {"noatime"},
    "relatime": {"relatime"},
    "strictatime": set(),
    "atime": {"relatime"},
    "norelatime": {"relatime"},
    "nostrictatime": {"relatime"},
    "noatime,atime": {"relatime"},
    "noatime,strictatime": set(),
    "strictatime,noatime": {"noatime"},
    "strictatime,relatime": {"relatime"},
    "strictatime,nostrictatime": {"relatime"},
}

#: Options that the file system shows among its own.
OF_THE_FILE_SYSTEM = ("sync", "dirsync", "lazytime", "mand")

#: Recursive options, and the flag each sets on every mount below.
RECURSIVE: dict[str, str] = {
    "rro": "ro",
    "rnosuid": "nosuid",
    "rnodev": "nodev",
    "rnoexec": "noexec",
    "rnoatime": "noatime",
    "rnodiratime": "nodiratime",
    "rnosymfollow": "nosymfollow",
    "rrelatime": "relatime",
}
#: Recursive options, and the flag each takes from every mount below.
RECURSIVELY_CLEARED: dict[str, str] = {
    "rrw": "ro",
    "rsuid": "nosuid",
    "rdev": "nodev",
    "rexec": "noexec",
    "ratime": "noatime",
    "rstrictatime": "noatime",
    "rrelatime": "noatime",
    "rdiratime": "nodiratime",
    "rsymfollow": "nosymfollow",
}
GUARDED = (
    kernel.MS_RDONLY
    | kernel.MS_NOSUID
    | kernel.MS_NODEV
    | kernel.MS_NOEXEC
    | kernel.MS_NOATIME
    | kernel.MS_NODIRATIME
    | kernel.MS_NOSYMFOLLOW
)


def flags(mount: observe.Mount) -> set[str]:
    """The flags of a mount, without the way it keeps access times."""
    return (FLAGS & mount.options) - {"relatime"}


def mount_of(runtime: Runtime, bundle: Bundle, scratch: Path, how: str, options: str) -> observe.Mount:
    """The mount on /mnt of a container that asks for a tmpfs, or for a bind of a directory, with options."""
    bundle.directory("mnt")
    if how == "bind":
        bundle.bind(scratch, "/mnt", *options.split(","))
    else:
        bundle.mount("/mnt", "tmpfs", "tmpfs", *options.split(","))
    return observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_an_option_sets_its_flag(
    runtime: Runtime, bundle: Bundle, scratch: Path, how: str, options: str
) -> None:
    assert flags(mount_of(runtime, bundle, scratch, how, options)) == OPTIONS[options]


@pytest.mark.parametrize("options", ACCESS_TIMES)
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_an_option_sets_how_access_times_are_kept(
    runtime: Runtime, bundle: Bundle, scratch: Path, how: str, options: str
) -> None:
    mount = mount_of(runtime, bundle, scratch, how, options)
    assert mount.options & {"noatime", "relatime"} == ACCESS_TIMES[options]


@pytest.mark.parametrize("option", OF_THE_FILE_SYSTEM)
def test_an_option_of_the_file_system_is_set(runtime: Runtime, bundle: Bundle, option: str) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", option)
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert option in mount.data | mount.options


@pytest.mark.parametrize("options", ["sync,async", "lazytime,nolazytime", "mand,nomand"])
def test_an_option_of_the_file_system_is_taken_back(runtime: Runtime, bundle: Bundle, options: str) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", *options.split(","))
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert not {*options.split(",")} & (mount.data | mount.options)


@pytest.mark.parametrize(
    "option", ["async", "loud", "silent", "noiversion", "nolazytime", "nomand", "symfollow"]
)
def test_an_option_that_changes_nothing_is_accepted(runtime: Runtime, bundle: Bundle, option: str) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", option)
    assert not flags(observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt"))


def test_iversion_goes_with_the_other_options_by_another_call(runtime: Runtime, bundle: Bundle) -> None:
    """What it does shows nowhere on new kernels, where each file system has it anyhow."""
    bundle.directory("mnt", 0o711).mount(
        "/mnt", "tmpfs", "named", "iversion", "sync", "nosuid", "size=1024k", "nr_inodes=50"
    )
    container = runtime.running(bundle.sleeping())
    mount = observe.mount_at(container.pid, "/mnt")
    assert {"size=1024k", "nr_inodes=50", "sync"} <= mount.data
    assert (flags(mount), mount.source) == ({"nosuid"}, "named")
    assert observe.inside(container.pid, "/mnt").stat().st_mode & 0o7777 == 0o711


def test_an_unknown_option_goes_to_the_file_system_which_may_refuse_it(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "nosuid", "no-such-option=1")
    result = runtime.run(bundle.args("true"))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/7/options]", "tmpfs: Unknown parameter 'no-such-option'")


def test_data_for_a_file_system_is_ignored_on_a_bind_mount_as_mount_2_does(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    bundle.bind(scratch, "/mnt", "nosuid", "size=4k", "mode=0700")
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert "nosuid" in mount.options
    assert not {"size=4k", "mode=700"} & mount.data


def test_a_comma_in_a_list_of_nodes_parts_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "mpol=bind:0,0", "size=1024k")
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert {"mpol=bind:0", "size=1024k"} <= mount.data


@pytest.fixture
def mounted(scratch: Path) -> Iterator[Path]:
    """A directory with a second file system below it."""
    tree = scratch / "tree"
    (tree / "below").mkdir(parents=True)
    kernel.mount("tmpfs", tree / "below", "tmpfs")
    yield tree
    kernel.umount(tree / "below")


@pytest.fixture
def guarded(scratch: Path) -> Iterator[Path]:
    """A file system with a second one below, both with every flag that can be set."""
    tree = scratch / "tree"
    tree.mkdir()
    kernel.mount("tmpfs", tree, "tmpfs")
    (tree / "below").mkdir()
    kernel.mount("tmpfs", tree / "below", "tmpfs")
    for point in (tree / "below", tree):
        kernel.mount("none", point, flags=kernel.MS_BIND | kernel.MS_REMOUNT | GUARDED)
    yield tree
    kernel.umount(tree, kernel.MNT_DETACH)


@pytest.mark.parametrize("option", RECURSIVE)
def test_a_recursive_option_holds_for_the_mounts_below(
    runtime: Runtime, bundle: Bundle, mounted: Path, option: str
) -> None:
    pid = runtime.running(bundle.directory("mnt").bind(mounted, "/mnt", "rbind", option).sleeping()).pid
    assert RECURSIVE[option] in observe.mount_at(pid, "/mnt").options
    assert RECURSIVE[option] in observe.mount_at(pid, "/mnt/below").options


def test_rstrictatime_holds_for_the_mounts_below(runtime: Runtime, bundle: Bundle, mounted: Path) -> None:
    pid = runtime.running(
        bundle.directory("mnt").bind(mounted, "/mnt", "rbind", "rstrictatime").sleeping()
    ).pid
    assert not {"relatime", "noatime"} & observe.mount_at(pid, "/mnt/below").options


@pytest.mark.parametrize("option", RECURSIVELY_CLEARED)
def test_a_recursive_option_takes_the_flag_from_the_mounts_below(
    runtime: Runtime, bundle: Bundle, guarded: Path, option: str
) -> None:
    pid = runtime.running(bundle.directory("mnt").bind(guarded, "/mnt", "rbind", option).sleeping()).pid
    gone = RECURSIVELY_CLEARED[option]
    for point in ("/mnt", "/mnt/below"):
        assert flags(observe.mount_at(pid, point)) == FLAGS - {gone, "relatime"}


@pytest.mark.parametrize(
    ("option", "mode"), [("rnorelatime", "noatime"), ("rnostrictatime", "noatime"), ("ratime", "relatime")]
)
def test_a_recursive_option_takes_back_only_its_own_way_of_access_times(
    runtime: Runtime, bundle: Bundle, guarded: Path, option: str, mode: str
) -> None:
    bundle.directory("mnt").bind(guarded, "/mnt", "rbind", "rnoatime", option)
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt/below")
    assert mount.options & {"noatime", "relatime"} == {mode}


@pytest.mark.parametrize(
    ("options", "upper", "lower"),
    [
        ("ro,rrw", set[str](), set[str]()),
        ("rro,rrw", set[str](), set[str]()),
        ("rrw,rro", {"ro"}, {"ro"}),
        ("rnosuid,nodev", {"nosuid", "nodev"}, {"nosuid"}),
        ("rro,rw", {"ro"}, {"ro"}),
    ],
)
def test_recursive_options_come_after_the_plain_ones(
    runtime: Runtime, bundle: Bundle, mounted: Path, options: str, upper: set[str], lower: set[str]
) -> None:
    bundle.directory("mnt").bind(mounted, "/mnt", "rbind", *options.split(","))
    pid = runtime.running(bundle.sleeping()).pid
    assert flags(observe.mount_at(pid, "/mnt")) == upper
    assert flags(observe.mount_at(pid, "/mnt/below")) == lower


@pytest.mark.parametrize(
    ("options", "expected"), [("ro,rrw", set[str]()), ("rw,rro", {"ro"}), ("nosuid,rsuid", set[str]())]
)
def test_recursive_options_count_for_a_new_file_system(
    runtime: Runtime, bundle: Bundle, options: str, expected: set[str]
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", *options.split(","))
    assert flags(observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")) == expected


def test_a_bind_keeps_the_flags_that_nobody_named(runtime: Runtime, bundle: Bundle, guarded: Path) -> None:
    bundle.directory("mnt").bind(guarded, "/mnt", "rbind", "rw", "dev")
    pid = runtime.running(bundle.sleeping()).pid
    assert flags(observe.mount_at(pid, "/mnt")) == FLAGS - {"ro", "nodev", "relatime"}
    assert flags(observe.mount_at(pid, "/mnt/below")) == FLAGS - {"relatime"}


@pytest.mark.parametrize("option", ["private", "shared", "unbindable", "rprivate", "rshared", "runbindable"])
def test_propagation_is_as_the_option_says(
    runtime: Runtime, bundle: Bundle, mounted: Path, option: str
) -> None:
    pid = runtime.running(bundle.directory("mnt").bind(mounted, "/mnt", "rbind", option).sleeping()).pid
    for point in ["/mnt", "/mnt/below"] if option.startswith("r") else ["/mnt"]:
        mount = observe.mount_at(pid, point)
        assert mount.shared is option.endswith("shared")
        assert ("unbindable" in mount.tags) is option.endswith("unbindable")


@pytest.mark.parametrize("option", ["private", "shared", "unbindable", "rprivate", "rshared"])
def test_propagation_of_a_new_file_system(runtime: Runtime, bundle: Bundle, option: str) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", option)
    mount = observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")
    assert mount.shared is option.endswith("shared")
    assert ("unbindable" in mount.tags) is option.endswith("unbindable")


@pytest.fixture
def shared(mounted: Path) -> Iterator[Path]:
    """A tree whose mounts are shared on the host."""
    kernel.mount(str(mounted), mounted, flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", mounted, flags=kernel.MS_SHARED | kernel.MS_REC)
    (mounted / "late").mkdir()
    yield mounted
    kernel.umount(mounted, kernel.MNT_DETACH)


@pytest.mark.parametrize("option", ["slave", "rslave"])
def test_a_slave_mount_receives_what_is_mounted_on_the_host(
    runtime: Runtime, bundle: Bundle, shared: Path, option: str
) -> None:
    container = runtime.running(bundle.directory("mnt").bind(shared, "/mnt", "rbind", option).sleeping())
    kernel.mount("tmpfs", shared / "late", "tmpfs")
    assert observe.mount_at(container.pid, "/mnt/late").kind == "tmpfs"
    container.delete("--force").ok()


def test_a_private_mount_receives_nothing(runtime: Runtime, bundle: Bundle, shared: Path) -> None:
    container = runtime.running(bundle.directory("mnt").bind(shared, "/mnt", "rbind", "rprivate").sleeping())
    kernel.mount("tmpfs", shared / "late", "tmpfs")
    assert not [one for one in observe.mounts(container.pid) if one.point == "/mnt/late"]
    container.delete("--force").ok()


def test_words_of_propagation_take_effect_one_after_the_other(
    runtime: Runtime, bundle: Bundle, shared: Path
) -> None:
    bundle.directory("mnt").bind(shared, "/mnt", "rbind", "rslave", "rshared")
    container = runtime.running(bundle.sleeping())
    for point in ("/mnt", "/mnt/below"):
        mount = observe.mount_at(container.pid, point)
        assert (mount.shared, mount.slave) == (True, True)
    container.delete("--force").ok()


@pytest.mark.parametrize(
    ("word", "root", "seen"),
    [("rshared", "rshared", True), ("rshared", "rslave", False), ("rslave", "rshared", False)],
)
def test_what_is_mounted_inside_shows_outside_only_when_root_and_mount_are_shared(
    runtime: Runtime, bundle: Bundle, shared: Path, word: str, root: str, seen: bool
) -> None:
    bundle.put(root, "linux", "rootfsPropagation").directory("mnt").bind(shared, "/mnt", "rbind", word)
    sets = ("CAP_SYS_ADMIN",)
    bundle.capabilities(bounding=sets, effective=sets, permitted=sets)
    container = runtime.running(bundle.sh("mount -t tmpfs inside /mnt/late && echo done; sleep 1000"))
    observe.eventually(lambda: container.output == "done\n", "it is mounted")
    found = [one for one in observe.mounts() if one.point == str(shared / "late")]
    assert bool(found) is seen
    container.delete("--force").ok()


def test_a_user_namespace_tells_the_host_nothing(ocirun: Runtime, bundle: Bundle, shared: Path) -> None:
    bundle.mapped(100000, 65536).put("rshared", "linux", "rootfsPropagation").directory("mnt")
    sets = ("CAP_SYS_ADMIN",)
    bundle.capabilities(bounding=sets, effective=sets, permitted=sets)
    bundle.bind(shared, "/mnt", "rbind", "rshared")
    container = ocirun.running(bundle.sh("mount -t tmpfs inside /mnt/late && echo done; sleep 1000"))
    observe.eventually(lambda: container.output == "done\n", "it is mounted")
    assert not [one for one in observe.mounts() if one.point == str(shared / "late")]
    container.delete("--force").ok()


_UNMAPPED = "has the user namespace of the container no such"


@pytest.mark.parametrize("option", ["uid=foo", "gid=", "uid=4294967295"])
def test_an_owner_that_is_none_has_nothing_to_do_with_a_user_namespace(
    ocirun: Runtime, bundle: Bundle, option: str
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", option)
    attempt = ocirun.attempt(bundle.args("true"))
    attempt.refused("/mounts/", option)
    assert _UNMAPPED not in attempt.stderr


@pytest.mark.parametrize(("option", "told"), [("uid=foo", False), ("uid=70000", True), ("gid=70000", True)])
def test_only_an_owner_who_is_a_number_may_lack_a_mapping(
    ocirun: Runtime, bundle: Bundle, option: str, told: bool
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", option).mapped(100000, 65536)
    attempt = ocirun.attempt(bundle.args("true"))
    attempt.refused("/mounts/", option)
    assert (_UNMAPPED in attempt.stderr) is told
