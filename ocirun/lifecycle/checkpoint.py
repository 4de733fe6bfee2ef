"""Takes a checkpoint of a container: criu writes its processes into files, and it ends, or runs on.

Beside the images lies descriptors.json, as runc and crun have it: what 0, 1 and 2 of init were, so that a
restore can put its own in their place.
"""

from __future__ import annotations

import os
import stat

from ocirun import journal
from ocirun.cgroup.files import is_gone, set_frozen
from ocirun.criu import failure, mounts, requests, service
from ocirun.errors import HostError, RemovalError, StateError, words_of
from ocirun.files import read_file, write_whole
from ocirun.jsontext import dumps
from ocirun.lifecycle import notify
from ocirun.lifecycle.frozen import frozen
from ocirun.lifecycle.images import DESCRIPTORS, Images
from ocirun.lifecycle.resolve import resolver
from ocirun.lifecycle.state import PAUSED, RUNNING, State
from ocirun.lifecycle.undo import despite, ignore, undo
from ocirun.planner.ownership import DELEGATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Config

    from ocirun.criu.messages import Field
    from ocirun.errors import Fault
    from ocirun.journal import Journal
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.waiting import Task

LOG = "dump.log"
#: The majors of terminals: those of the caller, and pseudo ones (devices.txt of the kernel).
_TERMINALS = (4, 5, *range(136, 144))


def checkpoint(
    store: Store,
    container: str,
    wanted: requests.Dump,
    warn: Callable[[Fault], None] = ignore,
    *,
    keep: bool = False,
) -> Task[None]:
    """Writes the processes of a running or paused container into ``wanted.images``.

    Unless they are to be left running the container has ended then, and is deleted as with runc and crun, or
    stays to be deleted (``keep``).
    Raises HostError where criu is missing or fails (the container goes on as before, and the images are those
    that were there), StateError for a container that does not run.  A RemovalError that is thrown into it
    ends criu at once, and not only when it has put everything back.
    """
    check_root("checkpoint")
    program = service.find()
    lock = yield from store.lock(container)
    try:
        entries = journal.read(lock.path)
        _check_status(State(container, entries).status)
        _check_notify(lock.path, entries.pid)
        yield from _dump(lock, entries, wanted, program)
        if not (keep or wanted.leave_running or wanted.pre_dump):
            yield from undo(lock, warn=warn)
    finally:
        lock.close()


def check_root(doing: str) -> None:
    """Raises HostError for who is not root: criu writes into the memory of others, and makes what only root
    may."""
    if os.geteuid() != 0:
        raise HostError(f"only root can {doing} a container", hint="criu needs it; sudo, for example")


def _check_status(status: str) -> None:
    if status not in (RUNNING, PAUSED):
        raise StateError(
            f"cannot checkpoint a container in the {status} state",
            hint="start it first" if status == "created" else "",
        )


def _check_notify(directory: str, pid: int) -> None:
    """Raises HostError where the socket for sd_notify(3) is mounted: it belongs to this container alone."""
    if not os.path.isdir(f"{directory}/{notify.DIRECTORY}"):
        return
    present = mounts.rows(read_file(f"/proc/{pid}/mountinfo").decode("utf-8", "surrogateescape"))
    if any(row.point == notify.INSIDE for row in present):
        raise HostError(
            f"a container that was given NOTIFY_SOCKET cannot be checkpointed: {notify.INSIDE} is the host's",
            hint="create it without NOTIFY_SOCKET",
            code="criu",
        )


def _check_delegate(config: Config) -> None:
    """Raises HostError for what no restore could make again: criu puts all processes into one cgroup."""
    if DELEGATE in config.get("annotations", {}):
        raise HostError(
            f"a container with {DELEGATE} cannot be checkpointed: it could not be restored, as criu puts all "
            "processes into one cgroup",
            pointer=f"/annotations/{DELEGATE}",
            hint="create it without that annotation",
            code="criu",
        )


def _dump(lock: Lock, entries: Journal, wanted: requests.Dump, program: str) -> Task[None]:
    config = frozen(lock.path, entries)
    _check_delegate(config)
    images = service.directory(wanted.images, make=True)
    work = None
    kept = Images(images)
    try:
        work = service.directory(wanted.work, make=True)
        _check_parent(images, wanted)
        _make_room(kept, wanted.images)
        try:
            yield from _ask(entries, config, wanted, program, images, work)
        except BaseException:
            kept.put_back()
            raise
        kept.forget_earlier()
    finally:
        os.close(images)
        if work is not None:
            os.close(work)


