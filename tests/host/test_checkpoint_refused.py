"""Checkpoints and restores that cannot be, told before anything was made; and a criu that fails, which a
script stands in for, so that these run on every host."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.host import checkpoints, execs, observe, users
from tests.host.runtimes import new_id
from tests.host.test_error_codes import code

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: A criu that ends at once, and says why in its log.
FAILING = 'echo "(00.1) Error (a.c:1): the dog ate it" > {log}; exit 1'


@pytest.fixture
def images(scratch: Path) -> Path:
    """A directory for images that is not there yet."""
    return scratch / "images"


@pytest.fixture
def taken(images: Path) -> Path:
    """A directory that looks like a checkpoint, with its directory for the log."""
    images.mkdir()
    images.with_name("images.work").mkdir()
    (images / "descriptors.json").write_text(json.dumps(["/dev/null", "pipe:[1]", "pipe:[2]"]))
    return images


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
    checkpoints.stand_in(ocirun, f"{begun}; {FAILING.format(log=log)}")
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


def test_a_restore_that_fails_leaves_nothing(ocirun: Runtime, bundle: Bundle, taken: Path) -> None:
    log = taken.with_name("images.work") / "restore.log"
    checkpoints.stand_in(ocirun, FAILING.format(log=log))
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
