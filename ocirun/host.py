"""Facts of the host that planning needs, gathered once; the planner itself reads nothing."""

from __future__ import annotations

import os

from ocirun.errors import HostError
from ocirun.files import read_file

_MOUNTINFO = "/proc/self/mountinfo"
_STATUS = "/proc/self/status"


class Host:
    """What this kernel and this process can do.

    ``cgroup_mount`` is where cgroup2 is mounted, "" when it is not; ``hybrid`` says that it is not at
    /sys/fs/cgroup, so that controllers are (or may be) on cgroup v1.  ``controllers`` are those that the
    cgroup2 hierarchy offers; ``capabilities`` the bits that this process has and may give; ``kernel`` the
    first two numbers of the release; ``euid`` the effective user.
    """

    __slots__ = ("capabilities", "cgroup_mount", "controllers", "euid", "hybrid", "kernel")

    def __init__(
        self,
        *,
        cgroup_mount: str,
        hybrid: bool,
        controllers: frozenset[str],
        capabilities: int,
        kernel: tuple[int, int],
        euid: int,
    ) -> None:
        self.cgroup_mount = cgroup_mount
        self.hybrid = hybrid
        self.controllers = controllers
        self.capabilities = capabilities
        self.kernel = kernel
        self.euid = euid

    @property
    def rootless(self) -> bool:
        """Whether this process is not root."""
        return self.euid != 0


def gather() -> Host:
    """The facts as they are now (proc(5), cgroups(7)).  Raises HostError when /proc is not readable."""
    mount, controllers = _cgroup2()
    return Host(
        cgroup_mount=mount,
        hybrid=mount not in ("", "/sys/fs/cgroup"),
        controllers=controllers,
        capabilities=_capabilities(_read(_STATUS)),
        kernel=release(os.uname().release),
        euid=os.geteuid(),
    )


def _cgroup2() -> tuple[str, frozenset[str]]:
    """The mount of cgroup2 and its controllers: at the two usual places, else wherever mountinfo has it.

    Only cgroup2 has a file cgroup.controllers, so one open tells it from a directory or from cgroup v1.
    """
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        try:
            return mount, frozenset(read_file(f"{mount}/cgroup.controllers").decode().split())
        except OSError:
            continue
    mount = find_cgroup2(_read(_MOUNTINFO))
    if not mount:
        return "", frozenset()
    return mount, frozenset(_read(f"{mount}/cgroup.controllers").decode().split())


def find_cgroup2(mountinfo: bytes) -> str:
    """The first mount point of cgroup2 in the text of a mountinfo file, "" without one."""
    return next(iter(cgroup2_mounts(mountinfo)), "")


def cgroup2_mounts(mountinfo: bytes) -> dict[str, str]:
    """Where cgroup2 is mounted according to the text of a mountinfo file, and which of its cgroups is the
    root there (proc_pid_mountinfo(5))."""
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        if after.startswith(b"cgroup2 "):
            root, point = (
                _unescape(field).decode("utf-8", "surrogateescape") for field in before.split(b" ")[3:5]
            )
            found[point] = root
    return found


def _unescape(field: bytes) -> bytes:
    """A field of mountinfo with its octal escapes (space, tab, newline, backslash) turned back."""
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, character)
    return field


def _capabilities(status: bytes) -> int:
    """What is both in the bounding and the effective set: only that can be given to a container."""
    sets = {
        name: int(value, 16)
        for name, _, value in (line.partition(b":") for line in status.splitlines())
        if name in (b"CapEff", b"CapBnd")
    }
    return sets.get(b"CapEff", 0) & sets.get(b"CapBnd", 0)


def release(text: str) -> tuple[int, int]:
    """The first two numbers of a kernel release such as "6.18.4-arch1"."""
    numbers: list[int] = []
    for part in text.split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def _read(path: str) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise HostError(
            f"read {path}: {error.strerror}", operation="open", errno=error.errno or 0, path=path,
            hint="is /proc mounted?" if path.startswith("/proc") else "",
        ) from error  # fmt: skip
