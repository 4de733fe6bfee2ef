"""The errors of a program that is not found or cannot be executed, in the words of runc, which engines read.

Cold.  What init said makes the error; a look at its root file system, while it waits for us, finds the cause.
"""

from __future__ import annotations

import errno

from ocirun.errors import StepError, words_of
from ocirun.executor.binary import SCRIPT, Head
from ocirun.executor.inside import NOTHING, look_inside
from ocirun.executor.unrunnable import (
    FORMAT,
    NO_INTERPRETER,
    NO_LOADER,
    NOT_EXECUTABLE,
    NOT_FOUND,
    VANISHED,
    located,
    lookup,
    of_head,
    refusal,
)
from ocirun.files import read_file
from ocirun.walk import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Process

    from ocirun.executor.inside import Finding, Inside
    from ocirun.executor.wire import Report
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

BUSY, TOO_LONG = "program-busy", "arguments-too-long"

#: What execve(2) refuses for other reasons than the files: code and cure.
_OTHER: dict[int, Finding] = {
    errno.ETXTBSY: (
        BUSY,
        "somebody has the file open for writing: close it, or write a new file and rename it",
    ),
    errno.ENOMEM: (
        NOT_EXECUTABLE,
        "there is no memory for it: see the container's memory limit, RLIMIT_AS and the program's size",
    ),
    errno.EPERM: (NOT_EXECUTABLE, "a security module or a seccomp filter forbids it"),
    errno.EIO: (NOT_EXECUTABLE, "its file system cannot be read: see the kernel log"),
    errno.EMFILE: (NOT_EXECUTABLE, "RLIMIT_NOFILE of the process is too small for it"),
    errno.ELIBBAD: (FORMAT, "its loader is no ELF program for this host"),
    errno.EAGAIN: (NOT_EXECUTABLE, "its user has more processes than RLIMIT_NPROC admits"),
}

#: The kernel's limits on arguments (execve(2)): one string, all at least, all at most; what it takes of the
#: stack's limit.
_ONE, _LEAST, _MOST, _SHARE = 128 << 10, 128 << 10, 6 << 20, 4


def failed_lookup(step: Step, report: Report) -> StepError:
    """The error for a find_program that failed."""
    name = str(step.args[0])
    if report.errno == errno.ENOENT:
        where = "no such file or directory" if "/" in name else "executable file not found in $PATH"
        stat = f"stat {name}: " if "/" in name else ""
        hint = "look into the image for it, or set PATH in process.env"
        return _error(f'exec: "{name}": {stat}{where}', report.errno, NOT_FOUND, name, hint, report.step)
    if report.errno == errno.EISDIR:
        hint = "name a program in it"
        return _error(
            f'exec: "{name}": is a directory', report.errno, NOT_EXECUTABLE, name, hint, report.step
        )
    reason = "permission denied" if report.errno == errno.EACCES else words_of(report.errno)
    hint = "it has no execute permission for the user of the process: chmod +x in the image"
    return _error(
        f'exec: "{name}": {reason}', report.errno, NOT_EXECUTABLE, report.path or name, hint, report.step
    )


def failed_exec(name: str, number: int, head: bytes) -> StepError:
    """The error for an execve that failed; ``head`` is how the program's file begins."""
    reason = {
        errno.ENOENT: "no such file or directory",
        errno.ENOEXEC: "exec format error",
        errno.EACCES: "permission denied",
        errno.E2BIG: "argument list too long",
    }.get(number, "")
    code, hint = _by_head(number, Head(head))
    return _error(f'exec: "{name}": {reason or words_of(number)}', number, code, name, hint)


def _error(message: str, number: int, code: str, path: str, hint: str, step: int = 0) -> StepError:
    return StepError(
        message,
        step=step,
        pointer="/process/args/0",
        operation="execve",
        errno=number,
        path=path,
        hint=hint,
        code=code,
    )


