"""Passing on what a container says of itself to who started us, as runc does (sd_notify(3)).

The program gets a socket of ours, in a directory that is bound into it read-only: ``start`` binds it, another
process than ``create``.  Of what comes only the assignments of ALLOWED go on, never whom to watch or
descriptors to keep; and who leaves the container running tells that its init is the process to watch.
"""

from __future__ import annotations

import _socket
import posix as os
import time

from ocirun.errors import HostError, words_of
from ocirun.lifecycle.process import open_pidfd
from ocirun.lifecycle.start import start, start_locked
from ocirun.lifecycle.state import entries_of
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Config

    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task

#: The directory in the state of the container, the one in the container, and the socket in both.
DIRECTORY, INSIDE, _NAME = "notify", "/run/notify", "notify.sock"
#: What a container may say (sd_notify(3)).
ALLOWED = frozenset(
    b"READY STATUS ERRNO STOPPING RELOADING MONOTONIC_USEC WATCHDOG EXTEND_TIMEOUT_USEC".split()
)
_LONGEST = 65536
#: Messages in a row: who never stops to tell shall not keep us from signals and from his end.  No fewer than
#: may lie there when he ends (net.unix.max_dgram_qlen, which systemd sets to 512).
_AT_ONCE = 1024
#: Seconds for the manager to have room for one more message: while it reloads it reads nothing.
_PATIENCE = 30.0
#: Seconds for the manager to have read what we said, before we end and it could not tell any more who did.
_BARRIER = 5.0


def manager() -> str:
    """Where systemd listens to what its services say of themselves: a path, or, with an @, an abstract name;
    "" for no such place."""
    told = os.environ.get(b"NOTIFY_SOCKET", b"").decode("utf-8", "surrogateescape")
    return told if told[:1] in ("/", "@") else ""


def with_socket(config: Config, directory: str) -> Config:
    """``config`` whose container has the socket of the state ``directory``, and is told where."""
    joint = config.copy()
    joint["mounts"] = [
        *config.get("mounts", []),
        {
            "destination": INSIDE,
            "type": "bind",
            "source": f"{directory}/{DIRECTORY}",
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        },
    ]
    if "process" in config:
        process = config["process"].copy()
        others = [one for one in process.get("env", []) if not one.startswith("NOTIFY_SOCKET=")]
        process["env"] = [*others, f"NOTIFY_SOCKET={INSIDE}/{_NAME}"]
        joint["process"] = process
    return joint


def prepare(directory: str) -> None:
    """Makes the place of the socket in the state ``directory``."""
    before = os.umask(0o022)
    try:
        os.mkdir(f"{directory}/{DIRECTORY}", 0o755)
    finally:
        os.umask(before)


def listen(directory: str, host: str) -> Notifications:
    """The socket of the container of the state ``directory``, bound, for the manager at ``host``.

    Raises HostError when it cannot be bound.
    """
    ours = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)
    place = f"{directory}/{DIRECTORY}"
    try:
        fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        before = os.umask(0)  # any user may tell; to chmod it later would take its name once more
        try:  # through the descriptor: a path may be longer than the name of a socket
            ours.bind(f"/proc/self/fd/{fd}/{_NAME}")
        finally:
            os.umask(before)
            os.close(fd)
    except OSError as error:
        ours.close()
        raise HostError(
            f"listen for the container at {place}/{_NAME}: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            path=place,
        ) from error
    return Notifications(ours, host)


