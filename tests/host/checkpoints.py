"""Checkpoints as the tests take and restore them."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from tests.host import observe
from tests.host.runtimes import Container

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Result, Runtime

#: Below the sbin directories, too: the PATH of a user has none of them.
CRIU = shutil.which("criu", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
#: Counts into a file of its own root.  Its streams are its own as well: the peers cannot write down others.
COUNTING = "exec </dev/null >/count 2>&1; n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done"
#: A criu that ends at once, and says why in its log.
FAILING = 'echo "(00.1) Error (a.c:1): the dog ate it" > {log}; exit 1'
#: criu waits for the kernel, which is slow in an emulated machine.
SECONDS = 120.0


def looking_like_one(images: Path) -> Path:
    """The directory ``images``, made so that it looks like a checkpoint."""
    images.mkdir()
    (images / "descriptors.json").write_text(json.dumps(["/dev/null", "pipe:[1]", "pipe:[2]"]))
    return images


def counted(bundle: Bundle) -> list[int]:
    """The numbers that a program of COUNTING has written whole."""
    whole, _, _ = (bundle.rootfs / "count").read_text().rpartition("\n")
    return [int(line) for line in whole.split()]


def counts_on(bundle: Bundle) -> None:
    """Waits until it counts further than it has now, and fails unless no number was lost or came twice."""
    before = len(counted(bundle))
    observe.eventually(lambda: len(counted(bundle)) > before + 3, "it counts on")
    numbers = counted(bundle)
    assert numbers == [*range(1, len(numbers) + 1)]


def fit(runtime: Runtime, bundle: Bundle) -> Bundle:
    """The bundle as this runtime can restore it: crun 1.28 does not find again what it has masked."""
    return bundle.put([], "linux", "maskedPaths") if runtime.name == "crun" else bundle


def counting(runtime: Runtime, bundle: Bundle, *flags: str) -> Container:
    """A container that counts, and has begun to."""
    container = runtime.running(fit(runtime, bundle).writable().sh(COUNTING), *flags)
    observe.eventually((bundle.rootfs / "count").exists, "it has begun")
    counts_on(bundle)
    return container


def take(container: Container, images: Path, *flags: str) -> Result:
    """Takes a checkpoint; what is deleted with it need not be deleted again."""
    words = ("checkpoint", "--image-path", str(images), "--work-path", f"{images}.work", *flags)
    done = container.runtime.call(*words, container.id, timeout=SECONDS)
    left = {"--leave-running", "--pre-dump"}.intersection(flags)
    container.deleted = done.code == 0 and not left
    return done


def restore(runtime: Runtime, bundle: Bundle, images: Path, ident: str, *flags: str) -> Container:
    """Restores a container detached, which is deleted by force after the test."""
    pid_file = runtime.file("pid")
    done = attempt(runtime, bundle, images, ident, "--detach", "--pid-file", str(pid_file), *flags).ok()
    container = Container(runtime, ident, bundle, done, pid_file)
    runtime.containers.append(container)
    return container


def attempt(runtime: Runtime, bundle: Bundle, images: Path, ident: str, *flags: str) -> Result:
    """The command restore."""
    where = ("--image-path", str(images), "--work-path", f"{images}.work", "--bundle", str(bundle.path))
    return runtime.call("restore", *where, *flags, ident, timeout=SECONDS)


def state(container: Container) -> dict[str, object]:
    """What the command state says."""
    found: dict[str, object] = json.loads(container.runtime.call("state", container.id).ok().stdout)
    return found


def stand_in(runtime: Runtime, script: str) -> None:
    """Puts a script of the shell in the place of criu, for this runtime."""
    runtime.environment["PATH"] = put(runtime.scratch, script, runtime.environment["PATH"])


def put(scratch: Path, script: str, path: str = os.environ.get("PATH", os.defpath)) -> str:
    """Writes that script below ``scratch``; gives the ``path`` with it in front."""
    directory = scratch / "criu-stand-in"
    directory.mkdir(exist_ok=True)
    (directory / "criu").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "criu").chmod(0o755)
    return f"{directory}:{path}"
