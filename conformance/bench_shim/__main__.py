"""The command line: measures in private namespaces, prints the page, and writes it with --write."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import inside
from conformance.bench_shim import report
from conformance.bench_shim.candidates import NAMES, MissingPeerError, candidates, facts
from conformance.bench_shim.driver import Place, cycle, whole
from conformance.bench_shim.events import Events
from conformance.bench_shim.memory import measure
from conformance.figures import Samples
from conformance.image import unpack_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.bench_shim.candidates import Candidate
    from conformance.bench_shim.driver import Driven

_CLIENTS = 4
#: How often the rate and the memory are taken; the whole stays below three minutes.
_RATES, _MEMORIES = 3, 3
#: Containers of one pod.
_POD = 10
#: Seconds after a shim's end in which its last event may still come.
_LATE = 2.0


class Bench:
    """One run; ``samples`` has every figure by section, candidate and measure."""

    def __init__(self, top: Path, wanted: argparse.Namespace) -> None:
        self._wanted = wanted
        self.candidates = [
            one for one in candidates() if one.name in wanted.candidates or not wanted.candidates
        ]
        self.facts = facts(self.candidates)
        unpack_root(top / "rootfs")
        self.events = Events(top / "events.sock")
        self._places = {one.name: Place(top, one) for one in self.candidates}
        self.samples = Samples()

    def _note(self, section: str, candidate: Candidate, figures: dict[str, float]) -> None:
        self.samples.note(section, candidate.name, figures)

    def _in_turn(self, rounds: int, what: Callable[[Candidate, Place], None]) -> None:
        for _ in range(rounds):
            for candidate in self.candidates:
                what(candidate, self._places[candidate.name])

    def run(self) -> None:
        """Every part, or the one that is wanted; leaves no cgroup."""
        parts: dict[str, Callable[[], None]] = {
            "cold": lambda: self._in_turn(1, self._cold),
            "steps": lambda: self._in_turn(self._wanted.rounds, self._steps),
            "rate": lambda: self._in_turn(_RATES, self._rate),
            "events": lambda: self._in_turn(1, self._events),
            "memory": self._memory,
        }
        try:
            for name, measured in parts.items():
                if self._wanted.only in {None, name}:
                    measured()
        finally:
            for place in self._places.values():
                place.clear()

    def _cold(self, candidate: Candidate, place: Place) -> None:
        figures = cycle(place, executes=False)
        self._note("cold", candidate, {"start": figures["start"], "whole": whole(figures)})

    def _steps(self, candidate: Candidate, place: Place) -> None:
        figures = cycle(place)
        self._note("steps", candidate, {**figures, "whole": whole(figures)})

    def _rate(self, candidate: Candidate, place: Place) -> None:
        def client() -> None:
            for _ in range(self._wanted.cycles):
                _ran(place).end()

        began = time.perf_counter()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            clients = [pool.submit(client) for _ in range(_CLIENTS)]
        took = time.perf_counter() - began
        for one in clients:
            one.result()  # raises what the client has raised
        self._note("rate", candidate, {"containers a second": _CLIENTS * self._wanted.cycles / took})

    def _events(self, candidate: Candidate, place: Place) -> None:
        ended: list[tuple[Driven, float]] = []
        for _ in range(self._wanted.shutdowns):
            one = _ran(place)
            ended.append((one, one.vanish()))
        time.sleep(_LATE)
        never = float("inf")
        lost = [one for one, end in ended if self.events.deleted.get(one.id, never) > end + _LATE]
        for one, _ in ended:
            one.remove()  # only now: `delete` may send what the shim has not
        self._note("events", candidate, {"lost": len(lost), "of": len(ended)})

    def _memory(self) -> None:
        self._in_turn(1, lambda one, place: self._idle(one, place, idles=True))
        self._in_turn(_MEMORIES - 1, lambda one, place: self._idle(one, place, idles=False))
        self._in_turn(1, lambda one, place: self._note("alone", one, measure(place, 1)))
        self._in_turn(1, lambda one, place: self._note("pod", one, measure(place, _POD, group="pod")))

    def _idle(self, candidate: Candidate, place: Place, *, idles: bool) -> None:
        self._note("memory", candidate, measure(place, self._wanted.idle, idles=idles))


def _ran(place: Place) -> Driven:
    """A container whose program has ended."""
    one = place.container("/bin/true")
    one.launch()
    one.begin()
    one.wait()
    return one


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.bench_shim", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="containers of each, step by step")
    parser.add_argument("--cycles", type=int, default=10, help="containers of each of four clients")
    parser.add_argument("--shutdowns", type=int, default=40, help="containers that are shut down at once")
    parser.add_argument("--idle", type=int, default=50, help="idle containers")
    parser.add_argument("--only", choices=("cold", "steps", "rate", "events", "memory"))
    parser.add_argument(
        "--candidates", action="append", default=[], choices=NAMES, help="only this one, may be repeated"
    )
    parser.add_argument("--write", action="store_true", help="write docs/bench-shim.*")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.write and (wanted.only or wanted.candidates):
        parser.error("--write needs every part of every candidate")
    return wanted


def main() -> int:
    """Gives the exit status."""
    wanted = _arguments()
    if not wanted.inside:
        return inside.run(sys.executable, "-m", "conformance.bench_shim", "--inside", *sys.argv[1:])
    try:
        with tempfile.TemporaryDirectory(dir="/run") as top:
            bench = Bench(Path(top), wanted)
            bench.run()
    except MissingPeerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return _tell(bench, wanted)


def _tell(bench: Bench, wanted: argparse.Namespace) -> int:
    text = json.dumps({"facts": bench.facts, "sections": bench.samples.summaries()}, indent=1) + "\n"
    if wanted.only or wanted.candidates:
        sys.stdout.write(text)
        return 0
    page = report.render(text)
    sys.stdout.write(page)
    if wanted.write:
        report.FILE.write_text(text)
        report.PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
