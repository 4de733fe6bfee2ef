"""Runs programs of the suite where it is, and writes what came of each: the inner half of conformance.suite.

It needs root, cgroup2 on /sys/fs/cgroup and the runtimes in the PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from conformance import machine
from conformance.suite.verdict import PASSED, Ended, verdict

CGROUPS = Path("/sys/fs/cgroup")
_ALONE = Path(__file__).with_name("alone")
#: A program of the suite waits up to 10 s for one thing, and may do so several times.
_SECONDS = 120
_PATIENCE = 10
#: They sleep most of the time.
JOBS = 8
#: A miss is played once more: killsig and others kill a shell that may not have set its trap yet.
_ATTEMPTS = 5

#: Programs that look for a hierarchy of cgroup v1 in a directory of this name, whatever its controllers.
_OLD_HIERARCHIES = {"delete_only_create_resources": "pids"}

_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
#: What linux_process_apparmor_profile asks for; the suite does not say what is in it.
_PROFILE = "profile acme_secure_profile flags=(attach_disconnected) { file, network, capability, signal, }"


@dataclass(frozen=True, slots=True)
class Session:
    """Where programs run: those of the suite in ``suite``, their bundles in ``scratch``, below ``cgroup``.

    On a ``throwaway`` machine they find what the kernel would keep: hierarchies of cgroup v1, and a profile.
    """

    suite: Path
    scratch: Path
    cgroup: Path
    throwaway: bool = False

    def play(self, runtime: str, program: str) -> str:
        """Runs one program with a runtime, ends what it leaves behind; gives its verdict."""
        own = self.cgroup / f"{program}-{runtime}"
        with tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as scratch:
            directory = Path(scratch)
            directory.chmod(0o755)  # a mapped root is a stranger to it
            try:
                return verdict(self._run(runtime, program, own, directory))
            finally:
                _remove(own)

    def _run(self, runtime: str, program: str, own: Path, directory: Path) -> Ended:
        out, err = directory / "out", directory / "err"
        old = _OLD_HIERARCHIES.get(program, "") if self.throwaway else ""
        # Files, not pipes: a container that outlives the program would hold a pipe open.
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                (_ALONE, own, old, self.suite / "programs" / program),
                cwd=self.suite,
                env={**os.environ, "RUNTIME": runtime, "TMPDIR": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            code = _status(process)
        return Ended(code, out.read_text(errors="replace"), err.read_text(errors="replace"))


def _status(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _remove(cgroup: Path) -> None:
    """Ends whatever is in a cgroup, and removes it with all below."""
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _PATIENCE
    while cgroup.exists() and time.monotonic() < deadline:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        time.sleep(0.01)


class Told(TypedDict):
    """What a session has found: the facts of the place, and the verdicts by runtime and program."""

    facts: dict[str, str]
    verdicts: dict[str, dict[str, str]]


def play(session: Session, runtimes: list[str], programs: list[str], jobs: int) -> dict[str, dict[str, str]]:
    """The verdict of every program with every runtime, by runtime; of a miss the last one."""

    def one(pair: tuple[str, str]) -> str:
        return session.play(*pair)

    told: dict[str, dict[str, str]] = {runtime: {} for runtime in runtimes}
    pairs = [(runtime, program) for program in programs for runtime in runtimes]
    with ThreadPoolExecutor(jobs) as pool:
        for _ in range(_ATTEMPTS):
            verdicts = list(pool.map(one, pairs))
            for (runtime, program), said in zip(pairs, verdicts, strict=True):
                told[runtime][program] = said
            pairs = [(runtime, program) for runtime, program in pairs if told[runtime][program] != PASSED]
    return told


def facts(runtimes: list[str]) -> dict[str, str]:
    """The kernel, the controllers of cgroup2, and the versions of the runtimes."""
    controllers = (CGROUPS / "cgroup.controllers").read_text().split()
    found = {"Linux": platform.release(), "controllers": " ".join(controllers) or "none"}
    for runtime in runtimes:
        program = shutil.which(runtime)
        found[runtime] = machine.version(Path(program)).split()[-1] if program else "missing"
    return found


def main() -> None:
    """Writes facts and verdicts as JSON to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--cgroup", required=True, help="a name that nobody else uses")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--throwaway", action="store_true", help="the machine is thrown away")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--runtime", action="append", required=True)
    parser.add_argument("program", nargs="+")
    wanted = parser.parse_args()
    session = Session(wanted.suite, wanted.scratch, CGROUPS / wanted.cgroup, wanted.throwaway)
    session.cgroup.mkdir()
    _hand_on_controllers(session.cgroup)
    if wanted.throwaway and _APPARMOR.exists() and _APPARMOR.read_text() == "Y\n":
        subprocess.run(("apparmor_parser", "--replace"), input=_PROFILE, text=True, check=True, timeout=60)
    try:
        verdicts = play(session, wanted.runtime, wanted.program, wanted.jobs)
    finally:
        _remove(session.cgroup)
    told: Told = {"facts": facts(wanted.runtime), "verdicts": verdicts}
    wanted.out.write_text(json.dumps(told))


def _hand_on_controllers(cgroup: Path) -> None:
    for controller in (cgroup / "cgroup.controllers").read_text().split():
        (cgroup / "cgroup.subtree_control").write_text(f"+{controller}")


if __name__ == "__main__":
    main()
