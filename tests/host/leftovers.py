"""What a runtime may leave behind, counted before and after every test."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import kernel, observe
from tests.host.runtimes import ID_PREFIX, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where runtimes keep what they keep when no --root is given, and where they might put a shared memory file.
OTHER_PLACES = ("/run/ocirun", "/run/runc", "/run/crun", "/dev/shm", "/dev/mqueue")  # noqa: S108 - looked at only
#: The parents of containers' cgroups stay, as they are shared: removing one would race with the next create.
SHARED_CGROUPS = ("/ocirun",)
OF_RUNTIMES = re.compile("|".join(NAMES))
#: What new_id makes, or the name of a view whose pid namespace and cgroups end with it, in any process.
ANY_ID = re.compile(r"o[eh]\d+-")
#: Caches below --root that belong to no container: ours of filters, and crun's, of those and of the directory
#: that it binds over masked ones.
CACHES = frozenset({".empty-directory", ".cache", ".seccomp"})
#: An exit is not instantaneous: what is gone after this many seconds was not left behind; and what stays that
#: is known to stay is not waited for so long.
GRACE, SHORT_GRACE = 10.0, 1.0


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything countable at one moment."""

    processes: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    descriptors: frozenset[str]
    files: frozenset[str]

    def beyond(self, before: Traces) -> dict[str, list[str]]:
        """What is here and was not ``before``, by kind; empty when nothing is."""
        pairs = {
            "processes": self.processes - before.processes,
            "mounts": self.mounts - before.mounts,
            "mounts that vanished": before.mounts - self.mounts,
            "cgroups": self.cgroups - before.cgroups,
            "open descriptors": self.descriptors - before.descriptors,
            "files": self.files - before.files,
        }
        return {name: sorted(found) for name, found in pairs.items() if found}


def take(scratch: Path, cgroup_mount: Path) -> Traces:
    """Counts now; ``scratch`` is the directory of the test."""
    _reap()
    return Traces(
        processes=frozenset(_processes()),
        mounts=frozenset(_mounts(scratch)),
        cgroups=frozenset(cgroups(cgroup_mount)),
        descriptors=frozenset(f"{fd} {target}" for fd, target in observe.descriptors().items()),
        files=frozenset(_files(scratch)),
    )


def settled(before: Traces, scratch: Path, cgroup_mount: Path, grace: float = GRACE) -> dict[str, list[str]]:
    """What remains beyond ``before`` once the grace is over; empty as soon as nothing does."""
    found = take(scratch, cgroup_mount).beyond(before)
    with contextlib.suppress(TimeoutError):
        observe.eventually(lambda: not take(scratch, cgroup_mount).beyond(before), "nothing remains", grace)
        return {}
    return take(scratch, cgroup_mount).beyond(before) or found


def remove(before: Traces, scratch: Path, cgroup_mount: Path) -> None:
    """Removes by all means what is beyond ``before``, so that one bad test does not spoil the next."""
    for process in set(_processes()) - before.processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.split()[0]), signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        observe.eventually(
            lambda: not take(scratch, cgroup_mount).processes - before.processes, "all are dead"
        )
    for mount in reversed(observe.mounts()):
        if str(scratch) in mount.point:
            with contextlib.suppress(OSError):
                kernel.umount(mount.point, kernel.MNT_DETACH)
    for path in sorted(cgroups(cgroup_mount) - before.cgroups, reverse=True):
        with contextlib.suppress(OSError):
            (cgroup_mount / path.lstrip("/")).rmdir()


def _reap() -> None:
    """Reaps the orphans that came to us, the subreaper; the test's own children have been waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _processes() -> Iterator[str]:
    for pid in observe.descendants(os.getpid()):
        with contextlib.suppress(OSError):
            yield f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()} {observe.state_letter(pid)}"


def _mounts(scratch: Path) -> Iterator[str]:
    for mount in observe.mounts():
        options = ",".join(sorted(mount.options))
        yield f"{mount.point} {mount.kind} {mount.root} {options} {' '.join(mount.tags)}"
    # The view of the host itself, which is shared with other tests: what is ours there has our path.
    for mount in observe.mounts(1):
        if str(scratch) in mount.point:
            yield f"of the host: {mount.point} {mount.kind}"


def cgroups(mount: Path) -> set[str]:
    """Every cgroup below ``mount`` that a runtime under test may have made; others make some meanwhile."""
    found = {directory.removeprefix(str(mount)) for directory, _, _ in os.walk(mount)}
    return {path for path in found.difference(SHARED_CGROUPS) if _suspicious(path)}


def _suspicious(path: str) -> bool:
    """Has one of our ids in it, or the name of a runtime without the id of another process of these tests."""
    return ID_PREFIX in path or (OF_RUNTIMES.search(path) is not None and ANY_ID.search(path) is None)


def _files(scratch: Path) -> Iterator[str]:
    for place in (scratch / "state", scratch / "tmp"):
        for directory, directories, names in os.walk(place):
            directories[:] = [name for name in directories if name not in CACHES]
            yield from (f"{directory}/{name}" for name in (*directories, *names))
    for other in OTHER_PLACES:
        if Path(other).is_dir():
            yield from (f"{other}/{name}" for name in os.listdir(other) if ID_PREFIX in name)