class Notifications:
    """The socket of a container, and where the manager of services listens: a path, or an abstract name that
    begins with an @; ``ready`` says whether the container has said so.

    While the manager has no room for a message nothing more is read: the container waits then, as it would
    for the manager itself.
    """

    __slots__ = ("_message", "_ours", "_sending", "_theirs", "ready")

    def __init__(self, ours: _socket.socket, host: str) -> None:
        self.ready = False
        self._ours = ours
        address = host.encode("utf-8", "surrogateescape")
        self._theirs = b"\0" + address[1:] if address[:1] == b"@" else address
        #: What is to be said next, and what it is to be said by, None when all was said.
        self._message: tuple[bytes, list[tuple[int, int, bytes]]] = (b"", [])
        self._sending: _socket.socket | None = None

    def wants(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The descriptors to read from and to write to now."""
        if self._sending is not None:
            return (), (self._sending.fileno(),)
        return (self._ours.fileno(),), ()

    def move(self, main: int = 0) -> None:
        """Passes on what is there; with ``main`` the first READY says that this is the process to watch.

        A carriage return ends a line as well: systemd would read what is behind it as one more assignment
        (src/core/manager.c, strv_split_newlines), and believe us what it would not believe the container.
        """
        for _ in range(_AT_ONCE):
            if not self._was_said():
                return
            try:
                data = self._ours.recv(_LONGEST)
            except OSError:
                return
            lines = [line for line in data.splitlines() if line.partition(b"=")[0] in ALLOWED]
            if b"READY=1" in lines and not self.ready:
                self.ready = True
                lines += [b"MAINPID=%d" % main] if main else []
            if lines:
                self._say(b"\n".join(lines))

    def _say(self, data: bytes, descriptor: int = -1) -> None:
        """A manager that is gone hears nothing, and the container goes on."""
        rights = descriptor.to_bytes(4, "little", signed=True)
        carried = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if descriptor >= 0 else []
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)
        try:
            socket.connect(self._theirs)  # poll(2) knows then whether there is room (net/unix/af_unix.c)
        except OSError:
            socket.close()
            return
        self._message, self._sending = (data, carried), socket
        self._was_said()

    def _was_said(self) -> bool:
        """Whether nothing is left to say; tries it."""
        if self._sending is None:
            return True
        data, carried = self._message
        try:
            self._sending.sendmsg([data], carried, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._drop()
        return True

    def _drop(self) -> None:
        if self._sending is not None:
            self._sending.close()
            self._sending = None

    def until_ready(self, pidfd: int, main: int) -> Task[None]:
        """Passes on until the container is ready or has ended, and the manager has read of it."""
        while not self.ready:
            reads, writes = self.wants()
            ended = yield Wait(reads=(*reads, pidfd), writes=writes)
            self.move(main)
            if pidfd in ended:
                break
        yield from self.finish(main)
        if self.ready:
            yield from self._barrier()

    def finish(self, main: int = 0) -> Task[None]:
        """Passes on what the container has said so far, as long as the manager takes it in time."""
        until = time.monotonic() + _PATIENCE
        self.move(main)
        while self._sending is not None and time.monotonic() < until:
            yield Wait(writes=(self._sending.fileno(),), until=until)
            self.move(main)
        self._drop()

    def _barrier(self) -> Task[None]:
        """Waits until the manager closes a descriptor that it gets (sd_notify_barrier(3))."""
        until = time.monotonic() + _BARRIER
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._say(b"BARRIER=1", writing)
            while not self._was_said() and self._sending is not None and time.monotonic() < until:
                yield Wait(writes=(self._sending.fileno(),), until=until)
            self._drop()
        finally:
            os.close(writing)
        try:
            yield Wait(reads=(reading,), until=until)
        finally:
            os.close(reading)

    def close(self) -> None:
        """Stops to listen; the socket stays where it is until the container is deleted."""
        self._drop()
        self._ours.close()


def start_until_ready(store: Store, container: str) -> Task[None]:
    """As ``start``; a container that was made with a socket is waited for until it is ready or has ended.

    Raises as ``start`` does.
    """
    host = manager()
    if not host or not _has_place(store.directory(container)):
        yield from start(store, container)
        return
    entries = entries_of(store, container)
    pidfd = open_pidfd(entries.pid, entries.start)
    notifications: Notifications | None = None
    try:
        notifications = yield from _start_heard(store, container, host)
        if notifications is not None and pidfd >= 0:
            yield from notifications.until_ready(pidfd, entries.pid)
    finally:
        if notifications is not None:
            notifications.close()
        if pidfd >= 0:
            os.close(pidfd)


def _start_heard(store: Store, container: str, host: str) -> Task[Notifications | None]:
    """Starts the container, and gives its bound socket, None where somebody else has bound it meanwhile.

    The lock is held all the while: a start that fails takes away the socket that it has bound, and no other.
    """
    lock = yield from store.lock(container)
    notifications: Notifications | None = None
    try:
        if _has_place(lock.path):
            notifications = listen(lock.path, host)
        yield from start_locked(lock)
    except BaseException:
        if notifications is not None:
            notifications.close()
            _unbind(lock.path)
        raise
    finally:
        lock.close()
    return notifications


def _unbind(directory: str) -> None:
    """Makes room for the socket of the next start; a container that did not start has made nothing there, and
    one that was deleted has no such place any more."""
    try:
        fd = os.open(f"{directory}/{DIRECTORY}", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.unlink(_NAME, dir_fd=fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def _has_place(directory: str) -> bool:
    """Whether the container of the state ``directory`` has a socket, and nobody has bound it yet."""
    try:
        return not os.listdir(f"{directory}/{DIRECTORY}")
    except OSError:
        return False
