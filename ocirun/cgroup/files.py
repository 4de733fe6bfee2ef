"""The cgroup files driver: makes the directory a container is born in (cgroups.7, cgroup-v2.rst)."""

from __future__ import annotations

import errno
import posix as os

from ocirun import paths
from ocirun.errors import EXHAUSTED, DriverError, words_of
from ocirun.files import read_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

_SIGKILL = 9
#: So many processes are signalled at once: each takes a descriptor for as long.
_AT_ONCE = 64
#: The attributes of a cgroup that name the state directory of the container it serves: only root of the host
#: can write the one, who owns the cgroup the other (xattr(7)).
OF_ROOT, OF_USER = "trusted.ocirun", "user.ocirun"


def make_cgroup(mount: str, path: str, controllers: str = "") -> int:
    """Makes the cgroup ``path`` below the cgroup2 ``mount``, with those above it.

    Enables the ``controllers``, words of a line, for it where the kernel lets us: each is for counting only,
    and a limit that needs one asks again.

    Gives how many directories it made, from the last one up: 0 for a cgroup that was there, which may be used
    when no process is in it.  Raises DriverError, and has then made nothing.
    """
    where = mount + path
    made: list[str] = []
    try:
        _make(where, made)
    except OSError as error:
        _remove(made)
        raise _refused(error, where) from error
    if not made:
        _check_empty(where)
    if is_frozen(where):  # itself, or by one above it: init would be born standing still, and hang us
        _remove(made)
        raise _unfit(where, "unexpectedly frozen", "write 0 to its cgroup.freeze, or to that of one above it")
    if controllers:
        _enable(mount, path, controllers.split())
    return len(made)


def _remove(made: list[str]) -> None:
    for directory in reversed(made):
        os.rmdir(directory)


def own(where: str, owner: str) -> str:
    """Notes that a cgroup serves the container whose state directory is ``owner``.

    Gives the name of the attribute that says so, "" where the kernel has none for us (user.* since 5.7).
    """
    for name in (OF_ROOT, OF_USER):
        try:
            os.setxattr(where, name, owner.encode("utf-8", "surrogateescape"))
        except OSError:
            continue
        return name
    return ""


def noted(where: str, name: str) -> str:
    """The state directory that the attribute ``name`` of a cgroup tells, "" where there is none to see."""
    try:
        return os.getxattr(where, name).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def was_replaced(where: str, owner: str) -> bool:
    """Whether a cgroup that root has noted ``owner`` at, and that has no note now, is another of its name.

    To read does not tell: the kernel has nothing of trusted.* for who lacks CAP_SYS_ADMIN (xattr(7)).
    """
    try:
        os.setxattr(where, OF_ROOT, owner.encode("utf-8", "surrogateescape"), os.XATTR_REPLACE)
    except OSError as error:
        return error.errno == errno.ENODATA
    return False


def _enable(mount: str, path: str, controllers: list[str]) -> None:
    """From the top down: a controller is had below a cgroup only where its cgroup.subtree_control says so
    (cgroup-v2.rst, Enabling and Disabling)."""
    above = mount
    for name in path.split("/")[1:]:
        _try_to_enable(f"{above}/cgroup.subtree_control", controllers)
        above = f"{above}/{name}"


def _try_to_enable(file: str, controllers: list[str]) -> None:
    """All at once, which the kernel takes whole or not at all; else each for itself."""
    try:
        write_file(file, " ".join(f"+{name}" for name in controllers).encode())
    except OSError:
        if len(controllers) > 1:
            for name in controllers:
                _try_to_enable(file, [name])


