"""Images and bundles made to lead us astray, standing still: links, fakes, long names, strange files."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe, terminals
from tests.host.execs import execute
from tests.host.runtimes import new_id
from tests.host.test_attacks import DEVICES, outside, replace

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Result, Runtime

__all__ = ["outside"]

#: Executes its arguments with standard input, output and error closed.
CLOSED = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")


def _own_dev(bundle: Bundle) -> Bundle:
    """A /dev that is a directory of the image, but for its terminals."""
    for point in DEVICES:
        bundle.without_mount(point)
    bundle.directory("dev/pts").writable()
    return bundle.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")


# -- /proc and /sys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["tmp", "/tmp", "./tmp/../tmp", "/proc/self/root/tmp"])  # noqa: S108
def test_a_kernel_file_system_is_not_mounted_through_a_link(
    ocirun: Runtime, bundle: Bundle, name: str, target: str
) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: where it goes to nobody covers it."""
    replace(bundle, name, target)
    number = 0 if name == "proc" else 5
    ocirun.attempt(bundle.sleeping()).refused(f"/mounts/{number}", "ELOOP", "symbolic link")


def test_a_cover_is_of_the_procfs_though_a_volume_lies_over_it(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    """The image sends a volume there by a link; the engine never asked for a mount on /proc."""
    volume = scratch / "volume"
    (volume / "sys").mkdir(parents=True)
    (bundle.rootfs / "data").symlink_to("/proc")
    ocirun.attempt(bundle.bind(volume, "/data").sleeping()).refused("ESTALE", "/linux/readonlyPaths")


@pytest.mark.parametrize("how", ["created", "executed"])
def test_a_score_is_not_written_to_a_proc_of_the_image(
    ocirun: Runtime, bundle: Bundle, outside: Path, how: str
) -> None:
    """CVE-2019-16884, CVE-2025-52881."""
    for name in ("self", "1", *map(str, range(2, 12))):
        bundle.directory(f"fake/{name}")
        (bundle.rootfs / f"fake/{name}/oom_score_adj").symlink_to("/trap/file")
    for member in ("maskedPaths", "readonlyPaths"):
        bundle.put([], "linux", member)
    bundle.without_mount("/proc").bind(bundle.rootfs / "fake", "/proc", "rw").writable()
    bundle.directory("trap").bind(outside, "/trap", "rw").put(150, "process", "oomScoreAdj")
    container = ocirun.running(bundle.sleeping())
    pid = container.pid
    if how == "executed":
        pid = execs.by_file(container, oomScoreAdj=150)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "150\n"


# -- /dev ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mounted", [True, False])
def test_a_dev_that_is_a_link_is_refused_and_what_it_leads_to_left_alone(
    ocirun: Runtime, bundle: Bundle, *, mounted: bool
) -> None:
    """CVE-2026-41579, CVE-2026-47766: inside the root, too."""
    replace(bundle, "dev", "/etc")
    (bundle.rootfs / "etc/ptmx").symlink_to("passwd")
    before = sorted(os.listdir(bundle.rootfs / "etc"))
    for point in DEVICES:
        bundle.without_mount(point)
    if mounted:
        bundle.mount("/dev", "tmpfs", "tmpfs")
    ocirun.attempt(bundle.writable().sleeping()).refused("ELOOP")
    assert sorted(os.listdir(bundle.rootfs / "etc")) == before
    assert os.readlink(bundle.rootfs / "etc/ptmx") == "passwd"


def _created_and_deleted(runtime: Runtime, bundle: Bundle, console: terminals.ConsoleSocket) -> Result:
    """What create said of a container that is gone, in whatever state that left it."""
    words, ident = ("--console-socket", str(console.path), "--bundle", str(bundle.write().path)), new_id()
    result = runtime.call("create", *words, ident)
    runtime.call("delete", "--force", ident)
    return result


@pytest.mark.parametrize("target", ["file", "directory", "missing"])
def test_a_console_that_is_a_link_leads_nowhere(
    runtime: Runtime, bundle: Bundle, scratch: Path, outside: Path, target: str
) -> None:
    """CVE-2026-88264: on a /dev that is no mount."""
    (_own_dev(bundle).rootfs / "dev/console").symlink_to(outside / target)
    bundle.put(True, "process", "terminal").sleeping()
    with terminals.ConsoleSocket(scratch / "console") as console:
        result = _created_and_deleted(runtime, bundle, console)
    assert runtime.name != "ocirun" or (result.code, "ELOOP" in result.stderr) == (1, True)
    missing = outside / "missing"
    made = missing.exists()
    missing.unlink(missing_ok=True)
    assert not made, "a file was made on the host"


@pytest.mark.parametrize("fake", ["link", "file", "directory"])
def test_a_terminal_that_is_none(
    runtime: Runtime, bundle: Bundle, scratch: Path, outside: Path, fake: str
) -> None:
    """CVE-2025-52565: /dev/pts is the image's, and what would be bound on /dev/console leads elsewhere."""
    _own_dev(bundle).without_mount("/dev/pts").put(True, "process", "terminal").sleeping()
    for name in ("ptmx", "0", "1"):
        path = bundle.rootfs / "dev/pts" / name
        if fake == "link":
            path.symlink_to(outside / "file")
        elif fake == "file":
            path.write_text("")
        else:
            path.mkdir()
    with terminals.ConsoleSocket(scratch / "console") as console:
        result = _created_and_deleted(runtime, bundle, console)
    assert runtime.name != "ocirun" or (result.code, "check of devpts" in result.stderr) == (1, True)


def test_a_terminal_of_the_host_over_that_of_the_container(ocirun: Runtime, bundle: Bundle) -> None:
    """Who may mount inside puts it there: its other end would be a terminal of the host."""
    bundle.bind("/dev/pts/ptmx", "/dev/pts/ptmx")
    container = ocirun.running(bundle.sleeping())
    result = execute(container, "tty", flags=("--tty",))
    assert (result.code, result.stdout) == (255, "")
    assert "EXDEV" in result.stderr


@pytest.mark.parametrize("fake", ["link", "file", "other device"])
def test_closed_streams_become_the_null_of_the_host_which_keeps_its_owner(
    ocirun: Runtime, bundle: Bundle, outside: Path, fake: str
) -> None:
    """CVE-2026-88265: the one of the image may be anything."""
    null, before = _own_dev(bundle).rootfs / "dev/null", Path("/dev/null").stat()
    container = ocirun.running(bundle.user(1000, 1000).sleeping())
    null.unlink()
    if fake == "link":
        null.symlink_to(outside / "file")
    elif fake == "file":
        null.write_text("")
    else:
        os.mknod(null, 0o20666, os.makedev(1, 5))
    ocirun.prefix = CLOSED
    pid = execs.sleeping(container)
    for number in range(3):
        stream = Path(f"/proc/{pid}/fd/{number}").stat()
        assert (stream.st_dev, stream.st_ino) == (before.st_dev, before.st_ino)
    after = Path("/dev/null").stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


# -- long, deep and linked -----------------------------------------------------------------------------------


def _chain(bundle: Bundle, length: int, end: str) -> str:
    """A chain of links in the image; gives the name of the first."""
    for number in range(length):
        target = f"/link{number + 1}" if number + 1 < length else end
        (bundle.rootfs / f"link{number}").symlink_to(target)
    return "/link0"


@pytest.mark.parametrize("length", [39, 41, 100])
def test_a_chain_of_links_is_followed_as_far_as_the_kernel_does(
    ocirun: Runtime, bundle: Bundle, outside: Path, length: int
) -> None:
    """That is 40 links (path_resolution(7)); a dangling one at the end counts too."""
    first = _chain(bundle, length, str(outside / "directory"))
    bundle.writable().bind(outside, f"{first}/made", "ro").cwd("/").sleeping()
    if length > 40:
        ocirun.attempt(bundle).refused("ELOOP", "/mounts/7")
        return
    container = ocirun.running(bundle)
    assert observe.mount_at(container.pid, f"{outside}/directory/made").options >= {"ro"}


def test_a_ring_of_links_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "one").symlink_to("two")
    (bundle.rootfs / "two").symlink_to("one")
    assert runtime.attempt(bundle.writable().bind("/etc", "/one/made").sleeping()).code == 1


