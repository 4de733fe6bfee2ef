"""A root file system made by somebody who means harm: the host must look the same afterwards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


#: Where the default config mounts something at and below /dev.
DEVICES = ("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")  # noqa: S108 - a mount point


@pytest.fixture
def outside(scratch: Path) -> Iterator[Path]:
    """A directory of the host that a container wants to reach; it must be unchanged afterwards."""
    outside = scratch / "outside"
    (outside / "directory").mkdir(parents=True)
    (outside / "file").write_text("precious")
    before = _listing(outside)
    yield outside
    assert _listing(outside) == before


def _listing(directory: Path) -> list[tuple[str, int, int, str]]:
    found = [path.lstat() for path in sorted(directory.rglob("*"))]
    names = [str(path) for path in sorted(directory.rglob("*"))]
    text = (directory / "file").read_text()
    return [(name, one.st_mode, one.st_uid, text) for name, one in zip(names, found, strict=True)]


def replace(bundle: Bundle, name: str, target: Path | str) -> None:
    """Puts a link where a directory of the root was."""
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to(target)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_link_instead_of_a_kernel_file_system_is_refused(
    runtime: Runtime, bundle: Bundle, outside: Path, name: str
) -> None:
    replace(bundle, name, outside / "directory")
    assert runtime.run(bundle.args("true")).code == 1


def test_a_link_instead_of_dev_does_not_reach_the_host(
    runtime: Runtime, bundle: Bundle, outside: Path
) -> None:
    replace(bundle, "dev", outside / "directory")
    runtime.run(bundle.writable().args("true"))


def test_a_link_instead_of_a_dev_that_is_not_mounted_does_not_reach_the_host(
    runtime: Runtime, bundle: Bundle, outside: Path
) -> None:
    replace(bundle, "dev", outside / "directory")
    for point in DEVICES:
        bundle.without_mount(point)
    runtime.run(bundle.writable().args("true"))


@pytest.mark.parametrize("target", ["/", "../../../../../../../../.."])
def test_mount_points_made_behind_a_link_stay_inside(
    runtime: Runtime, bundle: Bundle, outside: Path, target: str
) -> None:
    (bundle.rootfs / "trap").symlink_to(f"{target}{outside}")
    bundle.writable().mount("/trap/made", "tmpfs", "tmpfs").bind("/etc/hostname", "/trap/file")
    container = runtime.running(bundle.sleeping())
    assert observe.mount_at(container.pid, f"{outside}/made").kind == "tmpfs"


def test_a_bind_over_a_link_lands_inside(runtime: Runtime, bundle: Bundle, outside: Path) -> None:
    (bundle.rootfs / "etc/resolv.conf").symlink_to(outside / "file")
    bundle.writable().bind("/etc/hostname", "/etc/resolv.conf")
    runtime.run(bundle.args("cat", "/etc/resolv.conf"))


@pytest.mark.parametrize("member", ["maskedPaths", "readonlyPaths"])
def test_a_path_behind_a_link_is_covered_inside_alone(
    runtime: Runtime, bundle: Bundle, outside: Path, member: str
) -> None:
    (bundle.rootfs / "trap").symlink_to(outside / "file")
    runtime.run(bundle.put(["/trap"], "linux", member).args("true"))
    (outside / "file").write_text("precious")


def test_a_device_behind_a_link_is_made_inside(runtime: Runtime, bundle: Bundle, outside: Path) -> None:
    (bundle.rootfs / "trap").symlink_to(outside / "directory")
    runtime.run(bundle.writable().device("/trap/zero", "c", 1, 5, 0o666).args("true"))


def test_a_working_directory_in_a_descriptor_of_the_runtime_is_refused_or_inside(
    runtime: Runtime, bundle: Bundle
) -> None:
    ours = os.stat("/")
    for number in range(3, 12):
        result = runtime.run(bundle.cwd(f"/proc/self/fd/{number}").args("stat", "-L", "-c", "%d:%i", "."))
        assert result.stdout.strip() != f"{ours.st_dev}:{ours.st_ino}"


def test_a_working_directory_behind_a_link_is_inside(runtime: Runtime, bundle: Bundle, outside: Path) -> None:
    (bundle.rootfs / "trap").symlink_to(outside / "directory")
    bundle.directory(str(outside / "directory")).file(str(outside / "directory/mine"), "inside")
    assert runtime.run(bundle.cwd("/trap").args("cat", "mine")).ok().stdout == "inside"


def test_a_fake_null_device_does_not_receive_what_is_masked(
    runtime: Runtime, bundle: Bundle, outside: Path
) -> None:
    # /dev is of the image here, and its null is a link: masking must not bind what the link points to.
    for point in DEVICES:
        bundle.without_mount(point)
    (bundle.rootfs / "dev/null").symlink_to("/etc/secret")
    bundle.writable().file("etc/secret", "leaked").file("masked", "x").put(
        ["/masked"], "linux", "maskedPaths"
    )
    assert "leaked" not in runtime.run(bundle.args("cat", "/masked")).stdout
