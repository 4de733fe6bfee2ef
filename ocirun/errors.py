"""The one family of exceptions; the table of their stable codes is ocirun.error_codes.

Every error tells where (a JSON pointer into config.json, with line and column where they are known), what was
being done (operation, path), what the kernel said (errno) and the way out (hint).  Whoever catches one finds
the same fields whatever the class; the command line and the shim render them, nothing else does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def words_of(number: int) -> str:
    """An errno for people and for search engines: ``no such file or directory (ENOENT)`` (errno(3))."""
    import errno
    import posix

    name = errno.errorcode.get(number, f"errno {number}")
    words = posix.strerror(number)
    return f"{words[:1].lower()}{words[1:]} ({name})"


def escaped(text: str, kept: str = "") -> str:
    """``text`` fit for a terminal and a log: what would break the line, or steer, as its escape, but for the
    characters in ``kept``."""
    if text.isprintable():
        return text
    return "".join([one if one.isprintable() or one in kept else ascii(one)[1:-1] for one in text])


# errno(3), without the import, for which there may be no descriptor left
_ENOMEM, _ENFILE, _EMFILE = 12, 23, 24
#: The errnos that refuse not what was asked, but because something is used up, and the way out.
EXHAUSTED = {
    _EMFILE: "raise the caller's RLIMIT_NOFILE (`ulimit -n`)",
    _ENFILE: "the host has too many files open: raise the sysctl fs.file-max",
    _ENOMEM: "no memory is left on the host, in the caller's cgroup or below its RLIMIT_AS and RLIMIT_DATA",
}

#: What an ordinary user runs us in, so that there is a cgroup in which he may make others.
IN_A_SCOPE = "systemd-run --user --scope -p Delegate=yes ocirun …"


class Fault:
    """One thing that is wrong in a document: its place, its value, the rule it breaks and the cure.

    ``pointer`` is an RFC 6901 pointer ("" is the whole document); ``line`` and ``column`` count from 1 and
    are 0 where the place is not known.  ``value`` is the offending value as short JSON text, "" where absent.
    """

    __slots__ = ("column", "hint", "line", "pointer", "rule", "value")

    def __init__(
        self, pointer: str, rule: str, *, value: str = "", hint: str = "", line: int = 0, column: int = 0
    ) -> None:
        self.pointer = pointer
        self.rule = rule
        self.value = value
        self.hint = hint
        self.line = line
        self.column = column

    def render(self, name: str) -> str:
        """The fault as one line, for example ``config.json:41:17 /process/user/uid: -1: must be …; HINT``."""
        place = f"{name}:{self.line}:{self.column}" if self.line else name
        value = f"{self.value}: " if self.value else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place} {self.pointer or '/'}: {value}{self.rule}{hint}"

    def __repr__(self) -> str:
        return f"Fault({self.render('')!r})"


class OcirunError(Exception):
    """The base of everything this project raises on purpose.

    ``code`` is one of the table in ocirun.error_codes; ``pointer`` names the member of config.json that asked
    for what failed.
    """

    code = "internal"

    def __init__(
        self,
        message: str,
        *,
        pointer: str = "",
        operation: str = "",
        errno: int = 0,
        path: str = "",
        hint: str = "",
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer
        self.operation = operation
        self.errno = errno
        self.path = path
        self.hint = hint
        #: Line and column of the member at ``pointer``, from 1; 0 until somebody who has the text fills them.
        self.line = self.column = 0
        #: What the pointer points into, by name.
        self.document = "config.json"
        if code:
            self.code = code

    def __str__(self) -> str:
        at = f"{self.document}:{self.line}:{self.column} " if self.line else f"{self.document}#"
        if self.pointer[:1] != "/":
            at = ""  # what a caller gave beside the document
        place = f" [{at}{self.pointer}]" if self.pointer else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.message}{place}{hint}"


class ConfigError(OcirunError):
    """The bundle is wrong; ``faults`` holds everything that is, in the order of the document."""

    code = "config-invalid"

    def __init__(self, faults: Iterable[Fault], *, name: str = "config.json", code: str = "") -> None:
        self.faults: Sequence[Fault] = tuple(faults)
        self.name = name
        first = self.faults[0] if self.faults else Fault("", "is not valid")
        super().__init__(
            "\n".join(fault.render(name) for fault in self.faults),
            pointer=first.pointer,
            hint=first.hint,
            code=code,
        )

    def __str__(self) -> str:
        return self.message


class UsageError(OcirunError):
    """The command line is wrong."""

    code = "usage"


class HostError(OcirunError):
    """This kernel or this host cannot do it: says what is missing, and since when or how to get it."""

    code = "host-lacks"


class StateError(OcirunError):
    """The container does not exist, exists already, or is in the wrong status."""

    code = "container-status"


class RemovalError(StateError):
    """The container is being removed: what was on its way with it ends, and puts nothing back into it."""


class StepError(OcirunError):
    """A planned operation failed; carries the number of the step beside the errno."""

    code = "step-failed"

    def __init__(
        self,
        message: str,
        *,
        step: int,
        pointer: str = "",
        operation: str = "",
        errno: int = 0,
        path: str = "",
        hint: str = "",
        code: str = "",
    ) -> None:
        super().__init__(
            message, pointer=pointer, operation=operation, errno=errno, path=path, hint=hint, code=code
        )
        self.step = step


class HookError(OcirunError):
    """A hook failed: says which, its exit status or signal and the tail of what it printed."""

    code = "hook-failed"


class DriverError(OcirunError):
    """The cgroup driver (files or systemd) refused."""

    code = "cgroup"


class HelperError(OcirunError):
    """The helper broke the protocol or died: our bug, or somebody killed it."""

    code = "helper-died"


class Interrupted(OcirunError):  # noqa: N818 - it names an event, not a mistake
    """A signal asked the command to stop; what it had made is undone."""

    code = "interrupted"

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.signum = signum
