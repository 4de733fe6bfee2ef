"""Commands below strace: which system calls they make, and how the time of one passes.

A traced command is many times slower, so no other figure is of one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from conformance.peers import Kit, fetched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KIT = Kit("strace", "sid", ("strace",), ("strace",))
_PATIENCE = 60.0
_STEP = 0.005

#: The calls that mark the phases of a command, in their order: what it has done until then, whose call it is
#: (of the command's own process, of another, of the one that made the last), and which.  A phase without its
#: mark is a part of the next one.
MARKS = (
    ("launcher", "own", re.compile(r"execve\(")),
    ("interpreter, imports", "own", re.compile(r'openat\(.*/config\.json"')),
    ("reading, planning", "own", re.compile(r"mkdir(at)?\(")),
    ("start of the helper", "own", re.compile(r"(v?fork|clone3?)\(")),
    ("stage: what is opened on the host", "other", re.compile(r"clone3\(")),
    ("init: mounts, root, security, start", "other", re.compile(r'execve\("/bin/true"')),
    ("the container's program", "same", re.compile(r"exit_group\(")),
    ("undo, journal, state", "own", re.compile(r"exit_group\(")),
    ("end of the process", "own", re.compile(r"\+\+\+ exited")),
)
_MARKING = "trace=openat,execve,fork,vfork,clone,clone3,mkdir,mkdirat,exit_group"

#: One line: process, time where it was asked for, and the call.
_LINE = re.compile(r"(?P<pid>\d+) +(?:(?P<time>\d+\.\d+) +)?(?P<call>.*)")
_CALL = re.compile(r"\w+\(")


class TraceError(Exception):
    """A command could not be traced; the message says which."""


def strace() -> str:
    """Strace of this machine, else fetched as the peers are; raises PeerError."""
    return shutil.which("strace") or str(fetched(_KIT) / "bin/strace")


def lines_of(tracer: str, log: Path, command: Sequence[str], *options: str) -> list[tuple[int, float, str]]:
    """What strace tells of ``command`` and its descendants until it has ended: process, time, call.

    A container that waits for its start is let go then.  Raises TraceError.
    """
    log.unlink(missing_ok=True)
    words = (tracer, "-f", "-q", "-I", "1", "-o", str(log), *options, *command)
    with log.with_suffix(".out").open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    until = time.monotonic() + _PATIENCE
    try:
        while process.poll() is None and not _status(log) and time.monotonic() < until:
            time.sleep(_STEP)
        process.terminate()  # it detaches from what still lives, and writes its log out
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if _status(log) != "0":
        said = log.with_suffix(".out").read_text(errors="replace")
        raise TraceError(f"{' '.join(command)} fails below strace: {said[-2000:]}")
    found = (_LINE.match(line) for line in log.read_text(errors="replace").splitlines())
    return [(int(line["pid"]), float(line["time"] or 0), line["call"]) for line in found if line]


def _status(log: Path) -> str:
    """The exit status of the first process that the log names, "" while it lives."""
    text = log.read_text(errors="replace") if log.exists() else ""
    first = text.partition(" ")[0]
    ended = re.search(rf"^{first} +(?:\d+\.\d+ +)?\+\+\+ (?:exited with (\d+)|killed)", text, re.MULTILINE)
    return (ended[1] or "killed") if ended else ""


def count(tracer: str, log: Path, command: Sequence[str]) -> int:
    """How many system calls a command and all its descendants make; of one that waits, until it does."""
    lines = lines_of(tracer, log, command, "-e", "verbose=none", "-e", "signal=none", "-s", "0")
    return sum(1 for _, _, call in lines if _CALL.match(call))


def phases(tracer: str, log: Path, command: Sequence[str]) -> dict[str, float]:
    """The milliseconds that ``command`` took from mark to mark.

    The kernel stops it at the marks only (--seccomp-bpf), so that it is hardly slower than without.
    """
    lines = lines_of(tracer, log, command, "--seccomp-bpf", "-ttt", "-e", _MARKING, "-e", "signal=none")
    return cut(lines)


def cut(lines: Sequence[tuple[int, float, str]]) -> dict[str, float]:
    """The milliseconds from mark to mark, by phase, of lines that begin with the command's own ``execve``."""
    main, since, _ = lines[0]
    found: dict[str, float] = {}
    at, last, missed = 1, main, ""
    for phase, whose, mark in MARKS:
        for here in range(at, len(lines)):
            pid, when, call = lines[here]
            ours = {"own": pid == main, "other": pid != main, "same": pid == last}[whose]
            if ours and mark.match(call):
                found[missed + phase] = (when - since) * 1000
                since, at, last, missed = when, here + 1, pid, ""
                break
        else:
            missed += f"{phase}, "
    return found


def executed(tracer: str, log: Path, command: Sequence[str]) -> list[str]:
    """The programs that a command executes, itself first."""
    calls = [call for _, _, call in lines_of(tracer, log, command, "-e", "trace=execve")]
    return [found[1] for call in calls if (found := re.match(r'execve\("([^"]*)".* = 0$', call))]
