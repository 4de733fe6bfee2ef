"""The job: the second disk of a machine, with what goes in, the command, and what comes back.

A disk needs no network, no driver for sharing and no parsing of a serial line: mke2fs fills it before the
boot, debugfs reads it afterwards.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.vm.image import make_disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Sparse.
_SIZE = "4G"
#: Where the guest has the disk, and what comes back of it.
PLACE, OUT = "/job", "/job/out"
#: What is made for this host, and caches of its tools.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".hypothesis", "__pycache__", ".*_cache", ".building-*")


@dataclass(frozen=True, slots=True)
class Job:
    """A command that the guest runs as root in a copy of ``directory``, which is at the same path there.

    What it leaves in ``/job/out`` is copied to ``out``.  ``beside`` are directories that are copied to
    ``/job/NAME``; ``environment`` is added to the guest's.
    """

    command: Sequence[str]
    directory: Path
    out: Path | None = None
    beside: Mapping[str, Path] = field(default_factory=dict[str, Path])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def write_disk(job: Job, disk: Path) -> None:
    """Makes the disk of a job as a file; raises MachineError, OSError."""
    with tempfile.TemporaryDirectory(dir=disk.parent, prefix="stage-") as scratch:
        stage = Path(scratch)
        for name, directory in {"tree": job.directory, **job.beside}.items():
            shutil.copytree(directory, stage / name, symlinks=True, ignore=_LEFT_OUT)
        (stage / "out").mkdir()
        (stage / "script").write_text(_script(job))
        make_disk(stage, disk, _SIZE)


def _script(job: Job) -> str:
    here = shlex.quote(str(job.directory))
    lines = [f"mkdir -p {here}", f"mount --bind {PLACE}/tree {here} || exit", f"cd {here} || exit"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    return "\n".join([*lines, f"exec {shlex.join(job.command)}", ""])


def read_status(disk: Path) -> int | None:
    """The exit status of the command; None when the machine did not come to its end."""
    written = _debugfs("cat /status", disk)
    return int(written) if written.strip().isdigit() else None


def bring_back(job: Job, disk: Path) -> None:
    """Copies what the command left for us from the disk to ``job.out``, over what is there."""
    if job.out is None:
        return
    with tempfile.TemporaryDirectory(dir=disk.parent, prefix="back-") as scratch:
        _debugfs(f"rdump /out {scratch}", disk)
        shutil.copytree(Path(scratch, "out"), job.out, symlinks=True, dirs_exist_ok=True)


def _debugfs(request: str, disk: Path) -> str:
    done = subprocess.run(
        ("debugfs", "-R", request, str(disk)), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout
