"""The sockets shims listen on: where they are, and who of two that want the same one gets it.

The path is containerd's recipe, because it looks for leaked sockets there.  Whoever binds or removes one
holds the lock of their directory meanwhile, so that a group never gets two shims, and none is removed that a
new shim has just bound.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time

from ocirun.errors import HostError, StateError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
    from typing import Self
else:  # hashlib would load OpenSSL into every shim
    try:
        from _sha2 import sha256
    except ImportError:  # before Python 3.12
        from _sha256 import sha256

_LONGEST = 106  # containerd's own limit; sun_path holds 107 and a null byte (unix(7))
_BACKLOG = 4096  # as far as net.core.somaxconn lets (listen(2))
_PATIENCE, _PAUSE = 10.0, 0.002


def place() -> str:
    """Where shims have their sockets and the states of their containers: containerd's own place for root, and
    as much below the runtime directory of an ordinary user."""
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or "/run"
    return f"{runtime}/containerd"


def usual_directory() -> str:
    """Where shims listen, if containerd does not say otherwise (containerd 2.3: socket_dir)."""
    return f"{place()}/s"


def socket_path(directory: str, containerd: str, namespace: str, group: str) -> str:
    """The path of the socket of ``group``: a hash of containerd's address, the namespace and the group.

    ``containerd`` is the path of its gRPC socket as -address gives it.  Raises HostError where the path is
    too long for a socket.
    """
    joined = "/".join(part for part in (containerd, namespace, group) if part)
    cleaned = os.path.normpath(joined)
    if cleaned.startswith("//"):  # POSIX keeps two, Go's filepath.Join does not
        cleaned = cleaned[1:]
    path = f"{directory}/{sha256(os.fsencode(cleaned)).hexdigest()}"
    if len(os.fsencode(path)) > _LONGEST:
        raise HostError(
            f"the path of the shim's socket is too long: {path}",
            path=path,
            hint=f"containerd's socket_dir may have {_LONGEST - 65} bytes",
        )
    return path


class Lock:
    """The lock of a directory of sockets, made if it is missing (0700); lets go when the block ends."""

    __slots__ = ("_fd", "_patience", "directory")

    def __init__(self, directory: str, patience: float = _PATIENCE) -> None:
        self.directory = directory
        self._patience = patience
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            self._fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(
                f"the directory of the shims' sockets, {self.directory}: {words_of(error.errno or 0)}",
                path=self.directory,
                errno=error.errno or 0,
            ) from error
        try:
            lock(self._fd, self.directory, self._patience)
        except StateError:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # A child that was forked meanwhile has the descriptor too, and would keep the lock.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def lock(fd: int, name: str, patience: float = _PATIENCE) -> None:
    """Waits for flock(2) on ``fd``, ``patience`` seconds at most; raises StateError when others keep it."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise StateError(f"{name} is locked by another process", path=name) from None
            time.sleep(_PAUSE)
        else:
            return


def answers(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether somebody listens on the socket at ``path``; one whose queue is full does, too (connect(2))."""
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def bind(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A listening socket at ``path`` (0600), in the place of a dead one; hold the Lock meanwhile.

    Raises OSError (bind(2)).
    """
    unlink(path)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def unlink(path: str) -> None:
    """Removes the socket at ``path`` where there is one; raises OSError, and leaves other files alone."""
    try:
        if stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def remove_dead(path: str, patience: float = _PATIENCE) -> None:
    """Removes the socket at ``path`` unless somebody listens on it: a group's shim may have other members.

    Waits ``patience`` seconds for the lock at most.  Raises OSError, HostError or StateError where the
    directory cannot be locked.
    """
    if not os.path.lexists(path):
        return
    with Lock(os.path.dirname(path), patience):
        if not answers(path):
            unlink(path)
