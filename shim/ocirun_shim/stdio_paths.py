"""Where the streams of a process come from and go to: what the paths and URIs of a client mean.

A path is a FIFO that the client made; ``file:///path`` is a file to append to (containerd's runtime README,
"Shim logging").
"""

from __future__ import annotations

import errno
import os
import stat

#: Codes of google.rpc.Code.
INVALID_ARGUMENT, UNKNOWN = 3, 2

_HEX = b"0123456789abcdefABCDEF"


class StdioError(ValueError):
    """A stream that cannot be opened: ``code`` is the status to answer with (google.rpc.Code)."""

    def __init__(self, message: str, *, hint: str = "", code: int = INVALID_ARGUMENT) -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint
        self.code = code


def split(uri: str) -> tuple[str, str]:
    """The scheme and the path of a stream: ``fifo`` for a bare path and ``file`` for a file.

    A URI is taken apart as RFC 3986 says: without query and fragment, %XX decoded.  Raises StdioError for a
    scheme that is not served, a host, and a path that is not absolute.
    """
    scheme, colon, rest = uri.partition("://")
    if not colon:
        return "fifo", _absolute(uri, uri)
    if scheme not in {"fifo", "file"}:
        raise StdioError(f"the stream {uri} has the scheme {scheme}", hint="use a FIFO or file:///path")
    raw = rest.partition("#")[0].partition("?")[0]
    return scheme, _absolute(_decoded(raw), uri)


def _absolute(path: str, uri: str) -> str:
    if not path.startswith("/"):
        raise StdioError(f"the stream {uri} has no absolute path", hint="for a file: file:///path")
    if "\0" in path:
        raise StdioError(f"the stream {uri!r} has a null byte in its path")
    return path


def _decoded(text: str) -> str:
    """Percent-decoding (RFC 3986, section 2.1); a % that starts no code stands for itself."""
    first, *rest = os.fsencode(text).split(b"%")
    for part in rest:
        if len(part) >= 2 and part[0] in _HEX and part[1] in _HEX:
            first += bytes([int(part[:2], 16)]) + part[2:]
        else:
            first += b"%" + part
    return os.fsdecode(first)


def open_fifo(path: str, *modes: int) -> tuple[int, ...]:
    """Opens the FIFO at ``path`` once for each of ``modes``, without waiting for the other side (fifo(7)).

    The path is looked up once: what was found to be a FIFO is what is opened, whatever the path is by then.
    Raises StdioError when it is missing or something else.
    """
    handle = _look_up(path)
    opened: list[int] = []
    try:
        for mode in modes:
            again = f"/proc/self/fd/{handle}"
            opened.append(os.open(again, mode | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise StdioError(f"open the FIFO {path}: {error.strerror}", code=UNKNOWN) from error
    finally:
        os.close(handle)
    return tuple(opened)


def _look_up(path: str) -> int:
    """An O_PATH descriptor of the FIFO at ``path``."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        hint = "the client makes its FIFOs first, or gives an empty path"
        raise StdioError(f"open the FIFO {path}: {error.strerror}", hint=hint) from error
    if not stat.S_ISFIFO(os.fstat(handle).st_mode):
        os.close(handle)
        raise StdioError(f"{path} is not a FIFO", hint=f"to append to a file give file://{path}")
    return handle


def open_file(path: str) -> int:
    """Opens a file for appending, made with mode 0644 and its directories with 0755 where they are missing.

    Never waits: a FIFO that nobody reads is refused (ENXIO).  Raises StdioError with what the kernel said.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            return os.open(path, flags, 0o644)
    except OSError as error:
        hint = "nobody reads this FIFO" if error.errno == errno.ENXIO else ""
        raise StdioError(f"open the log file {path}: {error.strerror}", hint=hint, code=UNKNOWN) from error
