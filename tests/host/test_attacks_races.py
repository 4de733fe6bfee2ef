"""Somebody who shares a directory with a container renames things in it while that is being made.

Each race goes on until the container was made some times and refused some times, or for a while.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe, terminals
from tests.host.attackers import Creates, bare, compiled, exchanging, standing_still
from tests.host.test_attacks import DEVICES, outside

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

__all__ = ["outside"]


def _fake_kernel(bundle: Bundle) -> Path:
    """A directory of the image that looks like /proc and /sys, where covers may be laid."""
    fake = bundle.rootfs / "fake"
    for name in ("sys", "bus", "fs", "irq", "firmware"):
        (fake / name).mkdir(parents=True)
    for name in ("kcore", "keys", "timer_list", "sysrq-trigger"):
        (fake / name).write_text("")
    return fake


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_kernel_file_system_that_is_moved_away_is_not_left_bare(
    runtime: Runtime, bundle: Bundle, scratch: Path, name: str
) -> None:
    """Between its mounting and its masking: the hook comes just then."""
    swap, fake = compiled("swap", scratch), _fake_kernel(bundle)
    exchange: list[Json] = ["once", str(bundle.rootfs / name), str(fake)]
    bundle.put([{"path": str(swap), "args": exchange}], "hooks", "createRuntime").sleeping()
    creates = Creates(runtime, bundle)
    with creates.one() as pid:
        assert not pid or bare(pid) == []
    assert (bundle.rootfs / name / "kcore").exists(), "the attacker was there"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_kernel_file_system_is_covered_or_refused_while_its_place_is_exchanged(
    ocirun: Runtime, bundle: Bundle, scratch: Path, name: str
) -> None:
    creates = Creates(ocirun, bundle.sleeping())
    with exchanging(scratch, bundle.rootfs / name, _fake_kernel(bundle)) as attacker:
        while not creates.enough:
            with creates.one() as pid, standing_still(attacker):
                assert not pid or bare(pid) == []
    assert min(creates.made, len(creates.refused)) > 0, creates.refused[-1:]
    # ENOENT: what was made on the way to /sys/fs/cgroup is below the other directory now.
    unexplained = [told for told in creates.refused if "(ESTALE)" not in told and "(ENOENT)" not in told]
    assert unexplained == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_kernel_file_system_is_never_mounted_through_a_link_that_comes_and_goes(
    ocirun: Runtime, bundle: Bundle, scratch: Path, outside: Path, name: str
) -> None:
    link = bundle.rootfs / "link"
    link.symlink_to(outside / "directory")
    creates = Creates(ocirun, bundle.sleeping())
    with exchanging(scratch, bundle.rootfs / name, link) as attacker:
        while not creates.enough:
            with creates.one() as pid, standing_still(attacker):
                assert not pid or bare(pid) == []
    assert min(creates.made, len(creates.refused)) > 0, creates.refused[-1:]


def _shared(bundle: Bundle, scratch: Path, outside: Path) -> tuple[Path, Path]:
    """A volume of two containers, mounted rw, with a directory and a link that leads out in it."""
    volume = scratch / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(outside / "directory")
    bundle.directory("volume").bind(volume, "/volume", "rw")
    return volume / "a", volume / "b"


@pytest.mark.slow
def test_what_is_made_in_a_shared_volume_stays_in_the_root(
    ocirun: Runtime, bundle: Bundle, scratch: Path, outside: Path
) -> None:
    """CVE-2021-30465 and CVE-2024-45310: mount points, devices, covers and the working directory."""
    a, b = _shared(bundle, scratch, outside)
    bundle.mount("/volume/a/deep/tmpfs", "tmpfs", "tmpfs").bind("/etc/hostname", "/volume/a/deep/file")
    bundle.device("/volume/a/null", "c", 1, 3, 0o666).cwd("/volume/a/deep/cwd").writable()
    bundle.items("linux", "maskedPaths").append("/volume/a/deep/file")
    bundle.items("linux", "readonlyPaths").append("/volume/a")
    creates = Creates(ocirun, bundle.sleeping())
    before = len(observe.mounts())
    with exchanging(scratch, a, b) as attacker:
        for _ in range(40):
            if creates.enough:
                break
            with creates.one() as pid:
                assert not pid or observe.inside(pid, "/").is_dir()
                assert len(observe.mounts()) == before, "nothing is mounted on the host"
            with standing_still(attacker):
                shutil.rmtree(a if a.is_dir() and not a.is_symlink() else b)
                (b if a.is_symlink() else a).mkdir()
    assert min(creates.made, len(creates.refused)) > 0, creates.refused[-1:]


@pytest.mark.slow
def test_what_was_found_is_what_becomes_read_only_and_hidden(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    """GHSA-3q8j-pf29-vwv8: a cover that is laid and then looked up again may be another one by then."""
    volume = scratch / "volume"
    for name in ("a", "b"):
        for file in ("fixed", "hidden"):
            (volume / name).mkdir(parents=True, exist_ok=True)
            (volume / name / file).write_text("secret")
    bundle.directory("volume").bind(volume, "/volume", "rw").sleeping()
    bundle.items("linux", "readonlyPaths").append("/volume/a/fixed")
    bundle.items("linux", "maskedPaths").append("/volume/a/hidden")
    creates = Creates(ocirun, bundle)
    with exchanging(scratch, volume / "a", volume / "b") as attacker:
        while creates.made < 15 and not creates.over:
            with creates.one() as pid, standing_still(attacker):
                assert pid, creates.refused
                covers = {
                    mount.point.rpartition("/")[2]: mount
                    for mount in observe.mounts(pid)
                    if mount.point.startswith("/volume/")
                }
                assert covers.keys() == {"fixed", "hidden"}
                assert "ro" in covers["fixed"].options
                assert covers["hidden"].root == "/null"
                fixed = covers["fixed"]
                assert fixed.root.endswith(fixed.point), "it covers what it was cloned from"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dev", "dev/console", "dev/null", "dev/fd"])
def test_devices_links_and_console_stay_in_a_dev_that_is_no_mount(
    ocirun: Runtime, bundle: Bundle, scratch: Path, outside: Path, name: str
) -> None:
    """CVE-2026-41579 and CVE-2026-88264, in a race."""
    for point in DEVICES:
        bundle.without_mount(point)
    bundle.directory("dev/pts").writable().put(True, "process", "terminal").sleeping()
    pts = ("newinstance", "ptmxmode=0666", "mode=0620")
    bundle.mount("/dev/pts", "devpts", "devpts", *pts)
    target = outside / ("directory" if name == "dev" else "file")
    link, place = bundle.rootfs / "link", bundle.rootfs / name
    link.symlink_to(target)
    if name != "dev":
        place.write_text("")
    with terminals.ConsoleSocket(scratch / "console") as console:
        creates = Creates(ocirun, bundle, "--console-socket", str(console.path))
        with exchanging(scratch, place, link) as attacker:
            for _ in range(25):
                with creates.one() as pid:
                    assert not pid or console.receive()
                with standing_still(attacker):
                    _restore(place, link, target)
    assert creates.refused, "the attacker was there"


def _restore(place: Path, link: Path, target: Path) -> None:
    """What a create has put in place of a link, or of the file beside it, is what it was."""
    for path in (place, link):
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
    if not place.exists():
        place.write_text("")
    if not link.exists():
        link.symlink_to(target)
