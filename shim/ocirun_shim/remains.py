"""`delete`: ends and removes what is left of a container whose shim is gone, and tells how it ended.

containerd runs it after each Delete of a task too, when nothing is left; when the bundle is half gone; and at
times twice at once.
"""

from __future__ import annotations

import os
import time

from google.protobuf.timestamp_pb2 import Timestamp

from ocirun import journal
from ocirun.files import read_file
from ocirun.jsontext import dumps
from ocirun.lifecycle.delete import delete as delete_container
from ocirun.lifecycle.process import exit_code, open_pidfd
from ocirun.lifecycle.store import Store
from ocirun.waiting import Wait, drive, wait
from ocirun_shim import events, log, sockets
from ocirun_shim.messages.task_pb2 import DeleteResponse
from ocirun_shim.options import RECORD
from ocirun_shim.records import members, read_record, write_record
from ocirun_shim.server import state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_shim.arguments import Arguments

#: containerd's word for a status that nobody knows.
UNKNOWN = 255
_KILLED = 128 + 9
_NANO = 1_000_000_000
#: containerd gives `delete` five seconds.
_PATIENCE = 4.0
_REAPING, _PAUSE = 0.2, 0.005


class Exit:
    """How init ended: ``pid``, ``status`` as a shell has it, ``when`` in nanoseconds after 1970."""

    __slots__ = ("pid", "status", "when")

    def __init__(self, pid: int, status: int, when: int) -> None:
        self.pid = pid
        self.status = status
        self.when = when


def delete(arguments: Arguments) -> bytes:
    """Removes the container and its socket; gives containerd.task.v2.DeleteResponse.

    Can be repeated, and run twice at once.  Raises OcirunError or OSError for what cannot be removed;
    containerd then keeps the bundle, and tries again when it starts next.
    """
    bundle = find_bundle(arguments)
    fd = _open_directory(bundle)
    try:
        if fd >= 0:  # one at a time, so that the second finds what the first has recorded
            sockets.lock(fd, bundle, _PATIENCE)
        ended = _end(arguments, bundle)
        events.replay(bundle, os.environ.get("TTRPC_ADDRESS", ""), arguments.namespace)
        for path in _socket_paths(arguments, bundle):
            sockets.remove_dead(path)
    finally:
        if fd >= 0:
            os.close(fd)
    when = Timestamp(seconds=ended.when // _NANO, nanos=ended.when % _NANO)
    return DeleteResponse(pid=ended.pid, exit_status=ended.status, exited_at=when).SerializeToString()


def find_bundle(arguments: Arguments) -> str:
    """The bundle: -bundle, else the directory of that id beside the working directory, "" if that is gone."""
    if named := arguments.text("bundle"):
        return named
    try:
        return os.path.join(os.path.dirname(os.getcwd()), arguments.id)
    except FileNotFoundError:
        return ""


def _open_directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if path else -1
    except OSError:
        return -1


def _end(arguments: Arguments, bundle: str) -> Exit:
    """Kills and deletes the container, and tells how it ended."""
    store = Store(_state_root(bundle, arguments.namespace))
    entries = journal.read(store.directory(arguments.id), lenient=True)
    pidfd = open_pidfd(entries.pid, entries.start)
    try:
        drive(delete_container(store, arguments.id, force=True))
        recorded = read_exit(bundle)
        if recorded or not entries.pid:
            return recorded or Exit(0, UNKNOWN, time.time_ns())
        ended = Exit(entries.pid, _status(pidfd), time.time_ns())
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    _record_exit(bundle, ended)
    return ended


def _state_root(bundle: str, namespace: str) -> str:
    """Where the shim said that the state is, else the usual place."""
    named = members(read_record(bundle, RECORD)).get("root")
    return named if isinstance(named, str) and named.startswith("/") else state_root(namespace)


def _status(pidfd: int) -> int:
    """The status of a process that has ended, which the kernel tells once somebody has reaped it."""
    until = time.monotonic() + _REAPING
    while pidfd >= 0 and time.monotonic() < until:
        code = exit_code(pidfd)
        if code is not None:
            return code >> 8 if code & 0x7F == 0 else 128 + (code & 0x7F)
        wait(Wait(until=time.monotonic() + _PAUSE))
    return _KILLED


def read_exit(bundle: str) -> Exit | None:
    """What the shim, or an earlier `delete`, has recorded in the bundle (exit.json); None without it."""
    record = members(read_record(bundle, "exit.json"))
    pid, status, when = (record.get(name) for name in ("pid", "exit_status", "exited_at_ns"))
    if isinstance(pid, int) and isinstance(status, int) and isinstance(when, int):
        return Exit(pid, status, when)
    return None


def _record_exit(bundle: str, ended: Exit) -> None:
    """Writes exit.json, as far as there is a bundle: whoever asks again gets the same answer."""
    text = dumps({"pid": ended.pid, "exit_status": ended.status, "exited_at_ns": ended.when})
    try:
        write_record(bundle, "exit.json", text)
    except OSError as error:
        log.debug(f"the end is not recorded: {error}")


def _socket_paths(arguments: Arguments, bundle: str) -> set[str]:
    """Where the shim may have listened: what `start` wrote, and where a container without a group has it."""
    found = {
        sockets.socket_path(sockets.DIRECTORY, arguments.text("address"), arguments.namespace, arguments.id)
    }
    try:
        address = read_file(f"{bundle}/address").decode()
    except (OSError, ValueError):
        return found
    if address.startswith("unix:///"):
        found.add(address.removeprefix("unix://"))
    return found
