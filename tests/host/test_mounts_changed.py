"""Mounts that are added to a container that is there, and taken away (the commands are crun's)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import Interrupted
from ocirun.lifecycle.mounting import add_mounts
from ocirun.lifecycle.store import Store
from ocirun.waiting import drive
from tests.host import observe
from tests.host.execs import execute
from tests.host.faults import VICTIMS
from tests.host.test_exec_killed import ours, reap, thrower
from tests.host.users import as_user, of_user

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime

REPOSITORY = Path(__file__).parents[2]


def bind(source: Path | str, destination: str, *options: str, **members: Json) -> dict[str, Json]:
    return {"destination": destination, "source": str(source), "options": ["bind", *options], **members}


def tmpfs(destination: str, *options: str) -> dict[str, Json]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": [*options]}


def listed(container: Container, *mounts: Json) -> str:
    """The path of a file that lists them."""
    path = container.runtime.file("mounts")
    path.write_text(json.dumps([*mounts]))
    return str(path)


def add(container: Container, *mounts: Json) -> None:
    container.runtime.call("mounts", "add", container.id, listed(container, *mounts)).ok()


def points(container: Container) -> list[str]:
    """Where something is mounted, as often as it is."""
    return [mount.point for mount in observe.mounts(container.pid)]


@pytest.fixture
def source(scratch: Path) -> Path:
    """A directory of the host."""
    (scratch / "source").mkdir()
    (scratch / "source/file").write_text("of the host")
    return scratch / "source"


@pytest.fixture
def container(ocirun: Runtime, bundle: Bundle) -> Container:
    return ocirun.running(bundle.writable().directory("mnt").sleeping())


def test_mounts_are_added_in_their_order_and_taken_away(
    runtime: Runtime, bundle: Bundle, source: Path
) -> None:
    container = runtime.running(bundle.writable().sleeping())
    before = points(container)
    wanted = [tmpfs("/mnt/new", "nosuid"), bind(source, "/mnt/new/below", "ro")]
    add(container, *wanted)
    new, below = (
        observe.mount_at(container.pid, "/mnt/new"),
        observe.mount_at(container.pid, "/mnt/new/below"),
    )
    assert (new.kind, "nosuid" in new.options) == ("tmpfs", True)
    assert "ro" in below.options
    assert execute(container, "cat", "/mnt/new/below/file").ok().stdout == "of the host"
    path = listed(container, *reversed(wanted) if runtime.name == "crun" else wanted)
    runtime.call("mounts", "remove", container.id, path).ok()
    assert points(container) == before


def test_a_new_file_system_has_its_options(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.writable().sleeping())
    add(container, tmpfs("/mnt/new", "size=64k"))
    assert "size=64k" in observe.mount_at(container.pid, "/mnt/new").data


def test_a_waiting_container_starts_with_them(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    container = runtime.create(bundle.writable().args("cat", "/mnt/file"))
    add(container, bind(source, "/mnt"))
    container.start().wait()
    assert container.output == "of the host"


def test_a_paused_container_takes_them(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    container = runtime.running(bundle.writable().sleeping())
    runtime.call("pause", container.id).ok()
    add(container, bind(source, "/mnt"))
    runtime.call("resume", container.id).ok()
    assert execute(container, "cat", "/mnt/file").ok().stdout == "of the host"


def test_the_host_sees_nothing_of_it(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    container = runtime.running(bundle.writable().sleeping())
    before = [mount.point for mount in observe.mounts()]
    add(container, bind(source, "/mnt/one"), tmpfs("/mnt/two"))
    assert [mount.point for mount in observe.mounts()] == before


def test_a_destination_behind_a_link_stays_inside(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    (bundle.writable().directory("var").rootfs / "var/run").symlink_to("/run")
    (bundle.rootfs / "out").symlink_to(f"../../../../..{source}")
    container = runtime.running(bundle.sleeping())
    add(container, bind(source, "/var/run/secrets"), bind(source, "/out/in"))
    assert {"/run/secrets", f"{source}/in"} <= {*points(container)}
    assert not (source / "in").exists()
    path = listed(container, bind(source, "/run/secrets"))
    runtime.call("mounts", "remove", container.id, path).ok()
    assert "/run/secrets" not in points(container)


def test_a_container_with_users_of_its_own_takes_them(ocirun: Runtime, bundle: Bundle, source: Path) -> None:
    container = ocirun.running(bundle.mapped(100000, 65536).writable().directory("mnt/a", 0o777).sleeping())
    (bundle.rootfs / "mnt/b").mkdir()
    before = points(container)
    wanted = [bind(source, "/mnt/a", "nodev"), tmpfs("/mnt/b")]
    add(container, *wanted)
    assert execute(container, "cat", "/mnt/a/file").ok().stdout == "of the host"
    assert execute(container, "stat", "-c", "%u", "/mnt/b").ok().stdout == "0\n"
    assert observe.inside(container.pid, "/mnt/b").stat().st_uid == 100000
    ocirun.call("mounts", "remove", container.id, listed(container, *wanted)).ok()
    assert points(container) == before


def test_a_mapped_one_shows_other_owners(container: Container, source: Path) -> None:
    os.chown(source / "file", 1000, 1000)
    mapping: Json = [{"containerID": 1000, "hostID": 5000, "size": 1}]
    add(container, bind(source, "/mnt", "idmap", uidMappings=mapping, gidMappings=mapping))
    assert execute(container, "stat", "-c", "%u %g", "/mnt/file").ok().stdout == "5000 5000\n"


def test_a_relative_source_counts_from_the_bundle(container: Container, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").write_text("of the bundle")
    add(container, bind("data", "/mnt"))
    assert execute(container, "cat", "/mnt/file").ok().stdout == "of the bundle"


def test_standard_input_is_a_file_too(container: Container) -> None:
    process, result = container.runtime.popen("mounts", "add", container.id, "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps([tmpfs("/mnt")]).encode())
    assert process.wait(30) == 0, result.stderr
    assert observe.mount_at(container.pid, "/mnt").kind == "tmpfs"


# -- all or none


@pytest.mark.parametrize(
    ("last", "texts"),
    [
        (bind("/no/such/directory", "/mnt/c"), ("open_tree", "ENOENT", "#/2")),
        (tmpfs("/mnt/c", "no-such-option"), ("fsconfig", "EINVAL", "#/2")),
        (tmpfs("/bin/busybox/c"), ("ENOTDIR", "#/2")),
        (tmpfs("/trap"), ("EBUSY", "#/2")),
    ],
)
def test_what_fails_leaves_none(
    container: Container, bundle: Bundle, source: Path, last: Json, texts: tuple[str, ...]
) -> None:
    (bundle.rootfs / "trap").symlink_to("..")
    before = points(container)
    path = listed(container, bind(source, "/mnt/a"), tmpfs("/mnt/b"), last)
    result = container.runtime.call("mounts", "add", container.id, path)
    result.refused(*texts)
    assert "note:" not in result.stderr
    assert points(container) == before


def _add_with_fault(
    what: str, container: Container, index: int, path: str
) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tests.host.mounting_faults", what, str(container.runtime.root))
    return subprocess.run(
        [*command, container.id, str(index), path],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_before_any_step_nothing_of_it_stays(victim: str, container: Container, source: Path) -> None:
    """Where ocirun itself is killed it is for who called it to take the mounts away."""
    before = points(container)
    path = listed(container, bind(source, "/mnt/a"), tmpfs("/mnt/b"), bind(source, "/mnt/c"))
    count = int(_add_with_fault("count", container, 0, path).stdout)
    assert count >= 9
    for index in range(count):
        result = _add_with_fault(victim, container, index, path)
        assert result.returncode == (-9 if victim == "ocirun" else 1), f"record {index}: {result.stderr}"
        assert victim == "ocirun" or "the helper was killed" in result.stderr
        if victim == "ocirun":
            observe.eventually(lambda: _settled(container), f"killed before record {index}")
            container.runtime.call("mounts", "remove", container.id, path)
        assert points(container) == before, f"killed before record {index}"
    reap()  # what a killed ocirun had as children came to us


def _settled(container: Container) -> bool:
    """Whether no helper is in the mount namespace any more."""
    there = observe.namespace(container.pid, "mnt")
    for pid in Path("/proc").iterdir():
        if pid.name.isdigit() and int(pid.name) != container.pid:
            try:
                if os.readlink(pid / "ns/mnt") == there:
                    return False
            except OSError:
                continue
    return True


def test_thrown_at_any_wait_nothing_of_it_stays(container: Container, source: Path) -> None:
    before = points(container)
    wanted: list[object] = [bind(source, "/mnt/a"), tmpfs("/mnt/b")]
    at = 0
    while True:
        at += 1
        mine = ours()
        try:
            drive(add_mounts(Store(str(container.runtime.root)), container.id, wanted, "file"), thrower(at))
            break
        except Interrupted:
            pass
        assert ours() == mine, f"thrown at wait {at}"
        assert points(container) == before, f"thrown at wait {at}"
    assert at > 3
    assert points(container) == [*before, "/mnt/a", "/mnt/b"]


def test_what_is_not_mounted_is_told_and_the_others_go(container: Container) -> None:
    add(container, tmpfs("/mnt"), tmpfs("/srv"))
    path = listed(container, tmpfs("/mnt"), tmpfs("/bin"), tmpfs("/no/such"), tmpfs("/srv"))
    result = container.runtime.call("mounts", "remove", container.id, path)
    result.refused("#/2", "there is no such path", "#/1", "nothing is mounted there")
    assert not {"/mnt", "/srv"} & {*points(container)}


# -- what is refused


def test_every_fault_is_told_at_its_place(container: Container, source: Path) -> None:
    remount = bind(source, "/mnt", "remount")
    path = listed(container, bind(source, "/"), {"destination": 1}, tmpfs("/mnt", "loop"), remount)
    first = container.runtime.call("mounts", "add", container.id, path)
    first.refused("/1/destination: 1", "must be a string")
    path = listed(container, bind(source, "/"), tmpfs("/mnt", "loop"), remount)
    second = container.runtime.call("mounts", "add", container.id, path)
    second.refused(f"{path} /0/destination", "must be below the root", "/2/options/1", "taken back")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "must be a JSON array"),
        ("[", ":1:2 /: the document ends too early"),
        ("", ":1:1 /: "),
        (
            '[{"destination": "/mnt",\n"destination": "/srv"}]',
            ':2:1 /0/destination: "destination": stands twice',
        ),
    ],
)
def test_what_is_no_list_of_mounts_is_refused(container: Container, text: str, told: str) -> None:
    path = container.runtime.file("mounts")
    path.write_text(text)
    container.runtime.call("mounts", "add", container.id, str(path)).refused(told)


def test_a_destination_is_enough_to_take_a_mount_away(container: Container) -> None:
    add(container, tmpfs("/mnt"))
    path = listed(container, {"destination": "/mnt"})
    container.runtime.call("mounts", "remove", container.id, path).ok()
    assert "/mnt" not in points(container)
    path = listed(container, {"type": "tmpfs"}, "/mnt")
    container.runtime.call("mounts", "remove", container.id, path).refused("/0", "destination", "/1")


def test_a_mapped_one_takes_the_ids_of_the_container(ocirun: Runtime, bundle: Bundle, source: Path) -> None:
    container = ocirun.running(bundle.mapped(100000, 65536).writable().directory("mnt", 0o777).sleeping())
    add(container, bind(source, "/mnt", "idmap"))
    assert execute(container, "stat", "-c", "%u %g", "/mnt/file").ok().stdout == "0 0\n"


def test_a_readonly_one_is_so_from_the_beginning(container: Container) -> None:
    add(container, tmpfs("/mnt", "ro"))
    assert "ro" in observe.mount_at(container.pid, "/mnt").options


def test_a_container_that_is_not_there_or_has_stopped(ocirun: Runtime, bundle: Bundle) -> None:
    path = ocirun.file("mounts")
    path.write_text("[]")
    ocirun.call("mounts", "add", "nobody", str(path)).refused("does not exist")
    stopped = ocirun.running(bundle.sleeping())
    stopped.kill().ok()
    stopped.wait()
    ocirun.call("mounts", "add", stopped.id, str(path)).refused("cannot mount in a stopped container")
    ocirun.call("mounts", "move", stopped.id, str(path)).refused("neither add nor remove")


def test_an_ordinary_user_adds_no_mount_of_the_host(ocirun: Runtime, bundle: Bundle, source: Path) -> None:
    runtime = as_user(ocirun)
    container = runtime.running(of_user(bundle.writable().directory("mnt", 0o777)).sleeping())
    path = listed(container, bind(source, "/mnt"))
    runtime.call("mounts", "add", container.id, path).refused("#/0", "an ordinary user cannot", "run as root")
    add(container, tmpfs("/mnt"))
    assert observe.mount_at(container.pid, "/mnt").kind == "tmpfs"
