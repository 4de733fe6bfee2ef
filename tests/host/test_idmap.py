"""Mounts whose files have other owners than on their file system, as stat shows them on both sides."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.host import kernel, observe
from tests.host.bundles import DEFAULT_NAMESPACES
from tests.host.users import as_user, of_user, one_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

#: The ids of the host for those of the container, where it has a user namespace.
FIRST, SIZE = 100000, 65536
STAT = "stat -c %u:%g "
OWNERS = STAT + "/mnt/file /mnt/below/file"


@pytest.fixture
def tree(scratch: Path) -> Iterator[Path]:
    """A tmpfs with another one below, both with a file of 5:6 and open to all."""
    tree = scratch / "tree"
    for place in (tree, tree / "below"):
        place.mkdir()
        kernel.mount("tmpfs", place, "tmpfs", data="mode=777")
        (place / "file").write_text("")
        os.chown(place / "file", 5, 6)
    yield tree
    kernel.umount(tree, kernel.MNT_DETACH)


def mapping(bundle: Bundle, uids: list[Json], gids: list[Json] | None = None, number: int = -1) -> Bundle:
    """Gives the last mount these mappings."""
    entry = cast("dict[str, Json]", bundle.items("mounts")[number])
    entry["uidMappings"], entry["gidMappings"] = uids, uids if gids is None else gids
    return bundle


def owners(runtime: Runtime, bundle: Bundle, script: str = OWNERS) -> list[str]:
    """What the script prints in the container: owners and groups."""
    result = runtime.run(bundle.sh(script))
    assert result.code == 0, result.stderr
    return result.stdout.split()


def mapped_points(pid: int) -> set[str]:
    """Where mountinfo of the process shows a mapping."""
    return {mount.point for mount in observe.mounts(pid) if "idmapped" in mount.options}


# -- without a user namespace


@pytest.mark.parametrize("word", ["idmap", ""])
def test_a_mount_is_mapped_alone(runtime: Runtime, bundle: Bundle, tree: Path, word: str) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "rbind", *([word] if word else []))
    mapping(bundle, [one_id(0, 1000, 10)], [one_id(0, 2000, 10)])
    assert owners(runtime, bundle) == ["1005:2006", "5:6"]
    assert mapped_points(runtime.running(bundle.sleeping()).pid) == {"/mnt"}
    found = (tree / "file").stat()
    assert (found.st_uid, found.st_gid) == (5, 6)


def test_with_ridmap_all_below_is_mapped(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "rbind", "ridmap")
    mapping(bundle, [one_id(0, 1000, 10)])
    assert owners(runtime, bundle) == ["1005:1006", "1005:1006"]
    assert mapped_points(runtime.running(bundle.sleeping()).pid) == {"/mnt", "/mnt/below"}


def test_several_ranges_are_several(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "idmap")
    mapping(bundle, [one_id(0, 700, 5), one_id(5, 800)], [one_id(6, 900, 3)])
    assert owners(runtime, bundle, STAT + "/mnt/file") == ["800:900"]


def test_a_file_of_who_has_no_mapping_is_nobodys(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "idmap")
    mapping(bundle, [one_id(0, 1000, 5)])
    assert owners(runtime, bundle, STAT + "/mnt/file") == ["65534:65534"]


def test_what_a_mapped_user_makes_is_his_on_the_file_system(
    runtime: Runtime, bundle: Bundle, tree: Path
) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "idmap").user(1003, 1004)
    mapping(bundle, [one_id(0, 1000, 10)])
    assert owners(runtime, bundle, f"echo >/mnt/new; {STAT} /mnt/new") == ["1003:1004"]
    found = (tree / "new").stat()
    assert (found.st_uid, found.st_gid) == (3, 4)


def test_who_has_no_mapping_makes_nothing(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    """EOVERFLOW: root of the container is no owner that the file system could store."""
    bundle.directory("mnt").bind(tree, "/mnt", "idmap")
    mapping(bundle, [one_id(0, 1000, 10)])
    result = runtime.run(bundle.sh("echo >/mnt/new"))
    assert result.code == 1
    assert "Value too large" in result.stderr
    assert not (tree / "new").exists()


def test_a_source_of_the_bundle_is_mapped(runtime: Runtime, bundle: Bundle) -> None:
    """On the file system of the machine, and with attributes."""
    (bundle.path / "data").mkdir()
    os.chown(bundle.path / "data", 5, 6)
    bundle.directory("mnt").bind("data", "/mnt", "idmap", "ro", "nosuid")
    mapping(bundle, [one_id(0, 1000, 10)])
    pid = runtime.running(bundle.sleeping()).pid
    found = observe.inside(pid, "/mnt").stat()
    assert (found.st_uid, found.st_gid) == (1005, 1006)
    assert {"ro", "nosuid", "idmapped"} <= observe.mount_at(pid, "/mnt").options


def test_two_mounts_have_each_their_own(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    for number, first in ((1, 1000), (2, 2000), (3, 1000)):
        bundle.directory(f"mnt/{number}").bind(tree, f"/mnt/{number}", "idmap")
        mapping(bundle, [one_id(0, first, 10)])
    script = STAT + " ".join(f"/mnt/{number}/file" for number in (1, 2, 3))
    assert owners(runtime, bundle, script) == ["1005:1006", "2005:2006", "1005:1006"]


def test_without_any_mapping_it_is_an_error(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    result = runtime.attempt(bundle.directory("mnt").bind(tree, "/mnt", "idmap").sleeping())
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/7/options/1", "needs id mappings", "uidMappings and gidMappings")


# -- with a user namespace


@pytest.mark.parametrize(("word", "below"), [("idmap", "65534:65534"), ("ridmap", "5:6")])
def test_the_mapping_is_that_of_the_container(
    runtime: Runtime, bundle: Bundle, tree: Path, word: str, below: str
) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "rbind", word).mapped(FIRST, SIZE)
    assert owners(runtime, bundle, f"{OWNERS}; echo >/mnt/new") == ["5:6", below]
    found = (tree / "new").stat()
    assert (found.st_uid, found.st_gid) == (0, 0), "as if there were no user namespace"


def test_its_own_mapping_counts_from_the_host(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "rbind", "idmap").mapped(FIRST, SIZE)
    mapping(bundle, [one_id(0, FIRST + 7, 10)], [one_id(0, FIRST, 10)])
    assert owners(runtime, bundle, STAT + "/mnt/file") == ["12:6"]


def test_the_mapping_is_that_of_the_namespace_that_is_joined(
    runtime: Runtime, bundle: Bundle, tree: Path
) -> None:
    holder = runtime.running(bundle.mapped(FIRST, SIZE).sleeping())
    bundle.namespaces(*DEFAULT_NAMESPACES)
    bundle.items("linux", "namespaces").append({"type": "user", "path": f"/proc/{holder.pid}/ns/user"})
    bundle.drop("linux", "uidMappings").drop("linux", "gidMappings")
    bundle.directory("mnt").bind(tree, "/mnt", "rbind", "ridmap")
    assert owners(runtime, bundle) == ["5:6", "5:6"]


def test_a_namespace_of_the_host_maps_nothing(ocirun: Runtime, bundle: Bundle, tree: Path) -> None:
    bundle.items("linux", "namespaces").append({"type": "user", "path": "/proc/self/ns/user"})
    bundle.directory("mnt").bind(tree, "/mnt", "idmap").sleeping()
    ocirun.attempt(bundle).refused("EPERM", "/mounts/7]", "the host's own, which maps nothing")


# -- other file systems


@pytest.mark.parametrize("users", [False, True])
def test_a_new_file_system_is_mapped(runtime: Runtime, bundle: Bundle, *, users: bool) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "idmap", "nosuid").user(7, 8)
    first = FIRST if users else 0
    mapping(bundle, [one_id(0, first, 10)] if users else [one_id(0, 7, 3)])
    if users:
        bundle.mapped(FIRST, SIZE)
    pid = runtime.running(bundle.sleeping()).pid
    found = observe.inside(pid, "/mnt").stat()
    assert (found.st_uid, found.st_gid) == ((FIRST, FIRST) if users else (7, 7))
    assert {"nosuid", "idmapped"} <= observe.mount_at(pid, "/mnt").options


def test_a_new_file_system_that_is_mapped_has_its_options(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "idmap", "size=64k", "mode=0710", "ro", "private")
    mapping(bundle, [one_id(0, 1000)])
    pid = runtime.running(bundle.sleeping()).pid
    mount = observe.mount_at(pid, "/mnt")
    assert {"ro", "idmapped"} <= mount.options
    assert {"size=64k", "mode=710"} <= mount.data
    assert observe.inside(pid, "/mnt").stat().st_mode & 0o777 == 0o710


@pytest.mark.parametrize("kind", ["proc", "sysfs", "mqueue", "devpts", "cgroup"])
def test_a_file_system_of_the_kernel_has_no_owners(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.directory("mnt").mount("/mnt", kind, kind, "idmap")
    result = runtime.attempt(mapping(bundle, [one_id(0, 1000)]).sleeping())
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/7/type", "has no owners to map", "leave the mappings out")


# -- what the kernel refuses


def test_what_cannot_be_mapped_is_named(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """An overlay: its layers can be mapped, it cannot."""
    for name in ("lower", "upper", "work", "merged"):
        (scratch / "layers" / name).mkdir(parents=True)
    layers = scratch / "layers"
    data = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    kernel.mount("overlay", layers / "merged", "overlay", data=data)
    try:
        bundle.directory("mnt").bind(layers / "merged", "/mnt", "idmap")
        result = runtime.attempt(mapping(bundle, [one_id(0, 1000)]).sleeping())
        assert result.code == 1
        named = f"{layers}/merged is overlay, whose ids this kernel cannot map"
        if runtime.name == "ocirun":
            result.refused("EINVAL", "/mounts/7]", f"map the ids of {layers}/merged", named)
        bundle.items("mounts").pop()
        bundle.bind(layers, "/mnt", "rbind", "ridmap")
        result = runtime.attempt(mapping(bundle, [one_id(0, 1000)]).sleeping())
        assert result.code == 1
        if runtime.name == "ocirun":
            result.refused("EINVAL", "/mounts/7]", named)
    finally:
        kernel.umount(layers / "merged")


def test_what_is_mapped_is_not_mapped_again(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    holder = runtime.running(bundle.mapped(FIRST, SIZE).sleeping())
    kernel.mount_mapped(tree / "below", tree / "below", Path(f"/proc/{holder.pid}/ns/user"))
    bundle.directory("mnt").bind(tree, "/mnt", "rbind", "ridmap")
    result = runtime.attempt(mapping(bundle, [one_id(0, 2000, 10)]).sleeping())
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("EPERM", "/mounts/7]", f"map the ids of {tree}", f"{tree}/below is mapped already")


def test_an_ordinary_user_maps_nothing(ocirun: Runtime, bundle: Bundle, tree: Path) -> None:
    of_user(bundle).directory("mnt").bind(tree, "/mnt", "idmap").sleeping()
    as_user(ocirun).attempt(bundle).refused("by root of the host alone", "/mounts/", "run as root")


def test_the_root_of_a_user_namespace_maps_nothing_of_the_host(
    ocirun: Runtime, bundle: Bundle, tree: Path
) -> None:
    ocirun.prefix = (sys.executable, "-m", "tests.host.mapped", "0", "65536")
    bundle.drop("linux", "resources").directory("mnt").bind(tree, "/mnt", "idmap")
    result = ocirun.attempt(mapping(bundle, [one_id(0, 1000, 10)]).sleeping())
    result.refused("by root of the host alone", "/mounts/7", "leave the mapping out")


# -- crun's option


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("idmap=uids=0-100007-10;gids=0-100000-10", "12:6"),
        ("idmap=gids=6-100001-1;uids=1-100020-2#5-100030-1", "30:1"),
        ("idmap=uids=@0-7-10;gids=@6-8-1", "12:8"),
        ("ridmap=uids=@0-7-10;gids=0-100000-10", "12:6"),
    ],
)
def test_an_option_brings_its_mapping(
    runtime: Runtime, bundle: Bundle, tree: Path, word: str, expected: str
) -> None:
    bundle.directory("mnt").bind(tree, "/mnt", "rbind").mapped(FIRST, SIZE)
    cast("dict[str, list[Json]]", bundle.items("mounts")[-1])["options"].append(word)
    assert owners(runtime, bundle, STAT + "/mnt/file") == [expected]