def _make_room(kept: Images, path: str) -> None:
    try:
        kept.set_aside()
    except OSError as error:
        raise HostError(
            f"write to {path}: {words_of(error.errno or 0)}", errno=error.errno or 0, path=path, code="criu"
        ) from error


def _ask(
    entries: Journal, config: Config, wanted: requests.Dump, program: str, images: int, work: int
) -> Task[None]:
    # memory alone is written without a look at what surrounds it
    outside, files = ([], []) if wanted.pre_dump else _outside(entries, config, images)
    fields = [
        *requests.common(wanted, config, images, work, LOG),
        *requests.left_out(config, _inodes(entries.pid)),
        *requests.dump(wanted, entries.pid, str(entries.head["rootfs"]), entries.cgroup, outside),
        *files,
    ]
    _remove(work, LOG)
    yield from _converse(entries, wanted, fields, program)


def _outside(entries: Journal, config: Config, images: int) -> tuple[list[tuple[str, str]], list[Field]]:
    """What of the container comes from outside: mounts, and files that it was started with, of which a note
    is left beside the images."""
    pid = entries.pid
    present = mounts.rows(read_file(f"/proc/{pid}/mountinfo").decode("utf-8", "surrogateescape"))
    told = _descriptors(pid, present)
    _write_descriptors(images, told)
    found = mounts.of_dump(config, present, resolver(f"/proc/{pid}/root"))
    return found, [(37, name) for name in dict.fromkeys(told) if name[:5] == "file["]


def _inodes(pid: int) -> dict[str, int]:
    kinds = [kind for kind, _ in requests.EXTERNAL.values()]
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in kinds}


def _check_parent(images: int, wanted: requests.Dump) -> None:
    if not wanted.parent:
        return
    try:
        if wanted.parent.startswith("/"):
            raise HostError("--parent-path must be relative to the images", path=wanted.parent, code="criu")
        os.close(os.open(wanted.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=images))
    except OSError as error:
        raise HostError(
            f"--parent-path {wanted.parent}: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            path=wanted.parent,
            hint="it is the directory of an earlier checkpoint, relative to the images",
            code="criu",
        ) from error


def _descriptors(pid: int, present: list[mounts.Row]) -> list[str]:
    """What 0, 1 and 2 of init are, in criu's names: a pipe, a file that is on none of its mounts, else the
    path, which it finds by itself."""
    numbers = {row.number for row in present}
    return [_descriptor(f"/proc/{pid}/fd/{fd}", f"/proc/{pid}/fdinfo/{fd}", numbers) for fd in range(3)]


def _descriptor(link: str, info: str, numbers: set[int]) -> str:
    try:
        target, facts = os.readlink(link), os.stat(link)
        told = dict(line.split(":", 1) for line in read_file(info).decode().split("\n") if ":" in line)
    except OSError:  # it has closed it
        return ""
    mount = int(told["mnt_id"])
    if target[:1] != "/" or mount in numbers or _is_terminal(facts):
        return target
    return f"file[{mount:x}:{facts.st_ino:x}]"


def _is_terminal(facts: os.stat_result) -> bool:
    return stat.S_ISCHR(facts.st_mode) and os.major(facts.st_rdev) in _TERMINALS


def _write_descriptors(images: int, told: list[str]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(DESCRIPTORS, flags, 0o600, dir_fd=images)
    try:
        write_whole(fd, dumps(told).encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def _converse(entries: Journal, wanted: requests.Dump, fields: list[Field], program: str) -> Task[None]:
    was_paused = State(str(entries.head["id"]), entries).status == PAUSED
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        criu = service.Service(program, (null, null, null), session=wanted.shell_job)
    finally:
        os.close(null)
    kind = requests.PRE_DUMP if wanted.pre_dump else requests.DUMP
    try:
        yield from criu.begun()
        answer = yield from criu.ask(requests.request(kind, fields), _go_on)
        failure.judge("checkpoint", f"{wanted.work}/{LOG}", answer)
        yield from criu.end()
    except BaseException as error:
        at_once = isinstance(error, RemovalError)  # whose memory it is in will not go on
        yield from despite(error, "ending criu", criu.end(at_once=at_once))
        criu.abandon()
        if entries.cgroup and not was_paused:  # had it been killed, nobody else would
            _thaw(entries.cgroup)
        raise


def _go_on(name: str, pid: int, fds: list[int]) -> Task[None]:
    del name, pid, fds
    yield from ()


def _thaw(where: str) -> None:
    try:
        set_frozen(where, frozen=False)
    except OSError as error:
        if not is_gone(error):
            raise


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
