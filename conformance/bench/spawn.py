"""Runs commands below a small static program that measures them (spawn.c says why)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ocirun.native.build import compiler

_SOURCE = Path(__file__).with_name("spawn.c")
_FLAGS = ("-static", "-O2", "-Wall", "-Wextra")
#: Seconds that a command may take before it is taken to hang.
_PATIENCE = 30
#: perf_event_open(2): PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS.
INSTRUCTIONS = (0, 1)


class CommandFailedError(Exception):
    """A command that is measured failed or hung; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command cost: its own process, and those of its descendants that somebody waited for.

    ``counted`` is what the counter counted in user mode, -1 where the machine has no such counter.
    """

    milliseconds: float
    processor: float
    peak: int
    faults: int
    counted: int


class Spawner:
    """Runs commands, one at a time; ``directory`` gets the program and the commands' output."""

    def __init__(self, directory: Path, counter: tuple[int, int] = INSTRUCTIONS) -> None:
        self._program = directory / "spawn"
        self._output = directory / "output"
        self._counter = counter
        command = (*compiler(directory), *_FLAGS, "-o", str(self._program), str(_SOURCE))
        subprocess.run(command, check=True)

    def run(self, *command: str) -> Cost:
        """Runs a command, standard input empty; raises CommandFailedError unless its exit status is 0."""
        ours, theirs = os.pipe()
        try:
            line = self._answer(self._spawn(command, theirs), ours)
        finally:
            os.close(ours)
        took, status, spent, peak, faults, counted = (int(word) for word in line.split() or (0,) * 6)
        if not line or status:
            raise CommandFailedError(f"{' '.join(command)}: {self.output()[-2000:] or 'it says nothing'}")
        return Cost(took / 1e6, spent / 1e3, peak, faults, counted)

    def output(self) -> str:
        """What the last command wrote."""
        return self._output.read_text(errors="replace")

    def _spawn(self, command: tuple[str, ...], answer: int) -> int:
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        words = (str(self._program), *map(str, self._counter), *command)
        places = ((null, 0), (output, 1), (output, 2), (answer, 3))
        actions = [(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places]
        try:
            return os.posix_spawn(self._program, words, os.environ, file_actions=actions, setpgroup=0)
        finally:
            for fd in (null, output, answer):
                os.close(fd)

    @staticmethod
    def _answer(pid: int, answer: int) -> str:
        """The line of the spawner, "" when it gave none; a command that hangs is killed with its group."""
        ready, _, _ = select.select([answer], [], [], _PATIENCE)
        if not ready:
            os.killpg(pid, signal.SIGKILL)
        line = os.read(answer, 4096).decode()
        os.waitpid(pid, 0)
        return line
