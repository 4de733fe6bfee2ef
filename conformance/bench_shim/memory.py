"""What idle containers cost: memory and time of every process that a shim leaves but the container's own."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.bench_shim.driver import Driven, Place

#: Until everything that is done after a call is done, and the seconds of which the time is taken.
_SETTLE, _IDLE = 5.0, 10.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Cost:
    """The sum over some processes: kilobytes, threads, seconds of processor time."""

    pss: int = 0
    private_dirty: int = 0
    processes: int = 0
    threads: int = 0
    seconds: float = 0.0


def measure(place: Place, count: int) -> dict[str, float]:
    """Runs ``count`` containers and gives what one of them costs; a zygote that was there counts as well."""
    before = _pids() - (set() if place.candidate.runtime else _warm())
    driven: list[Driven] = []
    try:
        for _ in range(count):
            driven.append(place.container("/bin/sleep", "1000"))
            driven[-1].launch()
            driven[-1].begin()
        for one in driven:
            one.state()
        awake = _cost(_left(before, driven))
        time.sleep(_SETTLE)
        idle = _cost(_left(before, driven))
        time.sleep(_IDLE)
        later = _cost(_left(before, driven))
    finally:
        for one in driven:
            one.kill()
            one.end()
    return {
        "PSS, kB": idle.pss / count,
        "private dirty, kB": idle.private_dirty / count,
        "processes": idle.processes / count,
        "threads": idle.threads / count,
        "processor, ms a minute": max(0.0, later.seconds - idle.seconds) * 60 / _IDLE / count * 1000,
        "PSS right after a call, kB": awake.pss / count,
    }


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _warm() -> set[int]:
    """Our processes that serve all shims."""
    return {pid for pid in _pids() if _name(pid) in {"ocirun-zygote", "ocirun-nursery"}}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _left(before: set[int], driven: list[Driven]) -> set[int]:
    """What is new, but the containers' programs and ourselves."""
    return _pids() - before - {one.pid for one in driven} - {os.getpid()}


def _cost(pids: set[int]) -> Cost:
    total = Cost()
    for pid in pids:
        with contextlib.suppress(OSError):
            _add(total, Path(f"/proc/{pid}"))
    return total


def _add(total: Cost, process: Path) -> None:
    memory = dict(line.split()[:2] for line in (process / "smaps_rollup").read_text().splitlines()[1:])
    fields = (process / "stat").read_text().rpartition(") ")[2].split()
    total.pss += int(memory["Pss:"])
    total.private_dirty += int(memory["Private_Dirty:"])
    total.processes += 1
    total.threads += int(fields[17])
    total.seconds += (int(fields[11]) + int(fields[12])) * _TICK
