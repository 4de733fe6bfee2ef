"""Devices: the default ones, their links, configured ones, and the rules that the cgroup enforces by eBPF."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, cast

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

DEFAULT = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
#: A device that no default rule mentions and that anyone may open: fuse.
OTHER = (10, 229)
OPEN = "exec 3</mnt/other && echo opened"

MKNOD = ("CAP_MKNOD", "CAP_DAC_OVERRIDE")


def with_mknod(bundle: Bundle) -> Bundle:
    """The bundle with the capability to make device files."""
    return bundle.capabilities(bounding=MKNOD, effective=MKNOD, permitted=MKNOD)


@pytest.mark.parametrize("name", DEFAULT)
def test_a_default_device_is_there(runtime: Runtime, bundle: Bundle, name: str) -> None:
    container = runtime.running(bundle.sleeping())
    found = observe.inside(container.pid, f"/dev/{name}").lstat()
    assert stat.filemode(found.st_mode) == "crw-rw-rw-"
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == DEFAULT[name]
    assert (found.st_uid, found.st_gid) == (0, 0)


def test_the_umask_of_the_caller_does_not_narrow_the_devices(runtime: Runtime, bundle: Bundle) -> None:
    runtime.prefix = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    container = runtime.running(bundle.sleeping())
    assert stat.filemode(observe.inside(container.pid, "/dev/null").lstat().st_mode) == "crw-rw-rw-"


@pytest.mark.parametrize("name", LINKS)
def test_a_standard_link_is_there(runtime: Runtime, bundle: Bundle, name: str) -> None:
    container = runtime.running(bundle.sleeping())
    assert os.readlink(observe.inside(container.pid, f"/dev/{name}")) == LINKS[name]


def test_ptmx_leads_to_the_instance_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    assert os.readlink(observe.inside(container.pid, "/dev/ptmx")) in {"pts/ptmx", "/dev/pts/ptmx"}


def test_there_is_nothing_else_in_dev(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    expected = {*DEFAULT, *LINKS, "ptmx", "pts", "shm", "mqueue"}
    assert set(os.listdir(observe.inside(container.pid, "/dev"))) - {"core"} == expected


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("echo lost > /dev/null; cat /dev/null", ""),
        ("head -c 3 /dev/zero | wc -c", "3"),
        ("head -c 3 /dev/urandom | wc -c", "3"),
        ("head -c 3 /dev/random | wc -c", "3"),
    ],
)
def test_a_default_device_works(runtime: Runtime, bundle: Bundle, script: str, output: str) -> None:
    assert runtime.run(bundle.sh(script)).ok().stdout.strip() == output


def test_a_configured_device_is_made_as_it_says(runtime: Runtime, bundle: Bundle) -> None:
    bundle.device("/dev/sub/mine", "c", 10, 200, 0o640, uid=1000, gid=1001)
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/dev/sub/mine").lstat()
    assert stat.filemode(found.st_mode) == "crw-r-----"
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (10, 200)
    assert (found.st_uid, found.st_gid) == (1000, 1001)


def test_the_kind_of_file_in_a_mode_is_no_permission(runtime: Runtime, bundle: Bundle) -> None:
    bundle.device("/dev/mine", "c", 10, 200, stat.S_IFCHR | 0o640)  # Podman writes the host's st_mode
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/dev/mine").lstat()
    assert stat.filemode(found.st_mode) == "crw-r-----"


def test_a_block_device_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.device("/dev/disk", "b", 7, 7, 0o600)
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/dev/disk").lstat()
    assert stat.filemode(found.st_mode) == "brw-------"


def test_a_fifo_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.items("linux", "devices").append({"path": "/dev/queue", "type": "p", "fileMode": 0o622})
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/dev/queue").lstat()
    assert stat.filemode(found.st_mode) == "prw--w--w-"


def test_a_fifo_has_no_numbers_whatever_is_said(runtime: Runtime, bundle: Bundle) -> None:
    bundle.device("/dev/queue", "p", 12, 34, 0o600)
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/dev/queue").lstat()
    assert (stat.filemode(found.st_mode), found.st_rdev) == ("prw-------", 0)


def test_a_device_outside_dev_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.device("/srv/mine", "c", 10, 200, 0o600)
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/srv/mine").lstat()
    assert (found.st_mode, found.st_rdev) == (stat.S_IFCHR | 0o600, os.makedev(10, 200))


def test_a_described_default_device_is_as_described(runtime: Runtime, bundle: Bundle) -> None:
    bundle.device("/dev/zero", "c", 1, 5, 0o640, uid=0, gid=7)
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/dev/zero").lstat()
    assert (stat.filemode(found.st_mode), found.st_gid) == ("crw-r-----", 7)


@pytest.mark.parametrize("there", ["file", "other device", "link"])
def test_a_file_that_is_not_the_device_is_an_error(runtime: Runtime, bundle: Bundle, there: str) -> None:
    place = bundle.directory("srv").rootfs / "srv/mine"
    if there == "file":
        place.write_text("kept")
    elif there == "link":
        place.symlink_to("elsewhere")
    else:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(10, 201))
    before = place.lstat()
    bundle.device("/srv/mine", "c", 10, 200, 0o600)
    runtime.attempt(bundle.sleeping()).refused("/srv/mine")
    assert place.lstat() == before


def test_a_device_that_is_there_and_matches_is_kept(runtime: Runtime, bundle: Bundle) -> None:
    place = bundle.directory("srv").rootfs / "srv/mine"
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(10, 200))
    bundle.device("/srv/mine", "c", 10, 200, 0o600)
    found = observe.inside(runtime.running(bundle.sleeping()).pid, "/srv/mine").lstat()
    assert (found.st_ino, found.st_rdev) == (place.lstat().st_ino, os.makedev(10, 200))


def test_a_device_in_a_user_namespace_is_the_hosts(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mapped(100000, 65536).device("/dev/fuse", "c", 10, 229, 0o666)
    container = runtime.running(bundle.sleeping())
    assert observe.mount_at(container.pid, "/dev/fuse").point == "/dev/fuse"
    assert observe.inside(container.pid, "/dev/fuse").lstat().st_rdev == os.makedev(10, 229)


def test_a_device_has_another_name_on_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """An engine that is asked for /dev/fuse as /dev/other tells the numbers alone."""
    bundle.mapped(100000, 65536).device("/dev/other", "c", 10, 229, 0o666)
    container = runtime.running(bundle.sleeping())
    assert observe.inside(container.pid, "/dev/other").lstat().st_rdev == os.makedev(10, 229)


@pytest.mark.parametrize("user_namespace", [False, True])
def test_a_device_may_stand_twice(runtime: Runtime, bundle: Bundle, user_namespace: bool) -> None:
    if user_namespace:
        bundle.mapped(100000, 65536)
    bundle.device("/dev/fuse", "c", 10, 229, 0o666).device("/dev/fuse", "c", 10, 229, 0o666)
    container = runtime.running(bundle.sleeping())
    assert observe.inside(container.pid, "/dev/fuse").lstat().st_rdev == os.makedev(10, 229)


def with_other(bundle: Bundle) -> Bundle:
    """The bundle with a file for OTHER, made by the program itself: any device may be made, not opened."""
    with_mknod(bundle).directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "mode=777")
    return bundle.sh(f"umask 0; mknod /mnt/other c {OTHER[0]} {OTHER[1]}; {OPEN}")


def test_a_device_that_no_rule_allows_cannot_be_opened(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(with_other(bundle))
    assert result.stdout == ""
    assert "Operation not permitted" in result.stderr


def test_a_device_that_a_rule_allows_can_be_opened(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(with_other(bundle).allow_device("c", *OTHER, "r"))
    assert result.ok().stdout == "opened\n"


def test_a_rule_allows_reading_without_writing(runtime: Runtime, bundle: Bundle) -> None:
    with_other(bundle).allow_device("c", *OTHER, "r")
    script = cast("list[str]", bundle.items("process", "args"))[-1]
    result = runtime.run(bundle.sh(f"{script}; (exec 4>/mnt/other) && echo written"))
    assert result.stdout == "opened\n"


def test_a_rule_for_all_minor_numbers_allows_each(runtime: Runtime, bundle: Bundle) -> None:
    bundle.items("linux", "resources", "devices").append(
        {"allow": True, "type": "c", "major": OTHER[0], "access": "rwm"}
    )
    assert runtime.run(with_other(bundle)).ok().stdout == "opened\n"


def test_a_later_rule_wins(runtime: Runtime, bundle: Bundle) -> None:
    with_other(bundle).allow_device("c", *OTHER, "rwm")
    bundle.items("linux", "resources", "devices").append(
        {"allow": False, "type": "c", "major": OTHER[0], "minor": OTHER[1], "access": "rw"}
    )
    assert runtime.run(bundle).stdout == ""


def test_a_block_device_made_inside_cannot_be_opened(runtime: Runtime, bundle: Bundle) -> None:
    # Making any device file is among the default rules, opening it is not.
    with_mknod(bundle).mount("/mnt", "tmpfs", "tmpfs", "mode=777").directory("mnt")
    result = runtime.run(
        bundle.sh("mknod /mnt/disk b 8 0 && echo made; dd if=/mnt/disk of=/dev/null count=1")
    )
    assert result.stdout == "made\n"
    assert "Operation not permitted" in result.stderr


def test_a_rule_for_everything_allows_everything(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put([{"allow": True, "access": "rwm"}], "linux", "resources", "devices")
    assert runtime.run(with_other(bundle)).ok().stdout == "opened\n"


def test_the_rules_hold_for_every_process_in_the_container(runtime: Runtime, bundle: Bundle) -> None:
    script = cast("list[str]", with_other(bundle).items("process", "args"))[-1]
    result = runtime.run(bundle.sh(f"(sh -c '{script}') & wait $!"))
    assert "Operation not permitted" in result.stderr
    assert result.stdout == ""
