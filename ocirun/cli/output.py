"""What goes to standard output and standard error, written with write(2): no stream object is needed for
it."""

from __future__ import annotations

from ocirun import files
from ocirun.errors import UsageError, words_of

STDOUT, STDERR = 1, 2


class OutputClosed(Exception):  # noqa: N818 - not an error: whoever read us has seen enough
    """The reader of standard output went away; the command ends quietly with status 1."""


def write(text: str, fd: int = STDOUT) -> None:
    """Writes ``text`` whole; raises OutputClosed when nobody reads it, UsageError when it cannot be
    written."""
    try:
        write_whole(fd, text)
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise UsageError(
            f"cannot write to descriptor {fd}: {words_of(error.errno or 0)}", errno=error.errno or 0
        ) from error


def complain(text: str) -> None:
    """Writes a line to standard error as far as that is possible: there is nowhere left to report a
    failure."""
    try:
        write_whole(STDERR, f"ocirun: {text}\n")
    except OSError:
        return


def write_whole(fd: int, text: str) -> None:
    """Writes ``text`` to ``fd`` however many calls it takes; raises OSError (write(2))."""
    # A path may hold bytes that are no UTF-8 (surrogateescape), a config lone surrogates: the last resort
    # shows them.
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        content = text.encode("utf-8", "backslashreplace")
    files.write_whole(fd, content)
