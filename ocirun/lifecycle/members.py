"""The processes of a container without a cgroup: those in the pid namespace of its init, and below it."""

from __future__ import annotations

import fcntl
import posix as os

from ocirun.errors import IN_A_SCOPE, StateError
from ocirun.files import read_file
from ocirun.lifecycle.process import open_pidfd, pid_namespace, reaches
from ocirun.lifecycle.state import check_same_pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.journal import Journal

_NS_GET_PARENT = 0xB702  # linux/nsfs.h
#: What only a cgroup can do.
HINT = f"create it in one that is delegated to you: {IN_A_SCOPE}"


def members(entries: Journal) -> list[int]:
    """The pids in the pid namespace of init and in those below it, sorted; init alone where it has none of
    its own; nobody when it has ended.  Raises StateError where its pids are not ours."""
    return sorted(_found(entries))


def signal_members(entries: Journal, signum: int) -> None:
    """Sends a signal to each of ``members``, as far as it is still one when it gets it: its number may be
    somebody else's by then.  Raises StateError where its pids are not ours, and, when all others have it, for
    the first that refuses it."""
    refusal: StateError | None = None
    for pid, inside in _found(entries).items():
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not inside or _is_below(pid, inside):
                reaches(pidfd, signum)
        except StateError as error:
            refusal = refusal or error
        finally:
            os.close(pidfd)
    if refusal is not None:
        raise refusal


def _found(entries: Journal) -> dict[int, str]:
    """The pids of the members, each with the pid namespace that makes it one, "" for init itself."""
    if entries.pid:
        check_same_pids(entries)
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd < 0:
        return {}
    try:
        inside = _namespace(entries.pid)
        if inside in ("", pid_namespace()) or not _is_first(entries.pid):
            return {entries.pid: ""}
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        known = {inside: True}
        return {pid: inside for pid in pids if _belongs(pid, inside, known)}
    finally:
        os.close(pidfd)


def _is_first(pid: int) -> bool:
    """Whether it is the first process of its pid namespace; in one that it has joined others live as well."""
    for line in read_file(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"NSpid:"):
            return line.split()[-1] == b"1"
    return False


def _belongs(pid: int, inside: str, known: dict[str, bool]) -> bool:
    """As ``_is_below``, asking once for each namespace."""
    own = _namespace(pid)
    if own not in known:
        known[own] = bool(own) and _is_below(pid, inside)
    return known[own]


def _is_below(pid: int, inside: str) -> bool:
    """Whether the pid namespace of a process is ``inside`` or one below it (ioctl_nsfs(2))."""
    try:
        fd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has ended, or is none of ours
        return False
    try:
        while f"pid:[{os.fstat(fd).st_ino}]" != inside:
            above = fcntl.ioctl(fd, _NS_GET_PARENT)
            os.close(fd)
            fd = above
    except OSError:  # what is above is ours, or not to be seen from here
        return False
    finally:
        os.close(fd)
    return True


def differing(pid: int) -> list[str]:
    """The kinds of namespaces, in the words of the config, in which the process is not with us."""
    return [
        kind
        for kind, file in (
            ("mount", "mnt"),
            ("network", "net"),
            ("ipc", "ipc"),
            ("uts", "uts"),
            ("pid", "pid"),
            ("user", "user"),
        )
        if (there := _namespace(pid, file)) and there != _namespace("self", file)
    ]


def _namespace(pid: int | str, kind: str = "pid") -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:  # it has ended, or is none of ours
        return ""


def without_cgroup(what: str) -> StateError:
    """The error for what a container without a cgroup cannot have done to it."""
    hint = "create it with --cgroup-manager cgroupfs or systemd" if os.geteuid() == 0 else HINT
    return StateError(f"cannot {what} a container without a cgroup", code="container-status", hint=hint)
