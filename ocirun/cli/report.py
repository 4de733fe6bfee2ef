"""Errors and warnings on their way out: to standard error for people, to the log for engines.

Nothing else in the project prints an error, and nothing is printed twice.
"""

from __future__ import annotations

import posix as os

from ocirun.cli.log import ERROR, WARNING, Log
from ocirun.cli.output import complain
from ocirun.errors import EXHAUSTED, ConfigError, HostError, Interrupted, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.errors import Fault, OcirunError

#: The exit status of a failed command, as with the peers.
FAILURE = 1

_EMFILE, _ENOMEM = 24, 12  # errno(3), without the import, for which there may be no descriptor left
#: Below this limit on descriptors an import that fails does so for want of one.
_FEW = 64


class Reporter:
    """Where errors and warnings go.  ``log`` is None until ``--log`` was read and where it was not given."""

    __slots__ = ("debug", "failure", "log")

    def __init__(self) -> None:
        self.log: Log | None = None
        self.debug = False
        #: The exit status of the command when it fails.
        self.failure = FAILURE

    def warn(self, fault: Fault, name: str = "config.json") -> None:
        """Says what the user should know of the document ``name``, though it stops nothing."""
        text = fault.render(name)
        complain(f"warning: {text}")
        self._log(WARNING, text, {"pointer": fault.pointer, "hint": fault.hint})

    def error(self, error: OcirunError) -> int:
        """Reports what ended the command, in one line of the log; gives the exit status."""
        text = str(error)
        notes = _notes(error)
        for line in text.split("\n"):
            complain(line)
        for note in notes:
            complain(f"note: {note}")
        extras: dict[str, object] = {
            "code": error.code,
            "pointer": error.pointer,
            "line": error.line,
            "column": error.column,
            "operation": error.operation,
            "errno": error.errno,
            "path": error.path,
            "hint": error.hint,
            "notes": notes,
        }
        if isinstance(error, ConfigError):
            extras["faults"] = [fault_entry(fault) for fault in error.faults]
        self.log_error(text.replace("\n", "; "), extras)
        return 128 + error.signum if isinstance(error, Interrupted) else self.failure

    def refused(self, error: OSError) -> int:
        """Reports what the kernel refused where nobody expected it: for want of resources, or a fault of
        ours."""
        number = error.errno or 0
        if number not in EXHAUSTED:
            return self.unexpected(error)
        path = str(error.filename or "")
        message = f"{path}: {words_of(number)}" if path else words_of(number)
        return self.error(
            HostError(message, errno=number, path=path, hint=EXHAUSTED[number], code="out-of-resources")
        )

    def unexpected(self, error: BaseException) -> int:
        """Reports a fault of our own: never with a traceback unless ``--debug`` asks for it."""
        if isinstance(error, ImportError) and os.sysconf("SC_OPEN_MAX") < _FEW:
            return self.refused(OSError(_EMFILE, ""))
        if isinstance(error, MemoryError):
            return self.refused(OSError(_ENOMEM, ""))
        text = f"internal error: {type(error).__name__}: {error}; please report"
        place = _place(error)
        if self.debug:
            import sys

            sys.__excepthook__(type(error), error, error.__traceback__)
        complain(f"{text} ({place})")
        self.log_error(
            text,
            {
                "code": "internal",
                "hint": place,
                "errno": getattr(error, "errno", 0),
                "notes": _notes(error),
            },
        )
        return self.failure

    def log_error(self, message: str, extras: dict[str, object]) -> None:
        """Writes the line of the log alone, for a failure that was shown already."""
        self._log(ERROR, message, extras)

    def _log(self, level: str, message: str, extras: dict[str, object]) -> None:
        if self.log is not None:
            self.log.add(level, message, extras)


def fault_entry(fault: Fault) -> dict[str, object]:
    """A fault as members of JSON, without those that are empty."""
    members: dict[str, object] = {
        "pointer": fault.pointer,
        "line": fault.line,
        "column": fault.column,
        "value": fault.value,
        "rule": fault.rule,
        "hint": fault.hint,
    }
    return {name: value for name, value in members.items() if value or name == "pointer"}


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _place(error: BaseException) -> str:
    """FILE:LINE where it was raised, found without the traceback module."""
    traceback = error.__traceback__
    if traceback is None:
        return "at an unknown place"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"at {traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
