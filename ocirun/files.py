"""Reading and writing whole: read(2) and write(2) may do a part, so each needs its loop, and it is here; and
closing all but a few.

The bottom of the house: it imports nothing of ours, and nothing beyond the system calls.
"""

from __future__ import annotations

import posix

#: A file of the kernel is best had in one call: pieces would be of different moments.
_PIECE = 1 << 20
_S_IFMT, _S_IFREG = 0o170000, 0o100000  # stat.h
_EINVAL, _EFBIG = 22, 27
#: No descriptor has this number (NR_OPEN).
_BEYOND = 1 << 30


def read_whole(fd: int, most: int = -1) -> bytes:
    """What can be read from ``fd`` until its end; with ``most``, no more than a piece beyond that many bytes.

    Raises OSError (read(2)).
    """
    pieces: list[bytes] = []
    size = 0
    while piece := posix.read(fd, _PIECE):
        pieces.append(piece)
        size += len(piece)
        if 0 <= most < size:
            break
    return b"".join(pieces)


def read_regular(path: str, most: int) -> bytes:
    """The whole of ``path``, which others may have made: nobody waits for a pipe, or reads without end.

    Raises OSError, also EINVAL for what is no regular file (open(2)), and EFBIG for more than ``most`` bytes.
    """
    fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        if posix.fstat(fd).st_mode & _S_IFMT != _S_IFREG:
            raise OSError(_EINVAL, "", path)
        content = read_whole(fd, most)
    finally:
        posix.close(fd)
    if len(content) > most:
        raise OSError(_EFBIG, "", path)
    return content


def read_file(path: str, flags: int = 0) -> bytes:
    """The whole of the file ``path``, opened with ``flags`` beside the usual ones; raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | flags)
    try:
        return read_whole(fd)
    finally:
        posix.close(fd)


def write_file(path: str | bytes, content: bytes, flags: int = 0) -> None:
    """Writes ``content`` to a file that is there, opened with ``flags`` beside the usual ones.

    Raises OSError.
    """
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | flags)
    try:
        write_whole(fd, content)
    finally:
        posix.close(fd)


def write_whole(fd: int, content: bytes) -> None:
    """Writes ``content`` to ``fd`` however many calls it takes; raises OSError (write(2))."""
    left = memoryview(content)
    while left:
        left = left[posix.write(fd, left) :]


def is_there(path: str) -> bool:
    """Whether there is something at ``path``, through links; raises OSError but for ENOENT (stat(2))."""
    try:
        posix.stat(path)
    except FileNotFoundError:
        return False
    return True


def close_all_but(keep: set[int]) -> None:
    """Closes every descriptor from 3 on that is not in ``keep`` (close_range(2))."""
    start = 3
    for fd in sorted(fd for fd in keep if fd >= start):
        if fd > start:  # closerange of an empty range closes everything from there on
            posix.closerange(start, fd)
        start = fd + 1
    posix.closerange(start, _BEYOND)
