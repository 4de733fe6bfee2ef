"""The command line: measures in private namespaces, prints the page, and writes it with --write."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import default_profile, inside, machine
from conformance.bench import report, same_plan, traces
from conformance.bench.bundles import write_bound_files
from conformance.bench.cycle import (
    COMMANDS,
    OURS,
    MissingPeerError,
    clear,
    cycle,
    facts,
    places,
    programs,
)
from conformance.bench.spawn import CommandFailedError, Spawner
from conformance.figures import Samples
from conformance.image import unpack_root
from conformance.peers import PeerError

if TYPE_CHECKING:
    from conformance.bench.cycle import Place
    from conformance.bench.spawn import Cost

OCIRUN = Path(sys.executable).parent / "ocirun"
_REPOSITORY = Path(__file__).parents[2]
#: Rounds that are not counted; rounds below strace, where counts hardly differ; and below strace for phases.
#: A hot command that finds nothing to do.
_IDLE = (str(OCIRUN), "--root", "/nonexistent", "delete", "--force", "nobody")
_WARM, _COUNTED, _PHASED = 2, 3, 10


class Bench:
    """One run; ``samples`` has every figure by section, candidate and measure, ``facts`` where it was."""

    def __init__(self, top: Path, rounds: int) -> None:
        found = programs(OCIRUN)
        self._rounds = rounds
        self._log = top / "trace"
        self._spawner = Spawner(top)
        self._strace = traces.strace()
        self._places = places(found, top)
        self.samples = Samples()
        self.facts = {**facts(found, commit()), **self._switches(top / "rootfs")}
        self._python = self._interpreter()

    def _switches(self, rootfs: Path) -> dict[str, str]:
        """Writes the bundles; with the default seccomp profile, for all, as soon as ours knows seccomp."""
        done = subprocess.run((OCIRUN, "features"), capture_output=True, text=True, check=True)
        seccomp: bool = json.loads(done.stdout)["linux"]["seccomp"]["enabled"]
        unpack_root(rootfs)
        write_bound_files(rootfs.parent)
        for place in self._places:
            place.write(rootfs, seccomp=seccomp)
        told = "the default profile, in the Docker-sized bundle" if seccomp else "none, ocirun has none yet"
        return {"seccomp": told}

    def _interpreter(self) -> str:
        """The python3 that `ocirun` executes, else the one of the system; notes which way it is."""
        executed = traces.executed(self._strace, self._log, _IDLE)
        apart = len(executed) > 1
        self.facts["interpreter"] = "executed by the launcher" if apart else "a part of the launcher"
        return executed[-1] if apart else shutil.which("python3") or sys.executable

    def run(self) -> None:
        """Every part; the candidates in turn in each round."""
        for number in range(_WARM + self._rounds):
            for place in self._places:
                self._measure(place, counts=number >= _WARM)
            self._start_up(counts=number >= _WARM)
        for _ in range(_COUNTED):
            for place in self._places:
                self._count(place)
        for place in self._places:
            if place.candidate == OURS:
                self._compare(place)
        self.facts["load average after"] = machine.load()

    def _measure(self, place: Place, *, counts: bool) -> None:
        costs, memory = cycle(place, self._spawner)
        if not counts:
            return
        for measure, figures in _by_measure(costs).items():
            self.samples.note(f"{place.section} {measure}", place.candidate, figures)
        self.samples.note(f"{place.section} init", place.candidate, memory)
        if costs["run"].counted < 0:
            self.facts["instructions"] = "no hardware counters here"

    def _start_up(self, *, counts: bool) -> None:
        """What is the least: an empty program, an empty Python, a command that does nothing."""
        commands = {
            "busybox true": ("/bin/busybox", "true"),
            "python3 -I -S -c pass": (self._python, "-I", "-S", "-c", "pass"),
            report.IDLE: _IDLE,
        }
        costs = {name: self._spawner.run(*words) for name, words in commands.items()}
        if counts:
            for measure, figures in _by_measure(costs).items():
                self.samples.note(f"start-up {measure}", OURS, figures)

    def _count(self, place: Place) -> None:
        counted: dict[str, float] = {}
        for command in COMMANDS:
            if command == "delete":
                place.await_end()
            counted[command] = traces.count(self._strace, self._log, place.words(command))
        self.samples.note(f"{place.section} calls", place.candidate, counted)

    def _compare(self, place: Place) -> None:
        """The plan of a container, and the phases of `run` and, in that container, of `exec`."""
        plan = same_plan.compare(place, self._strace, self._log)
        self.samples.note(f"{place.section} plan", OURS, plan)
        self._spawner.run(*place.words("start"))
        self._phases(place, "exec")
        self._spawner.run(*place.words("kill"))
        place.await_end()
        self._spawner.run(*place.words("delete"))
        self._phases(place, "run")

    def _phases(self, place: Place, command: str) -> None:
        for _ in range(_PHASED):
            phases = traces.phases(self._strace, self._log, place.words(command))
            self.samples.note(f"{place.section} phases of {command}", OURS, phases)


def _by_measure(costs: dict[str, Cost]) -> dict[str, dict[str, float]]:
    """The costs of the commands by what was measured."""
    measures = {
        "time": {command: cost.milliseconds for command, cost in costs.items()},
        "processor": {command: cost.processor for command, cost in costs.items()},
        "peak": {command: float(cost.peak) for command, cost in costs.items()},
        "faults": {command: float(cost.faults) for command, cost in costs.items()},
    }
    if all(cost.counted >= 0 for cost in costs.values()):
        measures["instructions"] = {command: cost.counted / 1000 for command, cost in costs.items()}
    return measures


def commit() -> str:
    """The commit of this checkout, with a mark when something is changed in it."""
    words = ("git", "describe", "--always", "--dirty", "--exclude=*")
    done = subprocess.run(words, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _fetch() -> None:
    """Has all that comes from elsewhere: inside is no network.  Raises MissingPeerError and PeerError."""
    programs(OCIRUN)
    traces.strace()
    default_profile.fetch()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="containers of each candidate and kind")
    parser.add_argument("--write", action="store_true", help="write docs/bench.*")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Gives the exit status."""
    wanted = _arguments()
    try:
        if not wanted.inside:
            _fetch()
            return inside.run(sys.executable, "-m", "conformance.bench", "--inside", *sys.argv[1:])
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/run") as directory:
            top = Path(directory)
            try:
                bench = Bench(top, wanted.rounds)
                bench.run()
            finally:
                clear(top)
    except (MissingPeerError, PeerError, CommandFailedError, traces.TraceError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return _tell(bench, write=wanted.write)


def _tell(bench: Bench, *, write: bool) -> int:
    found: dict[str, Any] = {"facts": bench.facts, "sections": bench.samples.summaries(10)}
    text = json.dumps(found, indent=1) + "\n"
    page = report.render(text)
    sys.stdout.write(page)
    if write:
        report.FILE.write_text(text)
        report.PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