def _make(where: str, made: list[str], tries: int = 3) -> None:
    """Makes a directory and those above it, and notes what it made, the last one last."""
    try:
        os.mkdir(where, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        if not tries:
            raise
        # missing, or another container's delete has just removed an empty parent: it is made again
        _make(paths.dirname(where), made)
        _make(where, made, tries - 1)
        return
    made.append(where)


def remove_if_empty(where: str, parents: int) -> bool:
    """Removes a cgroup with no process of ours and ``parents`` above it, as far as they are empty.

    Gives whether the cgroup itself is gone.
    """
    for above in range(parents + 1):
        try:
            os.rmdir(where)
        except OSError as error:
            return above > 0 or error.errno == errno.ENOENT
        where = paths.dirname(where)
    return True


def signal_cgroup(where: str, signum: int) -> None:
    """Sends a signal to each process of a cgroup and of those below it; one that is gone has nobody.

    SIGKILL goes by cgroup.kill, which no fork escapes.  Raises DriverError for processes that refuse it, and
    for those that this pid namespace cannot name: cgroup.procs has 0 for them, and kill(2) would take that
    for our own group.  It tells the first of them when all others have the signal.
    """
    if signum == _SIGKILL:
        try:
            write_file(f"{where}/cgroup.kill", b"1")
        except OSError as error:
            if not is_gone(error):
                raise _unsignalled(where, signum, error) from error
        return
    refusals: list[DriverError] = []
    for directory in _tree(where):
        try:
            _signal_listed(directory, signum, refusals)
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            if not _has_nobody(error, directory, where):
                refusals.append(_unsignalled(directory, signum, error))
    if refusals:
        raise refusals[0]


def is_populated(where: str) -> bool:
    """Whether a process lives in a cgroup or below it; zombies do not count (cgroup.events)."""
    try:
        return b"populated 1" in read_file(f"{where}/cgroup.events")
    except OSError as error:
        if not is_gone(error):
            raise
        return False


def is_frozen(where: str) -> bool:
    """Whether the processes of a cgroup are stopped for now (cgroup.events); False where it is gone, and for
    no cgroup, which is ""."""
    if not where:
        return False
    try:
        fd = os.open(f"{where}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return b"frozen 1" in os.read(fd, 4096)  # two lines, had in one call: each command asks
    except OSError:
        return False
    finally:
        os.close(fd)


def set_frozen(where: str, *, frozen: bool) -> None:
    """Asks for the processes of a cgroup to be stopped, or to go on (cgroup.freeze); raises OSError."""
    write_file(f"{where}/cgroup.freeze", b"1" if frozen else b"0")


def processes(where: str) -> list[int]:
    """The pids in a cgroup and in those below it, sorted; none where it is gone."""
    found: set[int] = set()
    for directory in _tree(where):
        try:
            found.update(_listed(directory))
        except OSError as error:
            if not _has_nobody(error, directory, where):
                raise
    return sorted(found)


def is_gone(error: OSError) -> bool:
    """Whether a file of a cgroup could not be used because the cgroup was removed: ENODEV where that
    happened after it was opened (kernfs)."""
    return error.errno in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)


def _has_nobody(error: OSError, directory: str, where: str) -> bool:
    """Whether this failure to list ``directory``, ``where`` or one below it, means that it adds nobody: it is
    gone, or threaded, and who is in it is listed by one above (cgroup-v2.rst, Threads)."""
    return is_gone(error) or (error.errno == errno.EOPNOTSUPP and directory != where)


def _tree(where: str) -> list[str]:
    """A cgroup and all below it; what cannot be read has none below."""
    found = [where]
    for directory in found:
        try:
            with os.scandir(directory) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    return found


def _signal_listed(where: str, signum: int, refusals: list[DriverError]) -> None:
    """Opens pidfds before it looks a second time who is there: a number may be somebody else's by then."""
    listed = _listed(where)
    if not min(listed, default=1):
        listed = [pid for pid in listed if pid]
        refusals.append(
            DriverError(
                f"the cgroup {where} has a process of another pid namespace",
                path=where,
                hint="send the signal from the pid namespace in which the container was created",
            )
        )
    for at in range(0, len(listed), _AT_ONCE):
        opened: list[tuple[int, int]] = []
        try:
            for pid in listed[at : at + _AT_ONCE]:
                _open_one(pid, opened)
            still = _listed(where)
            for pid, pidfd in opened:
                if pid in still:
                    _signal_one(pidfd, signum, where, refusals)
        finally:
            for _, pidfd in opened:
                os.close(pidfd)


def _listed(where: str) -> list[int]:
    return [int(pid) for pid in read_file(f"{where}/cgroup.procs").split()]


def _open_one(pid: int, opened: list[tuple[int, int]]) -> None:
    try:
        opened.append((pid, os.pidfd_open(pid)))
    except ProcessLookupError:
        return


def _signal_one(pidfd: int, signum: int, where: str, refusals: list[DriverError]) -> None:
    try:
        _signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return
    except OSError as error:
        refusals.append(_unsignalled(where, signum, error))


def _unsignalled(where: str, signum: int, error: OSError) -> DriverError:
    number = error.errno or 0
    hint = (
        "it belongs to another user: be root, or that user" if number in (errno.EPERM, errno.EACCES) else ""
    )
    told = f"cannot send the signal {signum} to all in the cgroup {where}: {words_of(number)}"
    return DriverError(told, errno=number, path=where, hint=hint)


def _check_empty(where: str) -> None:
    """Nobody may be in it nor in any below it: our delete kills them all (cgroup.events, cgroup-v2.rst)."""
    try:
        events = read_file(f"{where}/cgroup.events")
    except OSError as error:
        raise _refused(error, where) from error
    if b"populated 0\n" not in events:
        found = len(processes(where)) or "an unseen number of"
        hint = "two containers cannot share a cgroup: give each a cgroupsPath of its own"
        raise _unfit(where, f"is not empty: {found} process(es) found", hint)


def _unfit(where: str, what: str, hint: str) -> DriverError:
    """In runc's words, which engines look for."""
    return DriverError(
        f"container's cgroup {what}: {where}", path=where, pointer="/linux/cgroupsPath", hint=hint
    )


def _refused(error: OSError, where: str) -> DriverError:
    hints = {
        errno.EACCES: "run as root, or in a cgroup that was delegated to you",
        errno.EROFS: "the cgroup2 file system is mounted read-only here",
        errno.EAGAIN: "cgroup.max.descendants or cgroup.max.depth of a parent is reached",
    }
    return DriverError(
        f"make cgroup {where}: {words_of(error.errno or 0)}",
        operation="make_cgroup",
        errno=error.errno or 0,
        path=where,
        pointer="/linux/cgroupsPath",
        hint=hints.get(error.errno or 0, ""),
    )