def test_names_and_paths_of_the_greatest_length(ocirun: Runtime, bundle: Bundle) -> None:
    name = "n" * 255
    bundle.writable().mount(f"/{name}/{name}", "tmpfs", "tmpfs").cwd(f"/{name}/{name}")
    container = ocirun.running(bundle.sleeping())
    assert observe.mount_at(container.pid, f"/{name}/{name}").kind == "tmpfs"


@pytest.mark.parametrize("member", ["mounts", "cwd", "device", "masked"])
@pytest.mark.parametrize("path", ["/" + "n" * 256, "/d" * 2049, "/" + "d/" * 5000 + "d"])
def test_longer_names_and_paths_are_refused(ocirun: Runtime, bundle: Bundle, path: str, member: str) -> None:
    bundle.writable().sleeping()
    if member == "mounts":
        bundle.mount(path, "tmpfs", "tmpfs")
    elif member == "cwd":
        bundle.cwd(path)
    elif member == "device":
        bundle.device(path, "c", 1, 3, 0o666)
    else:
        bundle.put([path], "linux", "maskedPaths")
    ocirun.attempt(bundle).refused("longer than")


def test_what_the_image_links_to_by_its_inode_is_covered_and_not_changed(
    runtime: Runtime, bundle: Bundle, outside: Path
) -> None:
    """Hard links: the same file, whatever the path."""
    for name in ("bound", "masked", "fixed"):
        os.link(outside / "file", bundle.rootfs / name)
    bundle.bind("/etc/hostname", "/bound").put(["/masked"], "linux", "maskedPaths").writable()
    bundle.put(["/fixed"], "linux", "readonlyPaths")
    runtime.run(bundle.sh("echo x > /masked; echo y > /fixed; echo z > /proc/self/fd/1"))
    os.link(outside / "file", bundle.rootfs / "null")
    bundle.device("/null", "c", 1, 3, 0o666, 1000, 1000)
    if runtime.name == "ocirun":
        runtime.attempt(bundle).refused("EEXIST")


