"""What the files of a cgroup count: processes, CPU time, memory, I/O (cgroup-v2.rst).

Numbers are as the kernel has them: bytes, microseconds, counts.  A file that is missing, because its
controller is not enabled, gives an empty section.
"""

from __future__ import annotations

import os

#: What "max" means where a number is wanted.
NO_LIMIT = (1 << 64) - 1


class Stats:
    """One reading of the cgroup at a directory; each method reads its files anew."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def exists(self) -> bool:
        """Whether the cgroup is still there."""
        return os.path.isdir(self._where)

    def processes(self) -> list[int]:
        """The pids in it and below it, as our pid namespace has them; those it cannot name are left out."""
        found: list[int] = []
        for directory, _, _ in os.walk(self._where):
            text = _read(f"{directory}/cgroup.procs")
            found += [pid for pid in map(int, text.split()) if pid > 0]
        return found

    def number(self, name: str) -> int:
        """The one number of a file, NO_LIMIT for "max", 0 where the file is missing."""
        text = _read(f"{self._where}/{name}").strip()
        if text == "max":
            return NO_LIMIT
        return int(text) if text.isdigit() else 0

    def page_sizes(self) -> list[str]:
        """The sizes of huge pages that are counted, as the kernel writes them (hugetlb.SIZE.current)."""
        try:
            names = os.listdir(self._where)
        except OSError:
            return []
        fields = [name.split(".") for name in names if name.startswith("hugetlb.")]
        return sorted(one[1] for one in fields if len(one) == 3 and one[2] == "current")

    def has(self, name: str) -> bool:
        """Whether there is a file of that name: its controller is enabled."""
        return os.path.exists(f"{self._where}/{name}")

    def keyed(self, name: str) -> dict[str, int]:
        """A file of lines ``KEY NUMBER``, {} where it is missing."""
        found: dict[str, int] = {}
        for line in _read(f"{self._where}/{name}").splitlines():
            key, _, value = line.partition(" ")
            if value.isdigit():
                found[key] = int(value)
        return found

    def nested(self, name: str) -> dict[str, dict[str, str]]:
        """A file of lines ``KEY NAME=VALUE NAME=VALUE``, {} where it is missing."""
        found: dict[str, dict[str, str]] = {}
        for line in _read(f"{self._where}/{name}").splitlines():
            key, *pairs = line.split()
            found[key] = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        return found


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    content = b""
    try:
        while piece := os.read(fd, 1 << 16):
            content += piece
    except OSError:  # ENODEV: it was removed meanwhile; EOPNOTSUPP: a threaded cgroup has no cgroup.procs
        return ""
    finally:
        os.close(fd)
    return content.decode("ascii", "replace")
