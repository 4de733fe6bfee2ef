"""Mounts whose destination is the root: what they show is the root of the container."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


@pytest.fixture
def other(bundle: Bundle, scratch: Path) -> Path:
    """Another root file system, with a file by which it is known."""
    made = scratch / "other"
    shutil.copytree(bundle.rootfs, made, symlinks=True, copy_function=os.link)
    (made / "second").write_text("second")
    return made


def first(bundle: Bundle) -> Bundle:
    """Moves the mount that was added last to the beginning, so that the others are made in it."""
    mounts = bundle.items("mounts")
    mounts.insert(0, mounts.pop())
    return bundle


@pytest.mark.parametrize("destination", ["/", "//./"])
def test_a_bind_mount_is_the_root(runtime: Runtime, bundle: Bundle, other: Path, destination: str) -> None:
    first(bundle.bind(other, destination, "nosuid", "rprivate"))
    container = runtime.running(bundle.sleeping())
    assert observe.inside(container.pid, "/second").read_text() == "second"
    root = set(observe.mount_at(container.pid, "/").options)
    assert "nosuid" in root
    assert runtime.name == "crun" or "ro" in root, "crun leaves it writable"
    assert observe.mount_at(container.pid, "/proc").kind == "proc"
    assert not (bundle.rootfs / "second").exists()


def test_the_root_it_covers_is_gone(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    first(bundle.bind(other, "/"))
    container = runtime.running(bundle.sleeping())
    assert [one.point for one in observe.mounts(container.pid) if one.point == "/"] == ["/"]


def test_an_overlay_takes_what_the_container_writes(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    for name in ("upper", "work"):
        (scratch / name).mkdir()
    layers = f"lowerdir={bundle.rootfs},upperdir={scratch}/upper,workdir={scratch}/work"
    first(bundle.writable().mount("/", "overlay", "overlay", layers))
    runtime.run(bundle.sh("echo written > /made")).ok()
    assert (scratch / "upper/made").read_text() == "written\n"
    assert not (bundle.rootfs / "made").exists()


def test_what_was_mounted_before_goes_with_the_root(ocirun: Runtime, bundle: Bundle, other: Path) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs").bind(other, "/")
    bundle.bind("/proc", "/proc", "rbind", "ro")
    container = ocirun.running(
        bundle.put([], "linux", "maskedPaths").put([], "linux", "readonlyPaths").sleeping()
    )
    assert "/mnt" not in {one.point for one in observe.mounts(container.pid)}
    assert observe.inside(container.pid, "/second").exists()


def test_it_is_covered_above_the_old_root_too(ocirun: Runtime, bundle: Bundle, other: Path) -> None:
    container = ocirun.create(first(bundle.bind(other, "/")).sleeping(), "--no-pivot").start()
    assert observe.inside(container.pid, "/second").exists()


def test_a_file_is_no_root(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "file").write_text("")
    result = runtime.run(first(bundle.bind(scratch / "file", "/")).args("true"))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/0", "ENOTDIR")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("proc", (), ("/mounts/7/type", "cannot be the root")),
        ("mqueue", (), ("/mounts/7/type", "cannot be the root")),
        ("tmpfs", ("tmpcopyup",), ("/mounts/7/options/0", "over the root is not built")),
        ("tmpfs", ("ridmap=uids=0-0-1;gids=0-0-1",), ("/mounts/7/destination", "a mapping of ids")),
        ("none", ("bind", "dest-nofollow"), ("/mounts/7/options/1", "only below the root")),
        ("none", ("bind", "remount"), ("/mounts/7/destination", "must be below the root", "/root/path")),
    ],
)
def test_what_is_not_built_is_refused(
    ocirun: Runtime, bundle: Bundle, other: Path, kind: str, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    bundle.items("mounts").append(
        {"destination": "/", "type": kind, "source": str(other), "options": list(options)}
    )
    ocirun.run(bundle.args("true")).refused(*words)
