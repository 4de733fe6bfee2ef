"""Boots a machine with a job and waits for its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from conformance.vm import pc, uml
from conformance.vm.image import Image, MachineError, image
from conformance.vm.job import Job, bring_back, read_status, write_disk

if TYPE_CHECKING:
    from collections.abc import Generator

#: The statuses of a job that did not end by itself: as timeout(1) has it, and when the machine went first.
TIMED_OUT, DIED = 124, 125

#: Each machine that runs has a directory of a name that begins so.
_PREFIX = "ocirun-vm-"

#: MiB, and of the PC.
MEMORY, PROCESSORS = 2048, 2

#: For both kernels: a panic ends the machine, and nothing is done slowly for the sake of safety.
_KERNEL = "rw quiet panic=-1 mitigations=off rcupdate.rcu_expedited=1 init_on_alloc=0"
_PLAIN = "init=/usr/lib/ocirun-vm/init"
_SYSTEMD = "init=/lib/systemd/systemd systemd.unit=ocirun-vm.service systemd.condition_needs_update=0"


@dataclass(frozen=True, slots=True)
class Machine:
    """Which machine: User-mode Linux, or the emulated PC if ``full``; ``memory`` is in MiB.

    ``processors`` are the PC's; User-mode Linux has one.  With ``selinux`` its kernel has that, without a
    policy.
    """

    full: bool = False
    systemd: bool = False
    selinux: bool = False
    memory: int = MEMORY
    processors: int = PROCESSORS

    def run(self, job: Job, seconds: float | None = None, output: IO[bytes] | None = None) -> Outcome:
        """Runs a job to its end, or kills the machine after ``seconds``.

        What the job says goes to ``output``, else to our own standard output.  Raises MachineError when there
        is no such machine.
        """
        found = image()
        if self.full and shutil.which(pc.PROGRAM) is None:
            raise MachineError(f"{pc.PROGRAM} is missing: apt-get install qemu-system-x86")
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir="/var/tmp") as directory:
            scratch = Path(directory)
            disk = scratch / "job.ext4"
            write_disk(job, disk)
            ended = self._boot(found, scratch, disk, seconds, output)
            status = read_status(disk)
            bring_back(job, disk)
            console = (scratch / "console").read_text(errors="replace")
        return Outcome((DIED if ended else TIMED_OUT) if status is None else status, console)

    def _boot(
        self, found: Image, scratch: Path, disk: Path, seconds: float | None, output: IO[bytes] | None
    ) -> bool:
        """Whether the machine turned itself off in time; it is gone in any case."""
        with (scratch / "console").open("wb") as console:
            process = subprocess.Popen(
                self._command(found, scratch, disk),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=console,
                start_new_session=True,
                env={**os.environ, "TMPDIR": self._memory_directory(scratch)},
            )
            with _killed(process):
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    return False
        return True

    def _memory_directory(self, scratch: Path) -> str:
        """Where User-mode Linux keeps the memory of the guest in a file: in memory, if there is room.

        Those that run beside it may not have taken theirs yet, and who finds no room dies at any instruction.
        """
        shared = Path("/dev/shm")
        guests = len([*scratch.parent.glob(f"{_PREFIX}*")])
        roomy = shared.is_dir() and shutil.disk_usage(shared).free > guests * self.memory << 20
        return str(shared if roomy else scratch)

    def _command(self, found: Image, scratch: Path, disk: Path) -> list[str]:
        kernel = f"{_KERNEL} {_SYSTEMD if self.systemd else _PLAIN}{' security=selinux' * self.selinux}"
        if self.full:
            return pc.command(found, scratch, disk, kernel, self.memory, self.processors)
        return uml.command(found, scratch, disk, kernel, self.memory)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The exit status of the command, TIMED_OUT or DIED; what the kernel said."""

    status: int
    console: str


@contextlib.contextmanager
def _killed(process: subprocess.Popen[bytes]) -> Generator[None]:
    """Leaves nothing of a machine: User-mode Linux has a process for each of the guest's."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
