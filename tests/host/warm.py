"""Commands of ocirun, each in a fork of one warm process, for tests of thousands; a program of its own.

``python -m tests.host.warm`` reads a line of JSON a command, its words, and answers with a line: the exit
status (negative: the signal that ended it) and what it wrote to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Seconds that a command may take.
PATIENCE = 60


class Warm:
    """The other end of that program."""

    def __init__(self, scratch: Path) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.host.warm"),
            cwd=Path(__file__).parents[2],
            env={**os.environ, "WORKING_DIRECTORY": str(scratch)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str) -> tuple[int, str]:
        """Runs a command: its exit status and what it wrote to standard error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        code, stderr = json.loads(self._process.stdout.readline())
        return int(code), str(stderr)

    def close(self) -> None:
        """Ends the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def warming(scratch: Path) -> Iterator[Warm]:
    """The body of a fixture."""
    warm = Warm(scratch)
    yield warm
    warm.close()


def _child(words: Sequence[str], stderr: int) -> None:
    from ocirun.cli.main import execute

    signal.alarm(PATIENCE)
    null = os.open(os.devnull, os.O_RDWR)
    for fd, place in ((null, 0), (null, 1), (stderr, 2)):
        os.dup2(fd, place)
    os.closerange(3, 64)
    os._exit(execute(words))


def _answer(words: Sequence[str]) -> str:
    stderr = os.memfd_create("stderr")
    pid = os.fork()
    if not pid:
        _child(words, stderr)
    _, status = os.waitpid(pid, 0)
    told = os.pread(stderr, 1 << 20, 0).decode("utf-8", "replace")
    os.close(stderr)
    return json.dumps((os.waitstatus_to_exitcode(status), told))


def main() -> None:
    """See the module."""
    for name in ("main", "commands_create", "commands_exec"):  # so that no fork has to
        import_module(f"ocirun.cli.{name}")
    os.chdir(os.environ.pop("WORKING_DIRECTORY"))
    while line := sys.stdin.readline():
        sys.stdout.write(_answer(json.loads(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
