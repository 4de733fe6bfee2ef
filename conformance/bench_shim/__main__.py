"""The command line: measures in private namespaces, prints the page, and writes it with --write."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import inside
from conformance.bench_shim import report
from conformance.bench_shim.candidates import MissingPeerError, candidates, make_root, versions
from conformance.bench_shim.driver import Place, cycle, whole
from conformance.bench_shim.events import Events
from conformance.bench_shim.memory import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.bench_shim.candidates import Candidate

    Section = dict[str, dict[str, list[float]]]

_CLIENTS = 4


class Bench:
    """One run; ``samples`` has every figure by section, candidate and measure."""

    def __init__(self, top: Path, wanted: argparse.Namespace) -> None:
        self._wanted = wanted
        self.candidates = [
            one for one in candidates() if one.name in wanted.candidates or not wanted.candidates
        ]
        make_root(top / "rootfs")
        self.events = Events(top / "events.sock")
        self._places = {one.name: Place(top, one) for one in self.candidates}
        self.samples: dict[str, Section] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))

    def _note(self, section: str, candidate: Candidate, figures: dict[str, float]) -> None:
        for name, figure in figures.items():
            self.samples[section][candidate.name][name].append(figure)

    def _in_turn(self, rounds: int, what: Callable[[Candidate, Place], None]) -> None:
        for _ in range(rounds):
            for candidate in self.candidates:
                what(candidate, self._places[candidate.name])

    def run(self) -> None:
        """Every section, or the one that is wanted."""
        sections: dict[str, Callable[[], None]] = {
            "cold": lambda: self._in_turn(1, self._cold),
            "steps": lambda: self._in_turn(self._wanted.rounds, self._steps),
            "rate": lambda: self._in_turn(3, self._rate),
            "events": lambda: self._in_turn(1, self._events),
            "memory": lambda: self._in_turn(1, self._memory),
        }
        for name, measured in sections.items():
            if self._wanted.only in {None, name}:
                measured()

    def _cold(self, candidate: Candidate, place: Place) -> None:
        figures = cycle(place, executes=False)
        self._note("cold", candidate, {"start": figures["start"], "whole": whole(figures)})

    def _steps(self, candidate: Candidate, place: Place) -> None:
        figures = cycle(place)
        self._note("steps", candidate, {**figures, "whole": whole(figures)})

    def _rate(self, candidate: Candidate, place: Place) -> None:
        def client() -> None:
            for _ in range(self._wanted.cycles):
                one = place.container("/bin/true")
                one.launch()
                one.begin()
                one.wait()
                one.end()

        clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
        began = time.perf_counter()
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        took = time.perf_counter() - began
        self._note("rate", candidate, {"containers a second": _CLIENTS * self._wanted.cycles / took})

    def _events(self, candidate: Candidate, place: Place) -> None:
        names: set[str] = set()
        for _ in range(self._wanted.shutdowns):
            one = place.container("/bin/true")
            one.launch()
            one.begin()
            one.wait()
            one.end_abruptly()
            names.add(one.id)
        time.sleep(2)
        self._note("events", candidate, {"lost": len(names - self.events.deleted), "of": len(names)})

    def _memory(self, candidate: Candidate, place: Place) -> None:
        self._note("memory", candidate, measure(place, self._wanted.idle))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.bench_shim", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="containers of each, step by step")
    parser.add_argument("--cycles", type=int, default=10, help="containers of each of four clients")
    parser.add_argument("--shutdowns", type=int, default=40, help="containers that are shut down at once")
    parser.add_argument("--idle", type=int, default=50, help="idle containers")
    parser.add_argument("--only", choices=("cold", "steps", "rate", "events", "memory"))
    parser.add_argument("--candidates", action="append", default=[], help="only these, may be repeated")
    parser.add_argument("--write", action="store_true", help="write docs/bench-shim.*")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Gives the exit status."""
    wanted = _arguments()
    if not wanted.inside:
        namespaces = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--")
        ourselves = (sys.executable, "-m", "conformance.bench_shim", "--inside", *sys.argv[1:])
        first = (sys.executable, "-I", "-S", inside.__file__)
        return subprocess.run((*namespaces, *first, *ourselves), check=False).returncode
    try:
        with tempfile.TemporaryDirectory(dir="/run") as top:
            bench = Bench(Path(top), wanted)
            bench.run()
    except MissingPeerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return _tell(bench, whole_run=wanted.only is None and not wanted.candidates, write=wanted.write)


def _tell(bench: Bench, *, whole_run: bool, write: bool) -> int:
    sections = {
        name: {
            one: {what: report.summary(all_) for what, all_ in figures.items()}
            for one, figures in found.items()
        }
        for name, found in bench.samples.items()
    }
    text = json.dumps({"versions": versions(bench.candidates), "sections": sections}, indent=1) + "\n"
    if not whole_run:
        sys.stdout.write(text)
        return 0
    page = report.render(text)
    sys.stdout.write(page)
    if write:
        report.FILE.write_text(text)
        report.PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
