"""Copying one stream of a container: from a pipe or a terminal into a FIFO, a file or a terminal.

Nothing here waits.  What cannot take more is waited for by the loop, and meanwhile nothing is read: a full
pipe is what slows the container down, as it would slow it down in front of any reader (pipe(7)).
SIGPIPE must be ignored by whoever runs this: a container may close its standard input at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_shim.loop import Loop, Timer, Watch

#: Read at once and, where a sink is slow, held in memory; the capacity of a terminal is below it.
CHUNK = 16384
#: Spliced at once: what a pipe holds, unless the container made its pipe larger (F_SETPIPE_SZ).
_SPLICED = 65536
#: What a flush moves at most: a survivor that keeps writing must not keep the shim.
_FLUSHED = 1 << 20
_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
#: How soon, and how seldom, a FIFO that nobody reads is looked at again, in seconds.
_SOON, _SELDOM = 0.02, 1.0
_NEWLINE = 10


def unread(fd: int) -> int:
    """How many bytes can be read from a pipe, a FIFO or a terminal (FIONREAD, ioctl_tty(2)); 0 if unknown."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), "little")
    except OSError:
        return 0


class Descriptors:
    """The descriptors of one process by name; each is closed once, by the name it was added with."""

    __slots__ = ("_fds",)

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def add(self, name: str, fd: int) -> int:
        """Owns ``fd`` from now on, in the place of what had that name, and gives it back."""
        self.shut(name)
        self._fds[name] = fd
        return fd

    def shut(self, *names: str) -> None:
        """Closes these; a name that is not there is closed already."""
        for name in names:
            fd = self._fds.pop(name, -1)
            if fd >= 0:
                os.close(fd)

    def shut_all(self) -> None:
        """Closes all that is left."""
        self.shut(*self._fds)

    def named(self) -> dict[str, int]:
        """What is open, by name."""
        return dict(self._fds)

    def __contains__(self, name: str) -> bool:
        return name in self._fds

    def __getitem__(self, name: str) -> int:
        return self._fds[name]


class Sink:
    """Where a stream ends: the descriptor ``name`` of ``owner``, which must be non-blocking.

    ``gone`` says that nothing will ever be taken again; ``lost`` counts the bytes that were dropped.
    """

    __slots__ = ("gone", "lost", "name", "owner", "spliced")

    def __init__(self, owner: Descriptors, name: str, *, spliced: bool = False) -> None:
        self.owner = owner
        self.name = name
        #: Whether the kernel can move pages there: not to files opened for appending, nor to terminals.
        self.spliced = spliced
        self.gone = False
        self.lost = 0

    @property
    def fd(self) -> int:
        """The descriptor to write to."""
        return self.owner[self.name]

    @property
    def rests(self) -> bool:
        """Whether nothing has to be done for it until somebody writes."""
        return True

    def put(self, data: memoryview) -> int:
        """Takes as much of ``data`` as it can without waiting and gives how much; 0 when it is full."""
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # EPIPE of a pipe that nobody reads any more, EIO of a terminal that hung up
            self.gone = True
            return 0

    def finish(self) -> None:
        """A stream that came here has ended."""
        self.owner.shut(self.name)

    def shut(self) -> None:
        """Closes it, whatever became of the streams."""
        self.owner.shut(self.name)


class FileSink(Sink):
    """A file to append to, maybe of two streams; never full, but a disk may be (write(2), ENOSPC, EIO).

    What cannot be written is dropped and counted, and the next write that works tells in the file how much
    was lost: a container must not stop because its log cannot grow.
    """

    __slots__ = ("_at_start", "_notice", "_reason", "_streams", "_untold")

    def __init__(self, owner: Descriptors, name: str, *, streams: int) -> None:
        super().__init__(owner, name)
        self._streams = streams
        self._at_start = True
        self._untold = 0
        self._reason = ""
        self._notice = b""

    def put(self, data: memoryview) -> int:
        """Writes ``data``, or drops it; 0 when a device that is no file is full."""
        try:
            self._tell()
            written = os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.drop(len(data), error.strerror or str(error))
            return len(data)
        self._at_start = data[written - 1] == _NEWLINE
        return written

    def drop(self, count: int, reason: str) -> None:
        """Counts what was lost, and why."""
        self.lost += count
        self._untold += count
        self._reason = reason

    def _tell(self) -> None:
        """Writes the notice of a loss, if one is due; raises OSError when there is still no room."""
        while self._notice or self._untold:
            if not self._notice:
                start = "" if self._at_start else "\n"
                notice = f"{start}ocirun: {self._untold} bytes of output were lost: {self._reason}\n".encode()
                self._notice = notice[os.write(self.fd, notice) :]
                self._untold = 0
            else:
                self._notice = self._notice[os.write(self.fd, self._notice) :]
            self._at_start = not self._notice

    @property
    def rests(self) -> bool:
        """Not while a loss is untold: the next write may tell it."""
        return not (self._untold or self._notice)

    def finish(self) -> None:
        """One stream less; after the last one what is still to be told is tried a last time."""
        self._streams -= 1
        if not self._streams:
            self.shut()

    def shut(self) -> None:
        """Closes the file."""
        if self.name in self.owner:
            with contextlib.suppress(OSError):  # still no room: `lost` has it
                self._tell()
            self.owner.shut(self.name)


