"""Mount points that a restore makes: below the root, wherever the path or a link of the image leads."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

import pytest

from ocirun.errors import HostError
from ocirun.lifecycle.resolve import make_places, resolver

if TYPE_CHECKING:
    from pathlib import Path

    from ocirun_spec.types import Config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with three directories of ours above it."""
    made = tmp_path / "a/b/root"
    made.mkdir(parents=True)
    return made


def _make(root: Path, destination: str, **more: object) -> None:
    mount = {"destination": destination, "type": "tmpfs", "source": "tmpfs", **more}
    make_places(str(root), cast("Config", {"mounts": [mount]}), str(root.parent))


def _outside(root: Path) -> set[Path]:
    top = root.parents[1]
    return {path for path in top.rglob("*") if root not in (path, *path.parents)}


def test_the_way_back_ends_at_the_root(root: Path) -> None:
    before = _outside(root)
    _make(root, "/none/../../../escaped/dir")
    assert (root / "escaped/dir").is_dir()
    assert _outside(root) == before


@pytest.mark.parametrize("target", ["/real/deep", "../../../real/deep", "real/deep"])
def test_what_a_link_leads_to_is_made(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    before = _outside(root)
    _make(root, "/link")
    assert (root / "real/deep").is_dir()
    assert _outside(root) == before
    assert resolver(str(root))("/link") == "/real/deep"


def test_a_file_is_made_for_a_file(root: Path) -> None:
    (root.parent / "one").touch()
    (root / "link").symlink_to("/etc/../etc/./one")
    _make(root, "/link", source="one", options=["bind"])
    assert (root / "etc/one").is_file()


def test_what_is_there_stays(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data/file").write_text("mine")
    _make(root, "/data/file", source="file", options=["bind"])
    assert (root / "data/file").read_text() == "mine"


def test_a_root_behind_a_link(root: Path) -> None:
    link = root.with_name("link")
    link.symlink_to("root")
    _make(link, "/data")
    assert (root / "data").is_dir()
    assert resolver(str(link))("/data/.") == "/data"


def test_a_root_that_is_not_there_is_told(root: Path) -> None:
    with pytest.raises(HostError, match="open the root file system") as caught:
        _make(root / "none", "/data")
    assert (caught.value.errno, caught.value.pointer) == (errno.ENOENT, "/root/path")


def test_a_place_that_cannot_be_made_is_told(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(HostError, match="make the mount point /file/data") as caught:
        _make(root, "/file/data")
    assert (caught.value.errno, caught.value.pointer) == (errno.ENOTDIR, "/mounts/0/destination")


def test_links_in_a_circle_are_told(root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(HostError) as caught:
        _make(root, "/one/data")
    assert caught.value.errno == errno.ELOOP