def _by_head(number: int, head: Head) -> Finding:
    """What the first bytes of the program alone tell."""
    named = shown(head.interpreter)
    if number == errno.ENOENT:
        return _gone(head, named)
    if number == errno.ENOEXEC:
        return _odd(head)
    its = f"the script or its interpreter {named}" if head.kind == SCRIPT else "it"
    hint = f"{its} must be executable, on a mount without noexec" if number == errno.EACCES else ""
    return _OTHER.get(number, (NOT_EXECUTABLE, hint))


def _odd(head: Head) -> Finding:
    if head.kind == SCRIPT:
        return FORMAT, "the #! line is malformed or names no interpreter"
    found = of_head(head, "", "")
    return found if found != NOTHING else (FORMAT, "the kernel does not take this ELF file: cut off?")


def _gone(head: Head, named: str) -> Finding:
    if head.interpreter.endswith("\r"):
        line = f"its first line ends in CR LF, so the kernel looks for {head.interpreter!r}: convert it to LF"
        return NO_INTERPRETER, line
    if head.kind == SCRIPT:
        return NO_INTERPRETER, f"the script names the interpreter {named}, which is not in the image"
    if head.interpreter:
        return NO_LOADER, f"it is linked dynamically and its loader {named} is not in the image"
    return VANISHED


# -- with a look at the file system --------------------------------------------------------------------------


def explain_lookup(error: StepError, step: Step, refused: str, pid: int, cwd: str) -> Task[None]:
    """Puts the cause of a failed find_program into ``error``; ``refused`` is what it came upon."""
    name, search = str(step.args[0]), str(step.args[1])
    if error.errno == errno.ENOENT and len(name.split()) > 1:
        words = ", ".join(f'"{word}"' for word in name.split())
        error.hint = f"args are separate words and no shell reads them: [{words}], or give the line to sh -c"
        return
    wanted = refused or name

    def ask(inside: Inside) -> Finding:
        return lookup(inside, name, search, wanted if "/" in wanted else name)

    _adopt(error, (yield from look_inside(pid, ask, cwd=cwd)))


def explain_exec(error: StepError, pid: int, process: Process) -> Task[None]:
    """Puts the cause of a failed execve of ``process`` into ``error``."""
    if error.errno == errno.E2BIG:
        error.code = TOO_LONG
        error.pointer, error.hint = _too_long(process, _stack_limit(pid))
        return
    if error.errno in _OTHER and error.errno != errno.ELIBBAD:
        return
    name = process.get("args", [""])[0]

    def ask(inside: Inside) -> Finding:
        return refusal(inside, located(inside, name, _path_of(process.get("env", ()))))

    _adopt(error, (yield from look_inside(pid, ask, cwd=process["cwd"])))


def _adopt(error: StepError, found: Finding) -> None:
    if found != NOTHING:
        error.code, error.hint = found[0] or error.code, found[1]


def _path_of(env: Sequence[str]) -> str:
    return next((entry[5:] for entry in reversed(env) if entry.startswith("PATH=")), "")


def _stack_limit(pid: int) -> int:
    """The soft RLIMIT_STACK of a process, what is usual where it cannot be read (proc_pid_limits(5))."""
    try:
        rows = read_file(f"/proc/{pid}/limits").split(b"\n")
    except OSError:
        rows = []
    told = next((row.split()[3] for row in rows if row.startswith(b"Max stack size")), b"8388608")
    return int(told) if told.isdigit() else 1 << 62


def _too_long(process: Process, stack: int) -> tuple[str, str]:
    """The pointer and the hint of an argument list that is too long."""
    lists = (("args", process.get("args", ())), ("env", process.get("env", ())))
    sizes = {
        f"/process/{member}/{number}": _size(text)
        for member, texts in lists
        for number, text in enumerate(texts)
    }
    longest = max(sizes, key=lambda pointer: sizes[pointer])
    if sizes[longest] > _ONE:
        return longest, f"it has {sizes[longest]} bytes alone, and the kernel takes {_ONE} in one string"
    limit = max(_LEAST, min(_MOST, stack // _SHARE))
    whole = sum(sizes.values()) + 8 * len(sizes)
    return "/process/args", (
        f"args and env have {whole} bytes, and the kernel takes {limit} of this process: a quarter of its "
        "RLIMIT_STACK, from 128 KiB to 6 MiB"
    )


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape")) + 1