class FifoSink(Sink):
    """A FIFO of the client, open for reading and writing: so it is never without a reader (fifo(7)).

    At the end of the stream a client that reads must see the end of the file, but what it has not read must
    not vanish while it is away (its restart, say): without a reader the FIFO stays open until one comes.
    """

    __slots__ = ("_delay", "_loop", "_timer")

    def __init__(self, owner: Descriptors, name: str, loop: Loop) -> None:
        super().__init__(owner, name, spliced=True)
        self._loop = loop
        self._timer: Timer | None = None
        self._delay = _SOON

    @property
    def rests(self) -> bool:
        """Not while it waits for a reader."""
        return self._timer is None

    def finish(self) -> None:
        """Closes it now, or as soon as somebody reads what is in it."""
        if not unread(self.fd):
            self.shut()
            return
        try:
            writer = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.shut()
            return
        # The old descriptor counted as a reader: now the kernel knows whether there is another one.
        self.owner.add(self.name, writer)
        self._look()

    def _look(self) -> None:
        self._timer = None
        poll = select.poll()
        poll.register(self.fd, 0)
        if any(events & select.POLLERR for _, events in poll.poll(0)):
            # Nothing wakes a writer when a reader comes, so this one looks again, seldom.
            self._timer = self._loop.call_at(self._loop.now() + self._delay, self._look)
            self._delay = min(2 * self._delay, _SELDOM)
        else:
            self.shut()

    def shut(self) -> None:
        """Closes it; what nobody has read is gone when no reader has it open."""
        if self._timer is not None:
            self._timer.cancel()
        self.owner.shut(self.name)


class Copier:
    """Copies the descriptor ``source`` to ``sink`` until its end, then calls ``ended`` once.

    ``source`` is non-blocking and stays the caller's.  At most one chunk is copied a turn of the loop, so
    that a container that never stops writing leaves time for the others.
    """

    __slots__ = ("_ended", "_from", "_held", "_loop", "_many", "_sink", "_source", "_spliced", "_to", "over")

    def __init__(
        self, loop: Loop, source: int, sink: Sink, ended: Callable[[], None], *, spliced: bool = True
    ) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._ended = ended
        self._spliced = spliced and sink.spliced
        #: Whether much is coming.  Only then it is spliced: a splice takes one of the sixteen slots of a pipe
        #: however few bytes it moves, and sixteen short lines would fill a FIFO that nobody reads.
        self._many = False
        self._held = b""
        self._to: Watch | None = None
        self.over = False
        self._from = loop.watch(source, select.EPOLLIN, self._readable)

    @property
    def rests(self) -> bool:
        """Whether it holds nothing, and waits for its source."""
        return self.over or (not self._held and self._to is None)

    def _readable(self, events: int) -> None:
        if self.over or self._held:
            return
        # Without EPOLLIN the source has ended, and with a full sink splice(2) would not say so.
        if not (self._many and events & select.EPOLLIN and self._splice()):
            self._copy()

    def _splice(self) -> bool:
        """Moves pages; False where the kernel cannot."""
        try:
            moved = os.splice(self._source, self._sink.fd, _SPLICED, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            self._block()
            return True
        except OSError:
            self._many = self._spliced = False
            return False
        self._many = moved >= CHUNK
        if not moved:
            self._end()
        return True

    def _copy(self) -> int:
        """Copies one chunk and gives its length, 0 at the end and when there is nothing."""
        try:
            data = os.read(self._source, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO is how the master of a terminal says that its last slave was closed (pty(7))
            data = b""
        if data:
            self._many = self._spliced and len(data) == CHUNK
            self._put(data)
        else:
            self._end()
        return len(data)

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and (taken := self._sink.put(rest)):
            rest = rest[taken:]
        self._held = bytes(rest)
        if self._sink.gone:
            self._end()
        elif rest:
            self._block()
        else:
            self._flow()

    def _writable(self, _events: int) -> None:
        if not self.over:
            self._put(self._held)

    def _block(self) -> None:
        """Reads nothing until the sink takes more."""
        self._from.change(0)
        if self._to is None:
            self._to = self._loop.watch(self._sink.fd, select.EPOLLOUT, self._writable)

    def _flow(self) -> None:
        if self._to is not None:
            self._to.close()
            self._to = None
        self._from.change(select.EPOLLIN)

    def flush(self) -> int:
        """Moves what can be moved without waiting; gives how many bytes of the source are left behind."""
        if not self.over and self._held:
            self._put(self._held)
        left = _FLUSHED
        while not (self.over or self._held) and left > 0:
            moved = self._copy()
            left = left - moved if moved else 0
        return 0 if self.over else len(self._held) + unread(self._source)

    def stop(self) -> None:
        """Copies no more, and tells nobody."""
        self.over = True
        self._held = b""
        self._from.close()
        if self._to is not None:
            self._to.close()
            self._to = None

    def _end(self) -> None:
        self.stop()
        self._ended()
