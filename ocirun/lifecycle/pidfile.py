"""The pid file that engines wait for: the bare number, there whole or not at all."""

from __future__ import annotations

import posix as os

from ocirun import paths
from ocirun.files import write_whole
from ocirun.lifecycle.store import state_io


def write_pid_file(path: str, pid: int) -> None:
    """Writes ``pid`` to ``path``: beside it first and then renamed, so that nobody reads a half (rename(2)).

    Raises StateError.
    """
    beside = paths.join(paths.dirname(path), f".{paths.basename(path)}")
    try:
        _remove(beside)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            write_whole(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError as error:
        _give_up(beside)
        raise state_io(error, "write the pid file", path) from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _give_up(path: str) -> None:
    try:
        _remove(path)
    except OSError:  # what denied us the one denies us the other
        return
