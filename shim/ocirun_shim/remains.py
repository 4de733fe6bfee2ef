"""`delete`: ends and removes what is left of a container whose shim is gone, and tells how it ended.

containerd runs it after each Delete of a task too, when nothing is left; when the bundle is half gone; and at
times twice at once.
"""

from __future__ import annotations

import os
import socket
import time

from google.protobuf.timestamp_pb2 import Timestamp

from ocirun import journal
from ocirun.errors import StateError
from ocirun.files import read_file
from ocirun.jsontext import dumps
from ocirun.lifecycle.delete import delete as delete_container
from ocirun.lifecycle.process import exit_code, open_pidfd
from ocirun.lifecycle.store import Store
from ocirun.waiting import Wait, drive, wait
from ocirun_shim import events, log, sockets
from ocirun_shim.messages.task_pb2 import DeleteRequest, DeleteResponse
from ocirun_shim.options import RECORD
from ocirun_shim.records import members, read_record, write_record
from ocirun_shim.server import state_root
from ocirun_shim.service import REMAINS
from ocirun_shim.ttrpc import codes
from ocirun_shim.ttrpc.client import ClientConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirun_shim.arguments import Arguments

#: containerd's word for a status that nobody knows.
UNKNOWN = 255
_KILLED = 128 + 9
_NANO = 1_000_000_000
_CHUNK = 65536
#: containerd gives `delete` five seconds; of these a shim that still lives gets some.
_PATIENCE, _SHIMS_PATIENCE = 4.0, 2.0
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

    A shim that still lives does it itself: it may be in the middle of something that would never end.  Can
    be repeated, and run twice at once.  Raises OcirunError or OSError for what cannot be removed;
    containerd then keeps the bundle, and tries again when it starts next.
    """
    until = time.monotonic() + _PATIENCE
    bundle = find_bundle(arguments)
    fd = _open_directory(bundle)
    try:
        if fd >= 0:  # one at a time, so that the second finds what the first has recorded
            sockets.lock(fd, bundle, _PATIENCE)
        paths = _socket_paths(arguments, bundle)
        ended = _ended_by_shim(arguments.id, paths) or _end(arguments, bundle, until)
        events.replay(bundle, os.environ.get("TTRPC_ADDRESS", ""), arguments.namespace)
        for path in paths:
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


def _ended_by_shim(container: str, paths: Iterable[str]) -> Exit | None:
    """What a living shim says of the end of its container; None where none lives, or it has no such one."""
    for path in paths:
        payload = ask(path, "Remove", DeleteRequest(id=container), _SHIMS_PATIENCE)
        if payload is not None:
            ended = DeleteResponse.FromString(payload)
            when = ended.exited_at.seconds * _NANO + ended.exited_at.nanos
            return Exit(ended.pid, ended.exit_status, when)
    return None


def ask(path: str, method: str, request: DeleteRequest, patience: float) -> bytes | None:
    """The response of the shim that listens at ``path``; None where it does not answer, or refuses."""
    client = ClientConnection()
    client.call(REMAINS, method, request.SerializeToString())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        try:
            connection.connect(path)
            connection.sendall(client.take())
            while data := connection.recv(_CHUNK):
                for answer in client.feed(data):
                    return answer.payload if answer.code == codes.OK else None
        except OSError:
            return None
    return None


def _patiently(until: float) -> Callable[[Wait], tuple[int, ...]]:
    """Waits as ``drive`` does, but not beyond ``until``: whoever waits for us does not either."""

    def waiter(what: Wait) -> tuple[int, ...]:
        moment = until if what.until is None else min(what.until, until)
        ready = wait(Wait(what.reads, what.writes, moment))
        if not ready and time.monotonic() >= until:
            raise StateError("the container could not be deleted in time", hint="another one may be at it")
        return ready

    return waiter


def _end(arguments: Arguments, bundle: str, until: float) -> Exit:
    """Kills and deletes the container, and tells how it ended."""
    store = Store(_state_root(bundle, arguments.namespace))
    entries = journal.read(store.directory(arguments.id), lenient=True)
    pidfd = open_pidfd(entries.pid, entries.start)
    try:
        drive(delete_container(store, arguments.id, force=True), _patiently(until))
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
        sockets.socket_path(
            sockets.usual_directory(), arguments.text("address"), arguments.namespace, arguments.id
        )
    }
    try:
        address = read_file(f"{bundle}/address").decode()
    except (OSError, ValueError):
        return found
    if address.startswith("unix:///"):
        found.add(address.removeprefix("unix://"))
    return found
