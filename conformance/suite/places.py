"""The places where the suite runs: a private view of this host, and the two machines of the guest."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.private_view import EnvironmentFaultError, PrivateView, programs
from conformance.vm import project
from conformance.vm.image import MachineError
from conformance.vm.job import OUT, PLACE, Job
from conformance.vm.machine import DIED, Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.suite.build import Suite
    from conformance.suite.session import Told
    from conformance.vm.machine import Outcome

RUNTIMES = ("ocirun", "runc", "crun")
#: What only the stock kernel has, which takes long: AppArmor.
ONLY_FULL = ("linux_process_apparmor_profile",)

_CHECKOUT = Path(__file__).parents[2]
_SECONDS, _FULL_SECONDS = 1200, 1800


class SessionError(Exception):
    """A session came to no end, or could not begin; the message says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which programs of the suite are to run with which runtimes."""

    suite: Suite
    runtimes: Sequence[str] = RUNTIMES
    programs: Sequence[str] = ()

    def words(self, place: str, scratch: str, out: str) -> tuple[str, ...]:
        """The arguments of conformance.suite.session for the suite at ``place``."""
        runtimes = [word for runtime in self.runtimes for word in ("--runtime", runtime)]
        chosen = self.programs or self.suite.programs
        return ("--suite", place, "--scratch", scratch, "--out", out, *runtimes, *chosen)


def on_host(wish: Wish) -> Told:
    """Runs the programs in a private view of this host; raises SessionError."""
    try:
        with PrivateView(programs()) as view:
            view.environment["PYTHONPATH"] = str(_CHECKOUT)
            out = view.scratch / "told"
            words = wish.words(str(wish.suite.directory), "/run/tmp", str(out))
            session = (sys.executable, "-m", "conformance.suite.session", "--cgroup", view.name)
            view.run(*session, *words, timeout=_SECONDS).ok()
            return _read(out)
    except (EnvironmentFaultError, AssertionError) as error:
        raise SessionError(str(error)) from error


def in_guest(wish: Wish, compiled: Path | None = None, *, full: bool = False) -> Told:
    """Runs the programs in a guest, with our programs compiled for it or to be so; raises SessionError."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        out, log = Path(scratch, "out"), Path(scratch, "log")
        words = wish.words(f"{PLACE}/suite", "/var/tmp", f"{OUT}/told")
        session = ("python3", "-m", "conformance.suite.session", "--cgroup", "suite", "--throwaway")
        ours = project.job(*session, *words, programs=compiled, out=out)
        beside = {**ours.beside, "suite": wish.suite.directory}
        job = Job(ours.command, ours.directory, out, beside, ours.environment)
        outcome = _boot(job, log, full=full)
        if outcome.status == DIED:  # the emulated kernel may panic at its start while the host is busy
            outcome = _boot(job, log, full=full)
        if outcome.status:
            printed = (log.read_text(errors="replace") + outcome.console)[-2000:]
            raise SessionError(f"the session in the guest ends with status {outcome.status}: {printed}")
        return _read(out / "told")


def _boot(job: Job, log: Path, *, full: bool) -> Outcome:
    try:
        with log.open("wb") as output:
            return Machine(full=full).run(job, _FULL_SECONDS if full else _SECONDS, output)
    except MachineError as error:
        raise SessionError(str(error)) from error


def _read(file: Path) -> Told:
    told: Told = json.loads(file.read_text())
    return told
