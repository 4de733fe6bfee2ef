"""What a command that was run from a test or a bench has left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Result:
    """A command that has returned; what it has started may still write to its output."""

    command: tuple[str, ...]
    code: int
    out: Path
    err: Path

    @property
    def stdout(self) -> str:
        """What has been written to standard output so far."""
        return self.out.read_text(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        """What has been written to standard error so far."""
        return self.err.read_text(errors="surrogateescape")

    def ok(self) -> Self:
        """The result itself; raises AssertionError when the exit status is not 0."""
        if self.code != 0:
            raise AssertionError(f"{' '.join(self.command)}: exit status {self.code}: {self.stderr}")
        return self
