"""This project in the guest: an editable installation, compiled there for the guest's own Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conformance.vm.image import MachineError
from conformance.vm.job import OUT, Job
from conformance.vm.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
_SCRIPT = "conformance/vm/guest/project"
_SECONDS = 1200
#: What the build makes; a checkout has its host's own.
_MADE = tuple(
    f"ocirun/native/{name}"
    for name in ("bin/ocirun-helper", "bin/ocirun", "bin/containerd-shim-ocirun-v2", "build_id.py")
)


def job(
    *command: str,
    programs: Path | None = None,
    out: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Job:
    """A job in this checkout with the project installed, its programs first in the PATH.

    They are compiled first, which takes some seconds, or are those that ``compile_programs`` made.
    """
    beside = {} if programs is None else {"programs": programs}
    return Job((_SCRIPT, *command), CHECKOUT, out, beside, environment or {})


def compile_programs(target: Path) -> None:
    """Compiles the programs for jobs to come into the directory ``target``.

    It is done in User-mode Linux, which is fast enough for a compiler.  Raises MachineError with what that
    says.
    """
    target.mkdir(exist_ok=True)
    log = target.with_suffix(".log")
    with log.open("wb") as output:
        outcome = Machine().run(job("cp", "--parents", *_MADE, OUT, out=target), _SECONDS, output)
    if outcome.status:
        raise MachineError(f"the project cannot be compiled in the guest: {log.read_text()[-2000:]}")
