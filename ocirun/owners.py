"""To which user namespace another one belongs (ioctl_nsfs(2)); only configs that join both load this."""

from __future__ import annotations

import fcntl
import posix

#: linux/nsfs.h
_NS_GET_USERNS = 0xB701


def is_foreign(network: str, users: str) -> bool:
    """Whether the network namespace at ``network`` belongs to another user namespace than that at ``users``.

    The kernel does not tell it of one above our own; and what is no namespace is told by who joins it.
    """
    try:
        owner = _owner(network)
        wanted = posix.stat(users)
    except PermissionError:
        return True
    except OSError:
        return False
    return (owner.st_dev, owner.st_ino) != (wanted.st_dev, wanted.st_ino)


def _owner(path: str) -> posix.stat_result:
    namespace = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
    finally:
        posix.close(namespace)
    try:
        return posix.fstat(owner)
    finally:
        posix.close(owner)
