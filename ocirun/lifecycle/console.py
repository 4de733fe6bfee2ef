"""The host's side of a terminal: handing the master over, or passing bytes between it and our own."""

from __future__ import annotations

import _socket
import errno
import fcntl
import posix as os
import sys
import time

from ocirun.errors import HostError, words_of
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.waiting import Task

# The calls behind tcgetattr(3) and tcsetattr(3) (asm-generic/ioctls.h): termios is no module of the core.
_TCGETS, _TCSETS, _TCSETSW, _TIOCGWINSZ, _TIOCSWINSZ = 0x5401, 0x5402, 0x5403, 0x5413, 0x5414
#: The size of struct termios: four words of flags, c_line and c_cc (asm-generic/termbits.h).
_TERMIOS = 36
#: What cfmakeraw(3) clears and sets in each word of flags.
_RAW = (
    (0o2462, 0),  # BRKINT, INPCK, ISTRIP, ICRNL, IXON
    (0o1, 0),  # OPOST
    (0o460, 0o60),  # CSIZE, PARENB; CS8
    (0o100013, 0),  # ISIG, ICANON, ECHO, IEXTEN
)
_CHUNK = 65536
_PATIENCE = 10.0
#: A survivor that keeps writing must not keep us for ever.
_TERMINAL_HOLDS = 1 << 20


def send_console(path: str, master: int) -> Task[None]:
    """Sends the master of a terminal to the AF_UNIX stream socket at ``path``, with its name as the data.

    Raises HostError when nobody listens there.
    """
    what = "the terminal to the console socket"
    yield from send_descriptor(path, master, b"/dev/ptmx", what, "/process/terminal")


def send_pidfd(path: str, pidfd: int, pointer: str = "") -> Task[None]:
    """Sends a pidfd to the AF_UNIX stream socket at ``path``, as ``send_console``; raises HostError, with the
    ``pointer`` of what named the socket."""
    yield from send_descriptor(path, pidfd, b"pidfd", "the pidfd to the socket", pointer)


def send_descriptor(path: str, fd: int, data: bytes, what: str, pointer: str) -> Task[None]:
    """Sends one descriptor with its name, or what else there is to say of it (unix(7), SCM_RIGHTS), by a
    connection of its own to ``path``; raises HostError, in which it is called ``what``."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
    until = time.monotonic() + _PATIENCE
    try:
        while (number := sock.connect_ex(path)) == errno.EAGAIN and time.monotonic() < until:
            yield Wait(until=time.monotonic() + 0.01)  # its backlog is full
        if number:
            raise OSError(number, os.strerror(number))  # noqa: TRY301 - told like the others below
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))
        left = data[sock.sendmsg([data], [rights]) :]
        while left:
            if not (yield Wait(writes=(sock.fileno(),), until=until)):
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))  # noqa: TRY301
            left = left[sock.send(left) :]
    except OSError as error:
        raise HostError(
            f"send {what} {path}: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            pointer=pointer,
            hint=_denied(path, error)
            or "something must listen on that socket, an AF_UNIX stream, to receive it",
            code="socket",
        ) from error
    finally:
        sock.close()


def _denied(path: str, error: OSError) -> str:
    if error.errno != errno.EACCES:
        return ""
    from ocirun.walk import WRITE, why_denied

    return why_denied(path, WRITE)  # connect(2) writes, in the eyes of unix(7)


def fit(master: int) -> None:
    """Gives a terminal the size of ours, if standard input is one."""
    if os.isatty(0):
        size = fcntl.ioctl(0, _TIOCGWINSZ, bytes(8))
        fcntl.ioctl(master, _TIOCSWINSZ, size)


class Proxy:
    """Passes bytes between our standard streams and the master of a container's terminal.

    Our own terminal, if standard input is one, is raw while it runs; ``close`` restores it.
    """

    __slots__ = ("_hung", "_in", "_saved", "_to_container", "_to_user", "master")

    def __init__(self, master: int) -> None:
        self.master = master
        os.set_blocking(master, False)
        self._in = 0
        self._hung = False
        self._saved = b""
        self._to_container = b""
        self._to_user = b""
        if os.isatty(0):
            self._make_raw()
            self.resize()

    def _make_raw(self) -> None:
        """cfmakeraw(3)."""
        self._saved = fcntl.ioctl(0, _TCGETS, bytes(_TERMIOS))
        flags = [int.from_bytes(self._saved[at : at + 4], sys.byteorder) for at in range(0, 16, 4)]
        raw = b"".join(
            [
                (flag & ~clear | give).to_bytes(4, sys.byteorder)
                for flag, (clear, give) in zip(flags, _RAW, strict=True)
            ]
        )
        fcntl.ioctl(0, _TCSETS, raw + self._saved[16:])

    def resize(self) -> None:
        """Gives the container's terminal the size of ours (SIGWINCH)."""
        if self._saved:
            fit(self.master)

    def wants(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The descriptors to read from and to write to now: nothing is read that could not be passed on."""
        reads: tuple[int, ...] = () if self._to_user or self._hung else (self.master,)
        if self._in >= 0 and not self._to_container:
            reads += (self._in,)
        writes: tuple[int, ...] = (1,) if self._to_user else ()
        if self._to_container:
            writes += (self.master,)
        return reads, writes

    def move(self, ready: tuple[int, ...]) -> None:
        """Moves what can be moved without waiting."""
        if self._in in ready and not self._to_container:
            self._to_container = self._read_user()
        if self.master in ready and self._to_container:
            self._to_container = self._to_container[self._write(self._to_container) :]
        if self.master in ready and not self._to_user:
            self._to_user = self._read()
        self._write_user()

    def drain(self) -> None:
        """Passes on what the container wrote before it ended: no more than a terminal can hold."""
        left = _TERMINAL_HOLDS
        while left > 0:
            while self._to_user:
                self._write_user()
            self._to_user = self._read()
            left -= len(self._to_user)
            if not self._to_user:
                return

    def _read_user(self) -> bytes:
        """What our user typed; at its end, or when it is refused (EIO of an orphan), no more is asked."""
        try:
            data = os.read(self._in, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._in = -1
        return data

    def _write_user(self) -> None:
        """Shows what the container wrote; when nobody reads it any more (EPIPE, EIO) it is dropped."""
        try:
            self._to_user = self._to_user[os.write(1, self._to_user) :] if self._to_user else b""
        except BlockingIOError:
            return
        except OSError:
            self._to_user = b""

    def _read(self) -> bytes:
        try:
            return os.read(self.master, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: nobody has the other end open any more; poll(2) would report that for ever
            self._hung = True
            return b""

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self.master, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def close(self) -> None:
        """Restores our terminal and closes the master."""
        if self._saved:
            fcntl.ioctl(0, _TCSETSW, self._saved)
            self._saved = b""
        os.close(self.master)
