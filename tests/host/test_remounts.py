"""``remount``: what an earlier entry of the list mounted is changed, as mount(2) changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import observe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

FLAGS = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"}


def at_mnt(runtime: Runtime, bundle: Bundle) -> observe.Mount:
    """What is mounted on /mnt of the running bundle."""
    return observe.mount_at(runtime.running(bundle.sleeping()).pid, "/mnt")


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("nosuid,noatime", "ro", {"ro", "noatime"}),
        ("nosuid,noatime", "nosuid,relatime", {"nosuid"}),
        ("nodev,nodiratime", "strictatime", set[str]()),
        ("nodev,noatime", "nodev,nodiratime", {"nodev", "nodiratime"}),
    ],
)
@pytest.mark.parametrize("how", ["bind", "all"])
def test_a_mount_gets_other_attributes_and_loses_those_that_are_not_named(
    runtime: Runtime, bundle: Bundle, scratch: Path, how: str, first: str, then: str, expected: set[str]
) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", *first.split(","))
    words = ["remount", *then.split(",")] + (["bind"] if how == "bind" else [])
    mount = at_mnt(runtime, bundle.mount("/mnt", "tmpfs", str(scratch), *words))
    assert FLAGS & mount.options == expected


def test_a_file_system_gets_other_options(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "size=1024k", "nr_inodes=20")
    mount = at_mnt(runtime, bundle.mount("/mnt", "tmpfs", "tmpfs", "remount", "size=2048k", "sync"))
    assert {"size=2048k", "nr_inodes=20", "sync"} <= mount.data


def test_a_file_system_loses_a_flag_that_is_taken_back(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "sync", "lazytime")
    mount = at_mnt(runtime, bundle.mount("/mnt", "tmpfs", "tmpfs", "remount", "async", "nolazytime"))
    assert not {"sync", "lazytime"} & mount.data


def test_a_tmpfs_is_filled_before_a_remount_closes_it(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs").mount("/mnt", "tmpfs", "tmpfs", "remount", "ro")
    container = runtime.running(bundle.mount("/mnt/made", "tmpfs", "below").sleeping())
    assert "ro" in observe.mount_at(container.pid, "/mnt").options
    assert observe.mount_at(container.pid, "/mnt/made").source == "below"


@pytest.mark.parametrize("how", ["bind", "all"])
def test_a_remount_opens_a_tmpfs_again(runtime: Runtime, bundle: Bundle, scratch: Path, how: str) -> None:
    bundle.directory("mnt", 0o711).mount("/mnt", "tmpfs", "tmpfs", "ro", "noexec")
    words = ["remount", "rw"] + (["bind"] if how == "bind" else [])
    container = runtime.running(bundle.mount("/mnt", "tmpfs", str(scratch), *words).sleeping())
    assert FLAGS & observe.mount_at(container.pid, "/mnt").options == set()
    assert observe.inside(container.pid, "/mnt").stat().st_mode & 0o7777 == 0o711


def test_a_file_that_was_bound_gets_other_attributes(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "note").write_text("text")
    bundle.file("mnt", "").bind(scratch / "note", "/mnt").bind(scratch / "note", "/mnt", "remount", "ro")
    assert "ro" in at_mnt(runtime, bundle).options


def test_a_remount_needs_no_type_and_no_source(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs")
    bundle.items("mounts").append({"destination": "/mnt", "options": ["remount", "noexec"]})
    assert "noexec" in at_mnt(ocirun, bundle).options


def test_recursive_words_reach_what_is_mounted_below(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs").mount("/mnt/below", "tmpfs", "tmpfs")
    bundle.mount("/mnt", "none", "none", "rbind", "remount", "rnoexec", "rshared")
    container = ocirun.running(bundle.sleeping())
    for point in ("/mnt", "/mnt/below"):
        mount = observe.mount_at(container.pid, point)
        assert (FLAGS & mount.options, mount.shared) == ({"noexec"}, True)


@pytest.mark.parametrize("words", [["remount", "ro"], ["bind", "remount", "ro"]])
def test_what_is_not_mounted_cannot_be_changed(runtime: Runtime, bundle: Bundle, words: list[str]) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "/etc", *words)
    result = runtime.run(bundle.args("true"))
    assert result.code == 1
    if runtime.name == "ocirun":
        result.refused("/mounts/7", "EINVAL", "nothing is mounted there")


def test_an_option_that_the_file_system_refuses(runtime: Runtime, bundle: Bundle) -> None:
    bundle.directory("mnt").mount("/mnt", "tmpfs", "tmpfs").mount("/mnt", "tmpfs", "t", "remount", "nonsense")
    assert runtime.run(bundle.args("true")).code == 1


def test_in_a_user_namespace_as_well(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mapped(100000, 65536).directory("mnt").mount("/mnt", "tmpfs", "tmpfs", "size=1024k", "nosuid")
    mount = at_mnt(runtime, bundle.mount("/mnt", "tmpfs", "tmpfs", "remount", "size=2048k", "noexec"))
    assert "size=2048k" in mount.data
    assert FLAGS & mount.options == {"noexec"}
