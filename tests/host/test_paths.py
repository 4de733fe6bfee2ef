"""Masked and read-only paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.bundles import MASKED_PATHS, READONLY_PATHS

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


def test_a_masked_file_reads_empty(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("secret", "very secret").put(["/secret"], "linux", "maskedPaths")
    assert runtime.run(bundle.args("cat", "/secret")).ok().stdout == ""


def test_what_is_written_to_a_masked_file_is_lost(runtime: Runtime, bundle: Bundle) -> None:
    bundle.writable().file("secret", "very secret").put(["/secret"], "linux", "maskedPaths")
    runtime.run(bundle.sh("echo other > /secret"))
    assert (bundle.rootfs / "secret").read_text() == "very secret"


def test_a_masked_directory_is_empty_and_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    bundle.writable().file("secrets/one", "very secret").put(["/secrets"], "linux", "maskedPaths")
    result = runtime.run(bundle.sh("ls -A /secrets; touch /secrets/two"))
    assert result.stdout == ""
    assert "Read-only file system" in result.stderr


def test_a_masked_path_that_does_not_exist_is_passed_over(runtime: Runtime, bundle: Bundle) -> None:
    bundle.writable().put(["/no/such/path"], "linux", "maskedPaths")
    assert runtime.run(bundle.sh("ls /no")).code == 1
    assert not (bundle.rootfs / "no").exists()


def test_several_directories_are_masked(runtime: Runtime, bundle: Bundle) -> None:
    for name in ("one", "two", "three"):
        bundle.file(f"{name}/secret", "secret")
    bundle.put(["/one", "/two", "/three"], "linux", "maskedPaths")
    assert runtime.run(bundle.sh("cat /one/* /two/* /three/* 2>/dev/null; echo end")).ok().stdout == "end\n"


def test_one_directory_hides_all_of_them(runtime: Runtime, bundle: Bundle) -> None:
    """A file system for each would be made and torn down with every container."""
    paths = [f"/secrets/{number}" for number in range(20)]
    for path in paths:
        bundle.directory(path)
    pid = runtime.running(bundle.put([*paths], "linux", "maskedPaths").sleeping()).pid
    devices = {mount.device for mount in observe.mounts(pid) if mount.point in paths}
    assert len(devices) == 1


@pytest.mark.parametrize("way", ["/proc/../secret", "/sys/fs/../../secret", "/link/../secret", "//secret"])
def test_a_way_with_dots_leads_to_what_is_masked(runtime: Runtime, bundle: Bundle, way: str) -> None:
    (bundle.rootfs / "link").symlink_to("/etc")
    bundle.file("secret", "very secret").put([way], "linux", "maskedPaths")
    assert runtime.run(bundle.args("cat", "/secret")).ok().stdout == ""


def test_a_way_with_dots_leads_to_what_is_read_only(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put(["/sys/../proc/sys"], "linux", "readonlyPaths")
    container = runtime.running(bundle.sleeping())
    assert "ro" in observe.mount_at(container.pid, "/proc/sys").options


@pytest.mark.parametrize("path", MASKED_PATHS)
def test_a_default_masked_path_tells_nothing(runtime: Runtime, bundle: Bundle, path: str) -> None:
    script = f"if [ -d {path} ]; then ls -A {path}; elif [ -e {path} ]; then cat {path}; fi"
    assert runtime.run(bundle.sh(script)).ok().stdout == ""


@pytest.mark.parametrize("path", READONLY_PATHS)
def test_a_default_read_only_path_is_a_read_only_mount(runtime: Runtime, bundle: Bundle, path: str) -> None:
    container = runtime.running(bundle.sleeping())
    if not observe.inside(container.pid, path).exists():
        pytest.skip(f"this kernel has no {path}")
    assert "ro" in observe.mount_at(container.pid, path).options


def test_a_read_only_path_can_be_read_and_not_written(runtime: Runtime, bundle: Bundle) -> None:
    bundle.writable().file("fixed/file", "as it was").put(["/fixed"], "linux", "readonlyPaths")
    result = runtime.run(bundle.sh("cat /fixed/file; echo changed > /fixed/file"))
    assert result.stdout == "as it was"
    assert "Read-only file system" in result.stderr


def test_a_read_only_file_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    bundle.writable().file("fixed", "as it was").put(["/fixed"], "linux", "readonlyPaths")
    assert "Read-only file system" in runtime.run(bundle.sh("echo changed > /fixed")).stderr


def test_the_root_itself_is_read_only(runtime: Runtime, bundle: Bundle) -> None:
    """Another copy that lies over it would show nothing, and leave it writable."""
    bundle.writable().put(["/"], "linux", "readonlyPaths")
    result = runtime.run(bundle.sh("touch /new; touch /dev/new"))
    assert "/new: Read-only file system" in result.stderr
    assert "/dev/new" not in result.stderr
    assert not (bundle.rootfs / "new").exists()


@pytest.mark.parametrize("member", ["readonlyPaths", "maskedPaths"])
@pytest.mark.parametrize("path", ["/link", "/etc/.."])
def test_what_only_leads_to_the_root_is_an_error(
    ocirun: Runtime, bundle: Bundle, member: str, path: str
) -> None:
    """Nobody would see what is laid over it, and all would stay bare."""
    (bundle.rootfs / "link").symlink_to("/")
    bundle.put([path], "linux", member)
    ocirun.attempt(bundle).refused(f"/linux/{member}/0]", "it leads to the root of the container")


def test_a_read_only_path_that_does_not_exist_is_passed_over(runtime: Runtime, bundle: Bundle) -> None:
    bundle.writable().put(["/no/such/path"], "linux", "readonlyPaths")
    runtime.run(bundle.args("true")).ok()
    assert not (bundle.rootfs / "no").exists()


def test_a_read_only_path_keeps_the_flags_of_its_mount(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "noatime")
    container = runtime.running(bundle.put(["/mnt"], "linux", "readonlyPaths").sleeping())
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= observe.mount_at(container.pid, "/mnt").options


def test_the_kernel_settings_cannot_be_changed(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.sh("echo changed > /proc/sys/kernel/hostname; hostname"))
    assert result.stdout == "runc\n"
