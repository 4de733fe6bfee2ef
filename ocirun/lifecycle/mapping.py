"""Writes the mappings of the user namespace that the helper of an ordinary user has entered.

The caller's own id he may map himself, after he has renounced setgroups(2); for more there are newuidmap and
newgidmap, which have the right to it and know from /etc/subuid and /etc/subgid who got which ids
(user_namespaces(7), newuidmap(1)).
"""

from __future__ import annotations

import fcntl
import posix as os
import time

from ocirun.errors import HostError, words_of
from ocirun.executor.run import ALL_SIGNALS
from ocirun.files import write_file
from ocirun.subids import name_of, ranges_of, read_text
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.run import Execution
    from ocirun.plan.compile import Program
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

#: Seconds for newuidmap, which may ask a name service, and how much of its words is kept.
_PATIENCE, _WORDS = 30.0, 2048
#: The file of mappings -> the member of the config, the file of who got which ids, the option of usermod(8).
_SIDES = {
    "uid_map": ("uidMappings", "/etc/subuid", "--add-subuids"),
    "gid_map": ("gidMappings", "/etc/subgid", "--add-subgids"),
}


def prepare(execution: Execution, program: Program) -> None:
    """Has ``execution`` enter the user namespace of the step in ``program`` before the helper's first."""
    verbs = ("make_user_namespace", "enter_user_namespace")
    index, step = next(one for one in program.before if one[1].verb in verbs)
    execution.users = index
    if step.verb == "make_user_namespace":
        execution.map_users = _mapper(step)
    else:
        execution.joined = str(step.args[0])


def _mapper(step: Step) -> Callable[[int], Task[None]]:
    def write(pid: int) -> Task[None]:
        uids, gids, newuidmap, newgidmap = map(str, step.args)
        if os.readlink("/proc/self") != str(os.getpid()):
            raise HostError(
                "/proc is not that of this pid namespace", path="/proc", hint="mount a procfs there"
            )
        yield from _map(pid, "uid_map", uids, newuidmap)
        if not newgidmap:
            _write(pid, "setgroups", "deny")
        yield from _map(pid, "gid_map", gids, newgidmap)

    return write


def _map(pid: int, file: str, text: str, program: str) -> Task[None]:
    if not program:
        _write(pid, file, text)
        return
    status, words = yield from _run([program, str(pid), *text.split()])
    if status:
        raise _refused(file, text, program, words or f"it ended with the wait status {status}")


def _write(pid: int, file: str, text: str) -> None:
    path = f"/proc/{pid}/{file}"
    try:
        write_file(path, text.encode(), os.O_NOFOLLOW)
    except OSError as error:
        member = _SIDES[file][0] if file in _SIDES else "gidMappings"
        raise HostError(
            f"write {path}: {words_of(error.errno or 0)}",
            pointer=f"/linux/{member}",
            operation="make_user_namespace",
            errno=error.errno or 0,
            path=path,
            hint="is this a user namespace without a mapping of your own id, or a filter of system calls?",
        ) from error


def _run(words: list[str]) -> Task[tuple[int, str]]:
    """Runs a program of the host to its end: its wait status, and what it printed."""
    source, sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            pid = _spawn(words, sink)
        finally:
            os.close(sink)
        ended, status = yield from _end(pid)
        told = _read(source).decode("utf-8", "replace").strip()
    except OSError as error:
        return 1, words_of(error.errno or 0)
    finally:
        os.close(source)
    return status, told if ended else f"it did not end within {_PATIENCE:.0f} seconds"


def _end(pid: int) -> Task[tuple[bool, int]]:
    """Whether it has ended by itself, and its wait status."""
    pidfd = os.pidfd_open(pid)
    ended: tuple[int, ...] = ()
    status = 0
    try:
        ended = yield Wait(reads=(pidfd,), until=time.monotonic() + _PATIENCE)
    finally:
        os.close(pidfd)
        status = _reaped(pid)
    return bool(ended), status


def _spawn(words: list[str], sink: int) -> int:
    high = fcntl.fcntl(sink, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        return os.posix_spawn(
            words[0],
            words,
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, high, 1),
                (os.POSIX_SPAWN_DUP2, high, 2),
            ],
            setsigmask=(),
            setsigdef=ALL_SIGNALS,
        )
    finally:
        os.close(high)


def _reaped(pid: int) -> int:
    """Its wait status; what still runs is killed, which its real user may."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, 9)
        _, status = os.waitpid(pid, 0)
    return status


def _read(source: int) -> bytes:
    try:
        return os.read(source, _WORDS)
    except BlockingIOError:
        return b""


# -- why it refused


def _refused(file: str, text: str, program: str, words: str) -> HostError:
    member, granted, option = _SIDES[file]
    own = os.geteuid() if file == "uid_map" else os.getegid()
    user = name_of(read_text("/etc/passwd"), os.geteuid())
    ranges = ranges_of(read_text(granted), user, os.geteuid())
    pointer, hint = f"/linux/{member}", ""
    for number, line in enumerate(text.splitlines()):
        _, first, size = map(int, line.split())
        alone = size == 1 and first == own
        if not alone and not any(start <= first and first + size <= start + count for start, count in ranges):
            pointer = f"{pointer}/{number}"
            told = " and ".join(f"{start} to {start + count - 1}" for start, count in ranges)
            hint = (
                f"{granted} gives {user} {f'the ids {told}' if told else 'no ids'}, this takes {first} to "
                f"{first + size - 1}; as root: usermod {option} {first}-{first + size - 1} {user}"
            )
            break
    return HostError(
        f"{program} refused: {words}",
        pointer=pointer,
        operation="make_user_namespace",
        path=program,
        hint=hint
        or f"it must be setuid root or have cap_setuid and cap_setgid, not on a nosuid mount: {program}",
    )
