"""A file system that never answers, as of a server that is gone: FUSE, with this process as its server."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time
from typing import TYPE_CHECKING

from tests.host import kernel

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

#: Operations of fuse(4), struct fuse_in_header.opcode.
LOOKUP, GETATTR, OPEN, INIT = 1, 3, 14, 26
_IN = struct.Struct("IIQQIIII")
_OUT = struct.Struct("IiQ")
#: struct fuse_init_out: of version 7.31, with nothing that we could do.
_INIT_OUT = struct.Struct("IIIIHHIIHHI28x")
_LONGEST = 1 << 20


class Hanging:
    """The mount at ``point``: what was asked of it is never answered, INIT excepted."""

    def __init__(self, point: Path) -> None:
        self.point = point
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        #: The operations that were asked for, in order.
        self.asked: list[int] = []

    def mount(self) -> None:
        """Mounts it and answers INIT, without which nothing else is ever asked."""
        data = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0"
        kernel.mount("hanging", self.point, "fuse", data=data)
        self.read(30)
        answer = _INIT_OUT.pack(7, 31, 65536, 0, 16, 12, 65536, 1, 1, 0, 0)
        os.write(self.fd, _OUT.pack(_OUT.size + len(answer), 0, self._unique) + answer)

    def asks(self, seconds: float) -> bool:
        """Whether something is asked within ``seconds``; it is not read, so the asker can still be killed."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def read(self, seconds: float) -> None:
        """Reads what is asked within ``seconds``: whoever asked now waits for us, whatever kills it.

        Raises TimeoutError when nothing is asked.
        """
        until = time.monotonic() + seconds
        before = len(self.asked)
        while len(self.asked) == before:
            if time.monotonic() > until or not self.asks(seconds):
                message = "nobody asks the hanging file system for anything"
                raise TimeoutError(message)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):  # ENOENT: who asked was killed
                request = _IN.unpack_from(os.read(self.fd, _LONGEST))
                self.asked.append(request[1])
                self._unique = request[2]

    def close(self) -> None:
        """Ends the hang: whoever waits gets ECONNABORTED, whoever comes ENOTCONN."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextlib.contextmanager
def hanging(point: Path) -> Generator[Hanging]:
    """Mounts a hanging file system at ``point``, a new directory, in this mount namespace."""
    point.mkdir()
    one = Hanging(point)
    try:
        one.mount()
        yield one
    finally:
        one.close()
        with contextlib.suppress(OSError):  # mount(2) has failed
            kernel.umount(point, kernel.MNT_DETACH)