def test_a_root_that_is_a_link_is_what_it_leads_to(runtime: Runtime, bundle: Bundle) -> None:
    bundle.rootfs.rename(bundle.path / "moved")
    bundle.rootfs.symlink_to("moved")
    assert runtime.run(bundle.args("echo", "well")).ok().stdout == "well\n"


# -- cgroups -------------------------------------------------------------------------------------------------


def test_without_a_cgroup_namespace_its_own_cgroup_is_all_there_is(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2023-25809: not the tree of the host, least of all writable."""
    bundle.without_namespace("cgroup").without_mount("/sys/fs/cgroup").sleeping()
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw")
    container = runtime.running(bundle)
    seen = observe.inside(container.pid, "/sys/fs/cgroup")
    assert str(container.pid) in (seen / "cgroup.procs").read_text().split()
    assert observe.mount_at(container.pid, "/sys/fs/cgroup").root == observe.cgroup(container.pid)


# -- bundles -------------------------------------------------------------------------------------------------


def _make_strange(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 1 << 33)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(
            {"zero": "/dev/zero", "tty": "/dev/ptmx", "ring": path.name, "kmsg": "/dev/kmsg"}[kind]
        )


@pytest.mark.parametrize("kind", ["fifo", "huge", "socket", "directory", "zero", "tty", "ring", "kmsg"])
def test_a_file_that_is_none_is_refused_at_once(
    ocirun: Runtime, bundle: Bundle, scratch: Path, kind: str
) -> None:
    """Instead of config.json, of the Process object, of the resources."""
    container = ocirun.running(bundle.sleeping())
    strange = scratch / "strange"
    strange.mkdir()
    path = strange / "config.json"
    _make_strange(path, kind)
    for words in (
        ("create", "--bundle", str(strange), new_id()),
        ("exec", "--process", str(path), container.id),
        ("update", "--resources", str(path), container.id),
        ("validate", "--bundle", str(strange)),
    ):
        result = ocirun.call(*words)
        assert result.code in (1, 255), words
        assert str(path) in result.stdout + result.stderr
        assert "internal error" not in result.stderr
