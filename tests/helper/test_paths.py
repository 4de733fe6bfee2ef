"""Paths of an image that tries to lead the helper astray: all that is made lies in the root."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb
from tests.helper import plans

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("links", "path", "made"),
    [
        ({}, "/a/b/c", "a/b/c"),
        ({}, "/a//b/./c/", "a/b/c"),
        ({"a": "etc"}, "/a/b", "etc/b"),
        ({"a": "/etc"}, "/a/b", "etc/b"),
        ({"a": "../../../../etc"}, "/a/b", "etc/b"),
        ({"a": "/not/there"}, "/a/b", "not/there/b"),
        ({"a": "not/there"}, "/a", "not/there"),
        ({"etc/a": "../here/x"}, "/etc/a/b", "here/x/b"),
        ({"etc/a": "../../../../here"}, "/etc/a/b", "here/b"),
        ({"a": "b", "b": "/c", "c": "d/e"}, "/a/f", "d/e/f"),
    ],
)
def test_directories_are_made_where_links_lead_in_the_root(
    place: Place, launch: Callable[..., Run], links: dict[str, str], path: str, made: str
) -> None:
    for name, target in links.items():
        (place.rootfs / name).symlink_to(target)
    launch(plans.small(place, "true", [verb.make_directory(path=path, mode=0o750, pointer="")])).until(
        wire.READY
    )
    there = place.rootfs / made
    assert there.is_dir()
    assert there.resolve() == there, "no link on the way"
    assert there.stat().st_mode & 0o7777 == 0o750
    assert all((place.rootfs / name).is_symlink() for name in links)


@pytest.mark.parametrize(
    ("links", "path", "number"),
    [
        ({"a": "a"}, "/a/b", errno.ELOOP),
        ({"a": "b/x", "b": "a/y"}, "/a", errno.ELOOP),
        ({"a": "/bin/busybox"}, "/a/b", errno.ENOTDIR),
        ({}, "/bin/busybox/b", errno.ENOTDIR),
        ({}, "/" + "n" * 256, errno.ENAMETOOLONG),
        ({}, "/none/../../up", 0),
    ],
)
def test_directories_that_cannot_be_made(
    place: Place, launch: Callable[..., Run], links: dict[str, str], path: str, number: int
) -> None:
    for name, target in links.items():
        (place.rootfs / name).symlink_to(target)
    run = launch(plans.small(place, "true", [verb.make_directory(path=path, mode=0o755, pointer="")]))
    report = run.until(wire.FAILED)
    assert number in (report.errno, 0)
    assert not (place.rootfs.parent / "up").exists()


def test_a_file_is_mounted_where_a_dangling_link_leads(place: Place, launch: Callable[..., Run]) -> None:
    (place.rootfs / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    source = place.state / "resolv"
    source.write_text("")
    opened = verb.open_tree(path=str(source), recursive=1, shared=0, nofollow=0, tree="file", pointer="")
    inside = [plans.attach("file", "/etc/resolv.conf")]
    run = launch(plans.small(place, "true", inside, [opened]))
    run.until(wire.READY)
    assert (place.rootfs / "run/resolv.conf").is_file()
    assert " /run/resolv.conf " in _mounts(run)


def _mounts(run: Run) -> str:
    with open(f"/proc/{run.pid}/mountinfo", encoding="utf-8") as file:
        return file.read()


def test_a_file_on_a_directory_and_the_other_way_are_refused(
    place: Place, launch: Callable[..., Run]
) -> None:
    for source, target, number in (
        ("bin/busybox", "/etc", errno.EISDIR),
        ("bin", "/etc/passwd", errno.ENOTDIR),
    ):
        opened = verb.open_tree(
            path=str(place.rootfs / source), recursive=1, shared=0, nofollow=0, tree="it", pointer=""
        )
        run = launch(plans.small(place, "true", [plans.attach("it", target)], [opened]))
        assert run.until(wire.FAILED).errno == number
        for name in ("gate", "proof"):
            (place.state / name).unlink()


@pytest.mark.parametrize("target", ["/elsewhere", "/tmp"])  # noqa: S108
def test_proc_is_not_mounted_through_a_link(place: Place, launch: Callable[..., Run], target: str) -> None:
    (place.rootfs / "tmp").mkdir()
    (place.rootfs / "proc").symlink_to(target)
    report = launch(plans.small(place, "true", [plans.mount("proc", "/proc", plain=True)])).until(wire.FAILED)
    assert (report.errno, report.path) == (errno.ELOOP, "/proc")


def test_a_console_that_is_a_link_is_refused(place: Place, launch: Callable[..., Run]) -> None:
    (place.rootfs / "dev/console").symlink_to("/etc/passwd")
    console = verb.make_console(columns=0, rows=0, bind=1, console="console", terminal="terminal", pointer="")
    run = launch(plans.small(place, "true", [plans.mount("devpts", "/dev/pts", "newinstance"), console]))
    assert run.until(wire.FAILED).errno == errno.ELOOP


def test_dev_that_is_a_link_is_refused_for_the_console(place: Place, launch: Callable[..., Run]) -> None:
    (place.rootfs / "dev").rmdir()
    (place.rootfs / "real").mkdir()
    (place.rootfs / "dev").symlink_to("real")
    console = verb.make_console(columns=0, rows=0, bind=1, console="console", terminal="terminal", pointer="")
    run = launch(plans.small(place, "true", [plans.mount("devpts", "/dev/pts", "newinstance"), console]))
    assert run.until(wire.FAILED).errno == errno.ELOOP


def test_what_is_not_devpts_gives_no_terminal(place: Place, launch: Callable[..., Run]) -> None:
    (place.rootfs / "dev/pts").mkdir()
    os.mkfifo(place.rootfs / "dev/pts/ptmx")
    console = verb.make_console(columns=0, rows=0, bind=1, console="console", terminal="terminal", pointer="")
    report = launch(plans.small(place, "true", [console])).until(wire.FAILED)
    assert (report.errno, report.operation) == (errno.ENODEV, "check of devpts")


@pytest.mark.parametrize("taken", ["directory", "file"])
def test_links_are_kept_replaced_or_refused(taken: str, place: Place, launch: Callable[..., Run]) -> None:
    dev = place.rootfs / "dev"
    (dev / "same").symlink_to("/target")
    kept = (dev / "same").lstat().st_ino
    (dev / "other").symlink_to("/elsewhere")
    links = [
        verb.make_symlink(target="/target", path=f"/dev/{n}", pointer="") for n in ("same", "other", "new")
    ]
    (dev / taken).mkdir() if taken == "directory" else (dev / taken).write_text("precious")
    refused = verb.make_symlink(target="/target", path=f"/dev/{taken}", pointer="")
    report = launch(plans.small(place, "true", [*links, refused])).until(wire.FAILED)
    assert (report.errno, report.path) == (errno.EEXIST, f"/dev/{taken}")
    assert all(os.readlink(dev / name) == "/target" for name in ("same", "other", "new"))
    assert (dev / "same").lstat().st_ino == kept


@pytest.mark.parametrize(
    ("passwd", "home"),
    [
        (None, "/"),
        ("user:x:1000:1000::/home/user:/bin/sh\n", "/home/user"),
        ("user:x:1000:1000::/home/user:/bin/sh", "/home/user"),
        ("user:x:1000:1000::/last", "/last"),
        (
            "a:x:01000x:0::/no:\nb:x::0::/no:\nc:x:10000:0::/no:\nd:x:1000:0::/yes:\ne:x:1000:0::/second:",
            "/yes",
        ),
        ("user:x:1000:1000:::/bin/sh", "/"),
        ("user:x:18446744073709552616:0::/wrapped:", "/"),
        ("short:x:1000\n", "/"),
        ("x" * 5000 + ":x:1000:0::/far:", "/far"),
    ],
)
def test_home_comes_from_passwd(
    place: Place, launch: Callable[..., Run], passwd: str | None, home: str
) -> None:
    assert _home(place, launch, passwd) == home


def _home(place: Place, launch: Callable[..., Run], passwd: str | None) -> str:
    from tests.helper.driver import pending, start

    file = place.rootfs / "etc/passwd"
    file.unlink()
    if passwd is not None:
        file.write_text(passwd)
    reader, writer = os.pipe()
    ended = plans.end(["sh", "-c", 'echo -n "$HOME"'], before=[verb.find_home(uid=1000, pointer="")])
    run = launch([*plans.stage(place), *plans.root(), *ended], (0, writer, writer))
    os.close(writer)
    run.until(wire.READY)
    start(place.state)
    home = pending(reader).decode()
    os.close(reader)
    return home


def test_a_fifo_for_passwd_does_not_hold_the_container_up(
    place: Place, launch: Callable[..., Run], tmp_path: Path
) -> None:
    (place.rootfs / "etc/passwd").unlink()
    os.mkfifo(place.rootfs / "etc/passwd")
    ended = plans.end(["sh"], before=[verb.find_home(uid=1000, pointer="")])
    launch([*plans.stage(place), *plans.root(), *ended]).until(wire.READY)


def test_a_tmpfs_takes_the_mode_of_the_directory_that_was_there(
    place: Place, launch: Callable[..., Run]
) -> None:
    for name, mode in (("there", 0o2751), ("told", 0o700)):
        (place.rootfs / name).mkdir()
        (place.rootfs / name).chmod(mode)
    inside = [
        plans.mount("tmpfs", "/there"),
        plans.mount("tmpfs", "/told", "mode=711"),
        plans.mount("tmpfs", "/new"),
    ]
    run = launch(plans.small(place, "true", inside))
    run.until(wire.READY)
    modes = [os.stat(f"/proc/{run.pid}/root/{name}").st_mode & 0o7777 for name in ("there", "told", "new")]
    assert modes == [0o2751, 0o711, 0o1777]
