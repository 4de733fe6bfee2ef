"""What a shim may leave behind in the environment, counted before and after every test."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from conformance.containerd import EnvironmentFaultError, eventually
from conformance.inside import CGROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.containerd import Containerd, Process

#: What is gone after this many seconds was not left behind; what is known to stay is waited for less long.
GRACE, SHORT_GRACE = 5.0, 0.3
#: Two warm processes serve all shims of a containerd and stay with it.
ZYGOTE, NURSERY = re.compile("zygote"), re.compile("nursery")
#: Directories that stay: shared parents, the zygote's own, and the FIFOs that ``ctr --detach`` forgets.
STAYING = re.compile(
    r"/run/containerd/(root|fifo|runc|s|io\.containerd\.sandbox\.controller\.v1\.shim)$"
    r"|/run/containerd/(root/(?!io\.containerd\.runtime\.v2\.task/)|fifo/)"
    r"|/run/containerd/(root/)?io\.containerd\.runtime\.v2\.task(/[^/]+)?$"
    r"|/run/containerd/runc/[^/]+$"
    r"|/run/(containerd/)?ocirun[^/]*(/[^/]+)?$"
)

#: Not looked into: the stores of containerd, of which STAYING says more, and root file systems.
DEEP = frozenset({"rootfs", "snapshots", "io.containerd.content.v1.content"})

Traces = dict[str, frozenset[str]]


def take(containerd: Containerd) -> Traces:
    """Everything countable at this moment, by kind."""
    return {
        "processes": frozenset(_processes(containerd)),
        "mounts": frozenset(_mounts(containerd)),
        "cgroups": frozenset(_below(containerd, f"{CGROUP}/{containerd.namespace}", directories_only=True)),
        "files": frozenset(_below(containerd, "/run")),
    }


def settled(before: Traces, containerd: Containerd, grace: float = GRACE) -> dict[str, list[str]]:
    """What remains beyond ``before`` once the grace is over; empty as soon as nothing does."""
    with contextlib.suppress(EnvironmentFaultError):
        eventually(lambda: not _beyond(before, take(containerd)), "nothing remains", grace)
    return _beyond(before, take(containerd))


def _beyond(before: Traces, now: Traces) -> dict[str, list[str]]:
    pairs = {kind: sorted(now[kind] - before[kind]) for kind in now}
    return {kind: found for kind, found in pairs.items() if found}


def _processes(containerd: Containerd) -> Iterator[str]:
    others = [process for process in containerd.processes() if not _from_outside(process)]
    warm = zygotes(containerd)[:1] + _named(containerd, NURSERY)[:1]
    for process in others:
        if process not in warm:
            yield f"{process.pid} ({process.state}) {' '.join(process.command).strip() or process.name}"


def zygotes(containerd: Containerd) -> list[Process]:
    """The warm processes, the oldest first; more than one is one left over."""
    return _named(containerd, ZYGOTE)


def _named(containerd: Containerd, name: re.Pattern[str]) -> list[Process]:
    return [one for one in containerd.processes() if name.search(f"{one.name} {' '.join(one.command)}")]


def _from_outside(process: Process) -> bool:
    """Whether it is process 1, containerd, or a command of ours that was killed and is not reaped yet."""
    return process.parent == 0 and (process.pid == 1 or process.state == "Z" or process.name == "containerd")


def _mounts(containerd: Containerd) -> Iterator[str]:
    for line in containerd.path("/proc/1/mountinfo").read_text().splitlines():
        yield line.split(" - ")[0].split()[4]


def _below(containerd: Containerd, top: str, *, directories_only: bool = False) -> Iterator[str]:
    prefix = str(containerd.path("/")).rstrip("/")
    for directory, directories, names in os.walk(containerd.path(top)):
        inner = directory.removeprefix(prefix)
        for name in directories if directories_only else (*directories, *names):
            if not STAYING.match(f"{inner}/{name}"):
                yield f"{inner}/{name}"
        directories[:] = [
            name for name in directories if not f"{inner}/{name}".endswith(("/root", "/rootfs"))
        ]
