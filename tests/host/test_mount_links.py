"""Symbolic links at the ends of a bind mount: copied, bound, and mounted over (the options are crun's)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

TEXT = "../some/where"


@pytest.fixture
def link(scratch: Path) -> Path:
    """A link of the host, which leads to a file with a secret in it."""
    (scratch / "source").mkdir()
    (scratch / "secret").write_text("secret")
    place = scratch / "source/link"
    place.symlink_to("../secret")
    return place


def image_link(bundle: Bundle) -> Bundle:
    """A link in the image that leads to a file."""
    bundle.file("/mnt/file", "of the image")
    (bundle.rootfs / "mnt/place").symlink_to("file")
    return bundle


# -- copy-symlink


def test_a_link_is_copied(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "link").symlink_to(TEXT)
    bundle.writable().bind(scratch / "link", "/mnt/new/link", "copy-symlink")
    pid = runtime.running(bundle.sleeping()).pid
    assert os.readlink(observe.inside(pid, "/mnt/new/link")) == TEXT
    assert "/mnt/new/link" not in {mount.point for mount in observe.mounts(pid)}


def test_a_link_that_is_there_already_stays(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "link").symlink_to(TEXT)
    (bundle.directory("mnt").rootfs / "mnt/link").symlink_to(TEXT)
    pid = runtime.running(bundle.bind(scratch / "link", "/mnt/link", "copy-symlink").sleeping()).pid
    assert os.readlink(observe.inside(pid, "/mnt/link")) == TEXT


@pytest.mark.parametrize("there", ["link", "file", "directory"])
def test_what_is_there_is_not_replaced_by_a_link(
    runtime: Runtime, bundle: Bundle, scratch: Path, there: str
) -> None:
    (scratch / "link").symlink_to(TEXT)
    place = bundle.directory("mnt").rootfs / "mnt/link"
    if there == "link":
        place.symlink_to("other")
    elif there == "file":
        place.write_text("kept")
    else:
        place.mkdir()
    result = runtime.attempt(bundle.writable().bind(scratch / "link", "/mnt/link", "copy-symlink").sleeping())
    assert result.code == 1
    assert os.path.lexists(place)
    if runtime.name == "ocirun":
        result.refused("EEXIST", "/mounts/7/destination]", "copy-symlink replaces nothing")
        assert place.is_symlink() == (there == "link")


def test_a_link_is_copied_behind_a_link_of_the_image(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "link").symlink_to(TEXT)
    (bundle.directory("mnt/real").rootfs / "mnt/way").symlink_to("/mnt/real")
    bundle.writable().bind(scratch / "link", "/mnt/way/link", "copy-symlink")
    pid = runtime.running(bundle.sleeping()).pid
    assert os.readlink(observe.inside(pid, "/mnt/real/link")) == TEXT


@pytest.mark.parametrize("option", ["copy-symlink", "src-nofollow"])
def test_what_is_no_link_is_bound(runtime: Runtime, bundle: Bundle, scratch: Path, option: str) -> None:
    (scratch / "file").write_text("bound")
    bundle.file("/mnt/file", "").bind(scratch / "file", "/mnt/file", option, "ro")
    pid = runtime.running(bundle.sleeping()).pid
    assert observe.inside(pid, "/mnt/file").read_text() == "bound"
    assert "ro" in observe.mount_at(pid, "/mnt/file").options


# -- src-nofollow


def test_a_link_of_the_source_is_bound_itself(runtime: Runtime, bundle: Bundle, link: Path) -> None:
    image_link(bundle).bind(link, "/mnt/place", "src-nofollow", "dest-nofollow")
    pid = runtime.running(bundle.sleeping()).pid
    assert os.readlink(observe.inside(pid, "/mnt/place")) == "../secret"
    assert observe.mount_at(pid, "/mnt/place").root.endswith("/source/link")


@pytest.mark.parametrize("there", [False, True])
def test_a_link_of_the_source_is_not_followed(
    runtime: Runtime, bundle: Bundle, link: Path, *, there: bool
) -> None:
    """What it leads to on the host is not in the container."""
    if there:
        bundle.file("/mnt/place", "")
    bundle.writable().bind(link, "/mnt/place", "src-nofollow")
    pid = runtime.running(bundle.sleeping()).pid
    assert observe.mount_at(pid, "/mnt/place").root.endswith("/source/link")
    assert os.readlink(observe.inside(pid, "/mnt/place")) == "../secret"


def test_a_link_goes_over_a_link_only_when_told(ocirun: Runtime, bundle: Bundle, link: Path) -> None:
    """Bound where the link of the image leads to, it would be found by nobody who takes that way."""
    image_link(bundle).bind(link, "/mnt/place", "src-nofollow").sleeping()
    ocirun.attempt(bundle).refused("ESTALE", "/mounts/7/destination]", "dest-nofollow")


# -- dest-nofollow


def test_a_link_of_the_image_is_mounted_over(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "file").write_text("bound")
    image_link(bundle).bind(scratch / "file", "/mnt/place", "dest-nofollow")
    pid = runtime.running(bundle.sleeping()).pid
    assert observe.inside(pid, "/mnt/place").read_text() == "bound"
    assert observe.inside(pid, "/mnt/file").read_text() == "of the image"


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_not_followed_must_be_there(
    runtime: Runtime, bundle: Bundle, scratch: Path, kind: str
) -> None:
    source = bundle.path / "config.json" if kind == "file" else scratch
    result = runtime.attempt(bundle.writable().bind(source, "/mnt/missing", "dest-nofollow").sleeping())
    assert result.code == 1
    assert not (bundle.rootfs / "mnt/missing").exists()
    if runtime.name == "ocirun":
        result.refused("ENOENT", "/mounts/7/destination]", "dest-nofollow makes nothing")


def test_a_directory_does_not_go_over_a_link(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (bundle.directory("mnt/real").rootfs / "mnt/place").symlink_to("real")
    result = runtime.attempt(bundle.bind(scratch, "/mnt/place", "dest-nofollow").sleeping())
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("EINVAL", "/mounts/7/destination]", "a directory can only be bound on a directory")
