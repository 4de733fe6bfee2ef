"""Facts of the host that planning needs, gathered once; the planner itself reads nothing."""

from __future__ import annotations

import posix as os

from ocirun.errors import EXHAUSTED, HostError, words_of
from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Config

    from ocirun.reach import Reach

_MOUNTINFO = "/proc/self/mountinfo"
#: The user namespace that was there first has always this number (PROC_USER_INIT_INO, linux/proc_ns.h).
_FIRST_USERS = "user:[4026531837]"
_STATUS = "/proc/self/status"


class Host:
    """What this kernel and this process can do.

    ``cgroup_mount`` is where cgroup2 is mounted, "" when it is not; ``hybrid`` says that it is not at
    /sys/fs/cgroup, so that controllers are (or may be) on cgroup v1.  ``controllers`` are those that the
    cgroup2 hierarchy offers, ``legacy`` those that a hybrid host has on cgroup v1, by the names of cgroup2;
    ``capabilities`` the bits that this process has and may give; ``kernel`` the first two numbers of the
    release; ``euid`` the effective user; ``apparmor`` and ``selinux`` say which of them is on.
    ``resctrl`` is where the file system of that name is mounted, "" where it is not, or nobody asked.
    ``foreign`` says that the network namespace to be joined does not belong to the user namespace that is.
    ``nodes`` are the paths here of devices of the config that are to be bound and have another one inside, by
    their pointers.
    ``unprivileged`` says that this is not root of the host, but a user, or in a user namespace; ``reach`` is
    then what it may do, and None for who may do all.
    """

    __slots__ = (
        "apparmor", "capabilities", "cgroup_mount", "controllers", "euid", "foreign", "hybrid", "kernel",
        "legacy", "nodes", "reach", "resctrl", "selinux", "unprivileged",
    )  # fmt: skip

    def __init__(
        self,
        *,
        cgroup_mount: str,
        hybrid: bool,
        controllers: frozenset[str],
        capabilities: int,
        kernel: tuple[int, int],
        euid: int,
        apparmor: bool = False,
        selinux: bool = False,
        unprivileged: bool = False,
        reach: Reach | None = None,
        legacy: frozenset[str] = frozenset(),
        resctrl: str = "",
    ) -> None:
        self.cgroup_mount = cgroup_mount
        self.hybrid = hybrid
        self.controllers = controllers
        self.capabilities = capabilities
        self.kernel = kernel
        self.euid = euid
        self.apparmor = apparmor
        self.selinux = selinux
        self.unprivileged = unprivileged
        self.reach = reach
        self.legacy = legacy
        self.resctrl = resctrl
        self.foreign = False
        self.nodes: dict[str, str] = {}


def gather(*, rootless: bool = False, resctrl: bool = False, users: str = "", ranges: bool = False) -> Host:
    """The facts as they are now (proc(5), cgroups(7)); ``rootless`` looks how far it reaches also for root,
    ``resctrl`` where that is mounted, and ``users`` is the path of a user namespace that is to be joined.
    ``ranges`` asks which ids were given to a user.

    Raises HostError when /proc is not readable.
    """
    mount, controllers = cgroup2()
    euid = os.geteuid()
    unprivileged = euid != 0 or _users() != _FIRST_USERS
    reach = None
    if unprivileged or rootless:
        from ocirun import reach as reaching

        reach = reaching.gather(mount, users, ranges=ranges)
        if reach.cgroup is not None:
            controllers = reach.controllers
    hybrid = mount not in ("", "/sys/fs/cgroup")
    return Host(
        cgroup_mount=mount,
        hybrid=hybrid,
        controllers=controllers,
        capabilities=_capabilities(_read(_STATUS)),
        kernel=release(os.uname().release),
        euid=euid,
        apparmor=_apparmor(),
        selinux=_selinux(),
        unprivileged=unprivileged,
        reach=reach,
        legacy=legacy_controllers(_read("/proc/self/cgroup").decode()) if hybrid else frozenset(),
        resctrl=_resctrl() if resctrl else "",
    )


def gather_for(config: Config, *, rootless: bool = False, pid: int = 0) -> Host:
    """As ``gather``, with the facts that only some configs make worth a look; ``pid`` is the init of a
    container that is entered."""
    linux = config.get("linux", {})
    listed = linux.get("namespaces", ())
    paths = [one.get("path", "") for one in listed if one["type"] == "user"]
    users = f"/proc/{pid}/ns/user" if pid else paths[0] if paths else ""
    ranges = not pid and "uidMappings" not in linux
    host = gather(rootless=rootless, resctrl="intelRdt" in linux, users=users, ranges=ranges)
    if not pid and "devices" in linux and (paths or host.unprivileged):
        from ocirun import device_nodes

        host.nodes = device_nodes.elsewhere(linux["devices"])
    if not pid and users:
        from ocirun import owners

        networks = [one.get("path", "") for one in listed if one["type"] == "network"]
        host.foreign = any(owners.is_foreign(path, users) for path in networks if path)
    return host


def legacy_controllers(text: str) -> frozenset[str]:
    """The controllers of cgroup v1 in the text of a /proc/PID/cgroup, by the names that cgroup2 has for them
    (cgroups(7))."""
    listed = [line.split(":")[1] for line in text.splitlines()]
    names = {name for one in listed for name in one.split(",") if name and not one.startswith("name=")}
    return frozenset("io" if name == "blkio" else name for name in names)


def _users() -> str:
    try:
        return os.readlink("/proc/self/ns/user")
    except FileNotFoundError:  # a kernel without user namespaces
        return _FIRST_USERS


def _apparmor() -> bool:
    """A kernel that has it but was booted without says N."""
    try:
        return read_file("/sys/module/apparmor/parameters/enabled") == b"Y\n"
    except OSError:
        return False


def _selinux() -> bool:
    """Its file system can only be mounted where it is on, and every distribution mounts it there."""
    try:
        os.stat("/sys/fs/selinux/enforce")
    except OSError:
        return False
    return True


def cgroup2() -> tuple[str, frozenset[str]]:
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


def _resctrl() -> str:
    """The mount point of resctrl, "" without one."""
    return next(iter(mounts_of(b"resctrl ", _read(_MOUNTINFO))), "")


def cgroup2_mounts(mountinfo: bytes) -> dict[str, str]:
    """Where cgroup2 is mounted according to the text of a mountinfo file, and which of its cgroups is the
    root there (proc_pid_mountinfo(5))."""
    return mounts_of(b"cgroup2 ", mountinfo)


def mounts_of(fstype: bytes, mountinfo: bytes) -> dict[str, str]:
    """The same of any file system, by its type and a space."""
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        if after.startswith(fstype):
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
        if error.errno in EXHAUSTED:
            raise
        raise HostError(
            f"read {path}: {words_of(error.errno or 0)}", operation="open", errno=error.errno or 0, path=path,
            hint="is /proc mounted?" if path.startswith("/proc") else "",
        ) from error  # fmt: skip
