"""What the kernel says of a process: /proc/PID, mountinfo, cgroups; never the runtime's own state."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    ident: int
    parent: int
    device: str
    root: str
    point: str
    options: frozenset[str]
    tags: tuple[str, ...]
    kind: str
    source: str
    data: frozenset[str]

    @property
    def shared(self) -> bool:
        """Whether the mount sends events to a peer group."""
        return any(tag.startswith("shared:") for tag in self.tags)

    @property
    def slave(self) -> bool:
        """Whether the mount receives events of a master."""
        return any(tag.startswith("master:") for tag in self.tags)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def parse_mount(line: str) -> Mount:
    """One line of mountinfo as a Mount."""
    head, _, tail = line.partition(" - ")
    ident, parent, device, root, point, options, *tags = head.split()
    kind, source, data = tail.split(" ")  # runc gives a file system without a source an empty one
    return Mount(
        ident=int(ident),
        parent=int(parent),
        device=device,
        root=_unescape(root),
        point=_unescape(point),
        options=frozenset(options.split(",")),
        tags=tuple(tags),
        kind=kind,
        source=_unescape(source),
        data=frozenset(data.split(",")),
    )


def mounts(pid: int | str = "thread-self") -> list[Mount]:
    """Every mount that process ``pid`` sees, in mountinfo's order."""
    return [parse_mount(line) for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


def mount_at(pid: int, point: str) -> Mount:
    """The topmost mount on ``point`` as process ``pid`` sees it; raises LookupError when there is none."""
    found = [mount for mount in mounts(pid) if mount.point == point]
    if not found:
        message = f"nothing is mounted on {point}"
        raise LookupError(message)
    return found[-1]


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def state_letter(pid: int) -> str:
    """R, S, T, Z …; "" when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[0]


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    return state_letter(pid) not in {"", "Z", "X"}


def namespace(pid: int | str, kind: str) -> str:
    """The identity of a namespace of the process, for example ``net:[4026531840]``."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def words(pid: int, file: str) -> list[str]:
    """/proc/PID/cmdline or environ, split at its null bytes."""
    text = Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="surrogateescape")
    return text.split("\0")[:-1]


def limits(pid: int) -> dict[str, tuple[str, str]]:
    """/proc/PID/limits: name to (soft, hard), as text because of "unlimited"."""
    table: dict[str, tuple[str, str]] = {}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]:
        name, soft, hard = line[:26].strip(), line[26:47].strip(), line[47:68].strip()
        table[name] = (soft, hard)
    return table


def descriptors(pid: int | str = "self") -> dict[int, str]:
    """The open descriptors of a process with what they refer to."""
    found: dict[int, str] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # the descriptor listdir itself used
            continue
    return found


def inside(pid: int, path: str) -> Path:
    """The path of the container of ``pid``, as seen through /proc/PID/root."""
    return Path(f"/proc/{pid}/root{path}")


def cgroup(pid: int) -> str:
    """The path of the process in the cgroup2 hierarchy, seen from our cgroup namespace."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    message = f"process {pid} is in no cgroup2 hierarchy"
    raise LookupError(message)


def _parents() -> dict[int, int]:
    """Every process with its parent."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[int(name)] = int(text.rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> set[int]:
    """Every living or zombie process below ``pid``, found by walking all parents in /proc."""
    parents = _parents()
    while not {0, *parents}.issuperset(
        parents.values()
    ):  # one has ended meanwhile: its children have another
        parents = _parents()
    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting.extend(below)
    return found


def executing(pid: int, *command: str) -> list[int]:
    """The processes below ``pid`` that execute this command; others come and go meanwhile."""
    found: list[int] = []
    for below in sorted(descendants(pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if words(below, "cmdline") == [*command]:
                found.append(below)
    return found


def eventually(what: Callable[[], bool], meaning: str, patience: float = PATIENCE) -> None:
    """Waits until ``what()`` holds; raises TimeoutError with ``meaning`` when it does not in time.

    What it looks at may not be there yet, for instance a file of a program that has only begun.
    """
    deadline = time.monotonic() + patience
    while True:
        missing: OSError | None = None
        try:
            if what():
                return
        except (FileNotFoundError, ProcessLookupError) as error:
            missing = error
        if time.monotonic() > deadline:
            message = f"not in time: {meaning}"
            raise TimeoutError(message) from missing
        time.sleep(0.005)
