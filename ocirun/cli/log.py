"""The ``--log`` file, which engines read: the last line of level error is the cause.

JSON lines as logrus writes them (``level``, ``msg``, ``time``) with more members of ours, or its text form.
The file is opened before anything is done, so that a wrong path costs nothing, and appended to: several
commands may share one.
"""

from __future__ import annotations

import posix as os
import time

from ocirun.cli.output import write_whole
from ocirun.errors import UsageError, words_of
from ocirun.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ERROR, WARNING = "error", "warning"


class Log:
    """An open log; ``style`` is "json" or "text".  Raises UsageError when the file cannot be opened."""

    __slots__ = ("_fd", "_style")

    def __init__(self, path: str, style: str) -> None:
        self._style = style
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._fd = os.open(path, flags, 0o644)
        except OSError as error:
            raise UsageError(
                f"cannot open the log {path}: {words_of(error.errno or 0)}",
                errno=error.errno or 0,
                path=path,
                hint=_denied(path, error),
            ) from error

    def add(self, level: str, message: str, extras: Mapping[str, object]) -> None:
        """Appends one line, with those ``extras`` that are not empty; a full disk loses it, which is all we
        can do: standard error says the same."""
        entry: dict[str, object] = {"level": level, "msg": message, "time": timestamp(time.time_ns())}
        entry.update((name, value) for name, value in extras.items() if value)
        line = dumps(entry) if self._style == "json" else as_text(entry)
        try:
            write_whole(self._fd, line + "\n")
        except OSError:
            return


def _denied(path: str, error: OSError) -> str:
    if not isinstance(error, PermissionError):
        return ""
    from ocirun.walk import WRITE, why_denied

    return why_denied(path, WRITE)


def timestamp(nanoseconds: int) -> str:
    """Nanoseconds since the epoch in UTC as RFC 3339 writes them, without zeros at the end, as Go does."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{digits}Z"


def as_text(entry: Mapping[str, object]) -> str:
    """``entry`` in the text form of logrus: time, level, msg and the rest, each as name=value."""
    order = ["time", "level", "msg", *(name for name in entry if name not in ("time", "level", "msg"))]
    return " ".join(f"{name}={entry[name] if name == 'level' else dumps(entry[name])}" for name in order)
