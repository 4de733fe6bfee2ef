"""The state directory: one directory (0700) a container, named by its id, below the root of the store.

    ROOT/ID/config.json   the config as it was at create; nothing reads the bundle again
    ROOT/ID/journal       ocirun.journal
    ROOT/ID/gate, proof   the FIFOs of the start handshake, until start

One lock a container: flock(2) on its directory.  A command that made or found the directory and then got the
lock looks whether the directory is still the one of that name, for a delete may have removed it in between.
"""

from __future__ import annotations

import errno
import fcntl
import posix as os
import time

from ocirun import paths
from ocirun.errors import EXHAUSTED, StateError, words_of
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.waiting import Task

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")
_LONGEST = 255  # NAME_MAX: it is the name of a directory
_PATIENCE, _PAUSE = 30.0, 0.005
#: All that is ever made in a state directory.
_OURS = frozenset(("config.json", "journal", "gate", "proof", "notify"))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def check_id(container: str) -> None:
    """Raises StateError unless ``container`` is an id as runc and crun know it."""
    if not container:
        raise StateError("the container id is empty", code="container-id-invalid")
    bad = sorted({letter for letter in container if letter not in _ALLOWED})
    if bad or container[0] == "." or len(container) > _LONGEST:
        found = (
            f"it has {' '.join(repr(letter) for letter in bad)}"
            if bad
            else "it begins with a dot or is too long"
        )
        raise StateError(
            f"invalid container id format: {container[:64]!r}: {found}",
            code="container-id-invalid",
            hint="an id has letters, digits and _ + - . and does not begin with a dot",
        )


class Store:
    """The root of all state directories of one user; made on first use (0711, as its parents are)."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = paths.absolute(root)

    def directory(self, container: str) -> str:
        """The state directory of ``container``; raises StateError for an id that cannot be one."""
        check_id(container)
        return paths.join(self.root, container)

    def ids(self) -> list[str]:
        """The ids of all containers, sorted."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise state_io(error, "list the state directory", self.root) from error
        return sorted(name for name in names if not name.startswith("."))

    def make(self, container: str) -> Lock:
        """Makes the state directory; raises StateError where it exists or cannot be made."""
        path = self.directory(container)
        try:
            self._make(path)
        except FileExistsError:
            raise StateError(
                f"container with given ID already exists: {container}",
                code="container-exists",
                hint=f"choose another id, or remove it with `ocirun delete {container}`",
            ) from None
        except OSError as error:
            raise state_io(error, "make the state directory", path) from error
        try:
            return Lock(path, os.open(path, _DIRECTORY), container)
        except FileNotFoundError:
            raise StateError(f"container {container} was deleted while it was being created") from None
        except OSError as error:
            os.rmdir(path)
            raise state_io(error, "open the state directory", path) from error

    def _make(self, path: str) -> None:
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:  # the first container of this user
            from os import makedirs

            makedirs(self.root, 0o711, exist_ok=True)
            os.mkdir(path, 0o700)

    def lock(self, container: str, patience: float = _PATIENCE) -> Task[Lock]:
        """Waits for the lock of an existing container; raises StateError when there is none of that id, or
        somebody keeps it for more than ``patience`` seconds."""
        path = self.directory(container)
        until = time.monotonic() + patience
        while True:
            lock = Lock(path, self._open(path, container), container)
            try:
                yield from lock.wait(until)
            except BaseException:
                lock.close()
                raise
            if lock.is_current():
                return lock
            lock.close()

    @staticmethod
    def _open(path: str, container: str) -> int:
        try:
            return os.open(path, _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise unknown(container) from None
            raise state_io(error, "open the state directory", path) from error


class Lock:
    """A state directory held under its lock; ``close`` lets go."""

    __slots__ = ("_fd", "container", "path")

    def __init__(self, path: str, fd: int, container: str) -> None:
        self.path = path
        self._fd = fd
        self.container = container

    def acquire(self) -> bool:
        """Tries to get the lock; False while somebody else has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self, until: float = 0.0) -> Task[None]:
        """Waits for the lock, to the moment ``until`` at most (0: as long as is usual).

        Raises StateError when somebody keeps it.
        """
        until = until or time.monotonic() + _PATIENCE
        while not self.acquire():
            if time.monotonic() > until:
                raise StateError(
                    f"container {self.container} is locked by another command",
                    hint="another ocirun works on it: wait for it, or end it and try again",
                )
            yield Wait(until=time.monotonic() + _PAUSE)

    def is_current(self) -> bool:
        """Whether the locked directory is still the one its path leads to."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def remove(self) -> None:
        """Removes the state directory and what we made in it.

        Raises StateError, and has removed nothing then, where something else is in it: with a wrong --root it
        may be anybody's directory.
        """
        try:
            names = os.listdir(self._fd)
            if strangers := sorted(set(names) - _OURS):
                raise _not_ours(self.path, strangers)
            for name in names:
                _remove(name, self._fd)
            os.rmdir(self.path)
        except OSError as error:
            raise state_io(error, "remove the state directory", self.path) from error

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._fd)


def _remove(name: str, directory: int) -> None:
    """One of our names; that of the notifications is a directory with a socket, and with what root of the
    container has made there, who may mount it anew for writing."""
    if name != "notify":
        os.unlink(name, dir_fd=directory)
        return
    fd = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        while inner := os.listdir(fd):
            for one in inner:
                try:
                    os.unlink(one, dir_fd=fd)
                except IsADirectoryError:
                    _flatten(one, fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)


def _flatten(name: str, above: int) -> None:
    """Removes a directory, what is in it being moved ``above`` first: by names that nothing has, so that no
    depth is too deep."""
    fd = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        inside, taken = os.listdir(fd), set(os.listdir(above))
        free = (number for number in range(len(inside) + len(taken)) if str(number) not in taken)
        for one, number in zip(inside, free, strict=False):
            os.rename(one, str(number), src_dir_fd=fd, dst_dir_fd=above)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=above)


def _not_ours(path: str, strangers: list[str]) -> StateError:
    return StateError(
        f"{path} is no state directory: it holds {', '.join(strangers[:3])}",
        path=path,
        code="state-io",
        hint="is --root right? What is not ours is not removed",
    )


def unknown(container: str) -> StateError:
    """The error for an id that no container has, in the words engines look for."""
    return StateError(
        f"container {container!r} does not exist",
        code="container-unknown",
        hint="`ocirun list` shows those that do",
    )


#: The way out, by errno.
HINTS = {
    errno.ENOSPC: "the file system is full: free space, or use --root elsewhere for the state",
    errno.EACCES: "ocirun runs as root, or with --root at a directory of your own",
    errno.EROFS: "the place must be writable: use --root elsewhere for the state",
    **EXHAUSTED,
}


def state_io(error: OSError, operation: str, path: str) -> StateError:
    """An OSError of the state directory as ours, with the cure where one is known."""
    told = ""
    if error.errno == errno.EACCES:
        from ocirun.walk import why_denied

        told = why_denied(path)
    return StateError(
        f"{operation} {path}: {words_of(error.errno or 0)}",
        operation=operation,
        errno=error.errno or 0,
        path=path,
        hint=told or HINTS.get(error.errno or 0, ""),
        code="out-of-resources" if error.errno in EXHAUSTED else "state-io",
    )
