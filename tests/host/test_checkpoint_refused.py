"""Checkpoints and restores that cannot be, told before anything was made; and a criu that fails, which a
script stands in for, so that these run on every host."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from ocirun.criu.requests import Restore
from ocirun.errors import HostError
from ocirun.lifecycle.create import CreateOptions
from ocirun.lifecycle.restore import restore
from ocirun.lifecycle.store import Store
from ocirun.waiting import drive
from tests.host import checkpoints, execs, observe, users
from tests.host.hanging import hanging
from tests.host.runtimes import new_id
from tests.host.test_error_codes import code

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


@pytest.fixture
def taken(images: Path) -> Path:
    """A directory that looks like a checkpoint, with its directory for the log."""
    images.with_name("images.work").mkdir()
    return checkpoints.looking_like_one(images)


def test_only_who_runs_has_a_checkpoint(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    container = ocirun.create(bundle.sleeping())
    checkpoints.take(container, images).refused("cannot checkpoint a container in the created state")
    container.start()
    container.kill("KILL").ok()
    container.wait()
    checkpoints.take(container, images).refused("cannot checkpoint a container in the stopped state")
    ocirun.call("checkpoint", new_id()).refused("does not exist")
    assert not images.exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--lazy-pages",), "--lazy-pages is not built"),
        (("--status-fd", "3"), "--status-fd is not built"),
        (("--manage-cgroups-mode", "hard"), "--manage-cgroups-mode"),
        (("--empty-ns", "pid"), "--empty-ns"),
        (("--page-server", "here"), "--page-server 'here' is not ADDRESS:PORT"),
        (("--page-server", "here:99999"), "is not ADDRESS:PORT"),
        (("--network-lock", "skip"), "--network-lock"),
    ],
)
def test_flags_that_cannot_be_obeyed(ocirun: Runtime, flags: tuple[str, ...], told: str) -> None:
    ocirun.call("checkpoint", *flags, new_id()).refused(told)


@pytest.mark.parametrize("parent", ["/absolute", "../missing", "file"])
def test_a_parent_must_be_a_directory_beside_the_images(
    ocirun: Runtime, bundle: Bundle, images: Path, parent: str
) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    images.mkdir()
    (images / "file").touch()
    container = ocirun.running(bundle.sleeping())
    done = checkpoints.take(container, images, "--parent-path", parent)
    done.refused("--parent-path")
    assert [one.name for one in images.iterdir()] == ["file"]
    assert observe.alive(container.pid)


def test_a_criu_that_fails_leaves_the_container_as_it_was(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    log = images.with_name("images.work") / "dump.log"
    container = ocirun.running(bundle.sleeping())
    freezer = execs.cgroup_file(container, "cgroup.freeze")
    # what it was doing when it failed
    begun = f"echo 1 > {freezer}; touch {images}/half.img"
    checkpoints.stand_in(ocirun, f"{begun}; {checkpoints.FAILING.format(log=log)}")
    done = checkpoints.take(container, images)
    done.refused("criu cannot checkpoint the container: the dog ate it", str(log))
    assert checkpoints.state(container)["status"] == "running"
    assert freezer.read_text() == "0\n"
    assert [*images.iterdir()] == []
    container.kill("KILL").ok()
    container.wait()


def test_a_checkpoint_that_is_not_there(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    bundle.sleeping().write()
    checkpoints.attempt(ocirun, bundle, images, new_id()).refused(f"open the directory {images}")
    images.mkdir()
    done = checkpoints.attempt(ocirun, bundle, images, new_id())
    done.refused(f"no checkpoint in {images}", "--image-path is the directory")
    words = ("restore", "--image-path", str(images), "--bundle", str(bundle.path), new_id())
    assert code(ocirun, *words) == "criu"
    (images / "descriptors.json").write_text("[")
    checkpoints.attempt(ocirun, bundle, images, new_id()).refused("it is damaged")
    (images / "descriptors.json").unlink()
    os.mkfifo(images / "descriptors.json")  # an archive may hold one: nobody waits for who writes to it
    checkpoints.attempt(ocirun, bundle, images, new_id()).refused("descriptors.json: invalid argument")


def test_a_restore_that_fails_leaves_nothing(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    log = taken.with_name("images.work") / "restore.log"
    checkpoints.stand_in(ocirun, checkpoints.FAILING.format(log=log))
    ident = new_id()
    done = checkpoints.attempt(ocirun, bundle.sleeping().write(), taken, ident)
    done.refused("criu cannot restore the container: the dog ate it", str(log))
    ocirun.call("state", ident).refused("does not exist")


def test_a_restore_that_is_interrupted_leaves_nothing(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    """The stand-in has waited for its request, as criu does, and then put a process beside itself."""
    told = ocirun.scratch / "told"
    script = f"head -c 1 <&3; sleep 1000 & echo $! $$ > {told}.new; mv {told}.new {told}; wait"
    checkpoints.stand_in(ocirun, script)
    ident = new_id()
    words = ("--image-path", str(taken), "--bundle", str(bundle.sleeping().write().path))
    process, done = ocirun.popen("restore", *words, ident)
    observe.eventually(told.exists, "it has begun")
    members = [int(word) for word in told.read_text().split()]
    process.send_signal(signal.SIGTERM)
    assert process.wait(checkpoints.SECONDS) == 128 + signal.SIGTERM, done.stderr
    observe.eventually(lambda: not any(observe.alive(pid) for pid in members), "both have ended")
    ocirun.call("state", ident).refused("does not exist")


@pytest.mark.parametrize("killed", [False, True])
def test_a_restore_that_waits_for_a_server_is_removed_by_force(
    ocirun: Runtime, bundle: Bundle, taken: Path, scratch: Path, killed: bool
) -> None:
    """The child that is to become criu waits, also where the command is killed and nobody waits for it."""
    checkpoints.stand_in(ocirun, "exit 1")
    ident = new_id()
    with hanging(scratch / "hanging") as mount:
        bundle.sleeping().bind(mount.point / "inside", "/etc").write()
        process, done = ocirun.popen(
            "restore", "--image-path", str(taken), "--bundle", str(bundle.path), ident
        )
        assert mount.asks(observe.PATIENCE)
        (child,) = observe.descendants(process.pid)
        if killed:
            process.kill()
            process.wait()
        ocirun.call("delete", "--force", ident).ok()
        observe.eventually(lambda: not observe.alive(child), "the child has ended")
        assert process.wait(checkpoints.SECONDS) == (-signal.SIGKILL if killed else 1), done.stderr
    ocirun.call("state", ident).refused("does not exist")


def test_an_id_that_is_taken(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    container = ocirun.running(bundle.sleeping())
    checkpoints.attempt(ocirun, bundle, taken, container.id).refused("container with given ID already exists")
    assert observe.alive(container.pid)


def test_a_config_that_is_wrong_or_has_network_devices(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    bundle.put("x", "process", "user", "uid").write()
    checkpoints.attempt(ocirun, bundle, taken, new_id()).refused("config.json:", "/process/user/uid")
    bundle.user(0, 0).put({"eth9": {}}, "linux", "netDevices").write()
    checkpoints.attempt(ocirun, bundle, taken, new_id()).refused("/linux/netDevices", "cannot be restored")


def test_a_terminal_wants_somebody_to_hold_it(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    bundle.put(True, "process", "terminal").write()
    done = checkpoints.attempt(ocirun, bundle, taken, new_id(), "--detach")
    done.refused("cannot allocate tty if ocirun will detach without setting console socket")


def test_an_ordinary_user_is_told_that_only_root_can(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    users.as_user(ocirun)
    bundle.sleeping().write()
    ocirun.call("checkpoint", new_id()).refused("only root can checkpoint a container")
    done = ocirun.call("restore", "--image-path", str(taken), "--bundle", str(bundle.path), new_id())
    done.refused("only root can restore a container")


#: What a criu that has succeeded says: its answer to a request of DUMP, with success.
_DONE = "head -c 1 <&3 >/dev/null; printf '\\010\\001\\020\\001' >&3"


def _earlier(images: Path) -> dict[str, str]:
    """Puts an earlier checkpoint there, and gives what it is."""
    images.mkdir()
    found = {"inventory.img": "whole", "pages-1.img": "old", "descriptors.json": "[]", "notes": "mine"}
    for name, text in found.items():
        (images / name).write_text(text)
    (images / "parent").symlink_to("../before")
    return found


def _texts(images: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in images.iterdir() if not path.is_symlink()}


def test_an_earlier_checkpoint_outlives_one_that_fails(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    found = _earlier(images)
    log = images.with_name("images.work") / "dump.log"
    half = f"for one in inventory pages-1 pages-2; do echo half > {images}/$one.img; done"
    checkpoints.stand_in(ocirun, f"{half}; {checkpoints.FAILING.format(log=log)}")
    checkpoints.take(ocirun.running(bundle.sleeping()), images).refused("the dog ate it")
    assert _texts(images) == found
    assert (images / "parent").readlink().name == "before"


def test_a_checkpoint_takes_the_place_of_an_earlier_one(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    _earlier(images)
    checkpoints.stand_in(ocirun, f"{_DONE}; echo new > {images}/inventory.img; cat <&3")
    checkpoints.take(ocirun.running(bundle.sleeping()), images, "--leave-running").ok()
    told = _texts(images)
    assert {name: told[name].strip() for name in ("inventory.img", "notes")} == {
        "inventory.img": "new",
        "notes": "mine",
    }
    assert "/dev/null" in told["descriptors.json"] or "file[" in told["descriptors.json"]
    assert sorted(path.name for path in images.iterdir()) == ["descriptors.json", "inventory.img", "notes"]


def test_what_a_killed_checkpoint_has_set_aside_is_not_lost(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    found = _earlier(images)
    told = ocirun.scratch / "told"
    checkpoints.stand_in(ocirun, f"head -c 1 <&3; echo half > {images}/inventory.img; touch {told}; cat <&3")
    container = ocirun.running(bundle.sleeping())
    where = ("--image-path", str(images), "--work-path", f"{images}.work")
    process, _ = ocirun.popen("checkpoint", *where, container.id)
    observe.eventually(told.exists, "it has begun")
    process.kill()
    process.wait()
    assert (images / "inventory.img").read_text() == "half\n"
    checkpoints.stand_in(ocirun, checkpoints.FAILING.format(log=images.with_name("images.work") / "dump.log"))
    checkpoints.take(container, images).refused("the dog ate it")
    assert _texts(images) == found


def test_images_that_cannot_be_set_aside(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    found = _earlier(images)
    (images / ".earlier").write_text("of somebody else")
    checkpoints.stand_in(ocirun, "exit 1")
    checkpoints.take(ocirun.running(bundle.sleeping()), images).refused(
        f"write to {images}: not a directory (ENOTDIR)"
    )
    assert _texts(images) == {**found, ".earlier": "of somebody else"}


def test_a_socket_for_notifications_is_not_in_a_checkpoint(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    container = ocirun.create(bundle.directory("run").sleeping())
    container.delete("--force").ok()
    ocirun.environment["NOTIFY_SOCKET"] = str(ocirun.scratch / "manager")
    container = ocirun.create(bundle)
    del ocirun.environment["NOTIFY_SOCKET"]
    container.start()
    checkpoints.take(container, images).refused("was given NOTIFY_SOCKET", "/run/notify is the host's")
    assert not images.exists()


def test_a_restore_says_that_it_passes_no_notifications_on(
    ocirun: Runtime, bundle: Bundle, taken: Path
) -> None:
    log = taken.with_name("images.work") / "restore.log"
    checkpoints.stand_in(ocirun, checkpoints.FAILING.format(log=log))
    ocirun.environment["NOTIFY_SOCKET"] = str(ocirun.scratch / "manager")
    done = checkpoints.attempt(ocirun, bundle.sleeping().write(), taken, new_id())
    done.refused("NOTIFY_SOCKET is not passed on", "the dog ate it")


def test_a_root_behind_a_link(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    log = taken.with_name("images.work") / "restore.log"
    checkpoints.stand_in(ocirun, checkpoints.FAILING.format(log=log))
    bundle.rootfs.with_name("link").symlink_to(bundle.rootfs.name)
    bundle.sleeping().put("link", "root", "path").write()
    checkpoints.attempt(ocirun, bundle, taken, new_id()).refused("the dog ate it")


def test_a_criu_that_has_ended_is_not_a_damaged_state(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    """It tells of an init that is not there."""
    notify = "printf '\\010\\006\\052\\011\\012\\001x\\020\\377\\377\\377\\377\\007' >&3"
    checkpoints.stand_in(ocirun, f"head -c 1 <&3 >/dev/null; {notify}; cat <&3")
    done = checkpoints.attempt(ocirun, bundle.sleeping().write(), taken, new_id())
    done.refused("look at process 2147483647, the restored init: no such process (ESRCH)")


def test_what_belongs_to_a_cgroup_that_criu_does_not_make(
    ocirun: Runtime, bundle: Bundle, taken: Path
) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    annotation = "run.oci.delegate-cgroup"
    bundle.sleeping().put({annotation: "payload"}, "annotations").write()
    checkpoints.attempt(ocirun, bundle, taken, new_id()).refused(
        f"/annotations/{annotation}", "cannot be restored"
    )


def test_what_could_not_be_restored_is_not_checkpointed(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    checkpoints.stand_in(ocirun, "exit 1")
    annotation = "run.oci.delegate-cgroup"
    container = ocirun.running(bundle.sleeping().put({annotation: "payload"}, "annotations"))
    checkpoints.take(container, images).refused(f"/annotations/{annotation}", "could not be restored")
    assert not images.exists()
    assert observe.alive(container.pid)


@pytest.mark.parametrize("packet", ["\\377\\377", "\\010\\006\\052\\002\\012\\020"])
def test_a_criu_that_speaks_something_else(
    ocirun: Runtime, bundle: Bundle, images: Path, taken: Path, packet: str
) -> None:
    """No message at all, and one whose notification is none."""
    checkpoints.stand_in(ocirun, f"head -c 1 <&3 >/dev/null; printf '{packet}' >&3; cat <&3")
    done = checkpoints.attempt(ocirun, bundle.sleeping().write(), taken, new_id())
    done.refused("criu does not speak its RPC")
    checkpoints.take(ocirun.running(bundle), images).refused("criu does not speak its RPC")


def test_without_a_cgroup_nothing_is_restored(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    begun = ocirun.scratch / "begun"
    checkpoints.stand_in(ocirun, f"touch {begun}; exit 1")
    ocirun.flags = ("--cgroup-manager", "disabled")
    ident = new_id()
    done = checkpoints.attempt(ocirun, bundle.sleeping().write(), taken, ident)
    done.refused("a container without a cgroup cannot be restored", "--cgroup-manager")
    assert not begun.exists()
    ocirun.call("state", ident).refused("does not exist")


#: A criu that hands over the master of a terminal and then fails.
_HANDING = """exec python3 -c '
import os, socket
control = socket.socket(fileno=3)
control.recv(65536)
packet = bytes((8, 6, 42, 19, 10, 17)) + b"orphan-pts-master"
socket.send_fds(control, [packet], [os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)])
control.recv(65536)
control.send(bytes((8, 2, 16, 0)))
'"""


def test_a_failed_restore_lets_go_of_the_terminal(
    ocirun: Runtime, bundle: Bundle, taken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.stand_in(ocirun, _HANDING)
    monkeypatch.setenv("PATH", ocirun.environment["PATH"])
    bundle.sleeping().put(True, "process", "terminal").write()
    options = CreateOptions(str(bundle.path), foreground=True)
    wanted = Restore(str(taken), f"{taken}.work")
    before = _open_files()
    with pytest.raises(HostError, match="criu cannot restore the container"):
        drive(restore(Store(str(ocirun.root)), new_id(), options, wanted))
    assert _open_files() == before


def _open_files() -> list[str]:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(link) for link in links if os.path.lexists(link))
