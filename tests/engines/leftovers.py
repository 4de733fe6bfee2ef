"""What a shim may leave behind in the environment, counted before and after every test."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from conformance.inside import CGROUP
from conformance.private_view import EnvironmentFaultError, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.private_view import PrivateView, Process

#: What is gone after this many seconds was not left behind; what is known to stay is waited for less long.
GRACE, SHORT_GRACE = 30.0, 0.3
#: Two warm processes serve all shims of a containerd and stay with it.
ZYGOTE, NURSERY = re.compile("zygote"), re.compile("nursery")
#: Directories that stay: shared parents, the zygote's own, filters that are kept, and the FIFOs that
#: ``ctr --detach`` forgets.
STAYING = re.compile(
    r"/run/containerd/(root|fifo|runc|s|io\.containerd\.sandbox\.controller\.v1\.shim)$"
    r"|/run/containerd/(root/(?!io\.containerd\.runtime\.v2\.task/)|fifo/)"
    r"|/run/containerd/(root/)?io\.containerd\.runtime\.v2\.task(/[^/]+)?$"
    r"|/run/containerd/runc/[^/]+$"
    r"|/run/(containerd/)?ocirun[^/]*(/[^/]+)?$"
    rf"|{CGROUP}/[^/]+/(docker|conmon)$"  # of dockerd, where runc leaves it, and of Podman's monitors
    r"|.*/\.seccomp(/|$)"
)

#: Mounts that an engine makes for the first container that needs them, and keeps.
KEPT_MOUNTS = frozenset({"/run/docker/exec/netns/default", "/run/netns"})

#: Not looked into: the stores of containerd, of which STAYING says more, and root file systems.
DEEP = frozenset({"rootfs", "snapshots", "io.containerd.content.v1.content"})

Traces = dict[str, frozenset[str]]


def take(view: PrivateView, tops: tuple[str, ...] = ("/run",)) -> Traces:
    """Everything countable at this moment, by kind; files are counted below ``tops``."""
    return {
        "processes": frozenset(_processes(view)),
        "mounts": frozenset(_mounts(view)),
        "cgroups": frozenset(_below(view, f"{CGROUP}/{view.name}", directories_only=True)),
        "files": frozenset(name for top in tops for name in _below(view, top)),
    }


def settled(
    before: Traces, view: PrivateView, grace: float = GRACE, tops: tuple[str, ...] = ("/run",)
) -> dict[str, list[str]]:
    """What remains beyond ``before`` once the grace is over; empty as soon as nothing does."""
    with contextlib.suppress(EnvironmentFaultError):
        eventually(lambda: not _beyond(before, take(view, tops)), "nothing remains", grace)
    return _beyond(before, take(view, tops))


def _beyond(before: Traces, now: Traces) -> dict[str, list[str]]:
    pairs = {kind: sorted(now[kind] - before[kind]) for kind in now}
    return {kind: found for kind, found in pairs.items() if found}


def _processes(view: PrivateView) -> Iterator[str]:
    others = [process for process in view.processes() if not _from_outside(process)]
    warm = zygotes(view)[:1] + _named(view, NURSERY)[:1]
    for process in others:
        if process not in warm:
            yield f"{process.pid} ({process.state}) {' '.join(process.command).strip() or process.name}"


def zygotes(view: PrivateView) -> list[Process]:
    """The warm processes, the oldest first; more than one is one left over."""
    return _named(view, ZYGOTE)


def _named(view: PrivateView, name: re.Pattern[str]) -> list[Process]:
    return [one for one in view.processes() if name.search(f"{one.name} {' '.join(one.command)}")]


def _from_outside(process: Process) -> bool:
    """Whether it is process 1, an engine, or a command of ours that was killed and is not reaped yet."""
    return process.parent == 0 and (
        process.pid == 1 or process.state == "Z" or process.name in ("containerd", "dockerd")
    )


def _mounts(view: PrivateView) -> Iterator[str]:
    for line in view.path("/proc/1/mountinfo").read_text().splitlines():
        where = line.split(" - ")[0].split()[4]
        if where not in KEPT_MOUNTS:
            yield where


def _below(view: PrivateView, top: str, *, directories_only: bool = False) -> Iterator[str]:
    prefix = str(view.path("/")).rstrip("/")
    for directory, directories, names in os.walk(view.path(top)):
        inner = directory.removeprefix(prefix)
        for name in directories if directories_only else (*directories, *names):
            if not STAYING.match(f"{inner}/{name}"):
                yield f"{inner}/{name}"
        directories[:] = [
            name for name in directories if not f"{inner}/{name}".endswith(("/root", "/rootfs"))
        ]
