"""Whether a container ended for want of memory: what its cgroup counted (cgroup-v2.rst, Memory).

Cold: asked only when something has failed, or was killed.
"""

from __future__ import annotations

from ocirun.errors import EXHAUSTED, Fault, HostError, OcirunError
from ocirun.files import read_file

#: The member that says how much there is.
POINTER = "/linux/resources/memory/limit"
_ENOMEM = 12
_HINT = "raise memory.limit; the peak counts only what was charged before the end"


def short_of_memory(error: BaseException, where: str) -> OcirunError | None:
    """The error that tells of the limit, for one that the limit of the cgroup ``where`` has caused; None for
    any other.  ``where`` may be "": a cgroup that was there before counts what others did in it."""
    if not isinstance(error, OcirunError) or not where:
        return None
    try:
        told = killed(where) or (error.errno == _ENOMEM and refused(where))
    except OSError as trouble:  # the first cause is told, and what it left is still to be undone
        error.add_note(f"while looking at its memory: {trouble}")
        return None
    if not told:
        return None
    return HostError(
        f"{told} ({error.message})",
        pointer=POINTER,
        operation=error.operation,
        errno=error.errno,
        path=error.path,
        hint=_HINT,
        code="memory-limit",
    )


def killed(where: str) -> str:
    """That the kernel has killed in the cgroup ``where`` for want of memory, with limit and peak; "" where it
    has not."""
    events = _numbers(f"{where}/memory.events")
    if not events.get("oom_kill"):
        return ""
    return f"the kernel killed a process of the container for want of memory: {_sizes(where)}"


def refused(where: str) -> str:
    """That the limit was reached, with limit and peak; "" where it was not."""
    if not _numbers(f"{where}/memory.events").get("max"):
        return ""
    return f"the container has no memory left: {_sizes(where)}"


def fault_of_kill(where: str) -> Fault | None:
    """The same for a program that was killed, as what the user should know."""
    try:
        told = killed(where) if where else ""
    except OSError:  # the program has ended, and is deleted next
        return None
    return Fault(POINTER, told, hint="raise memory.limit") if told else None


def _sizes(where: str) -> str:
    limit, peak = (_text(f"{where}/memory.{name}") for name in ("max", "peak"))
    reached = f", the peak was {peak} bytes" if peak else ""
    return (
        f"the limit is {limit} bytes{reached}"
        if limit not in ("", "max")
        else f"no limit of its own{reached}"
    )


def _numbers(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).split("\n"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _text(path: str) -> str:
    try:
        return read_file(path).decode().strip()
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return ""
