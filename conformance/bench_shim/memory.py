"""What idle containers cost: memory and time of every process that a shim leaves but the container's own."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.bench_shim.driver import Driven, Place

#: Until everything that is done after a call is done, and the seconds of which the time is taken.
_SETTLE, _IDLE = 5.0, 10.0


@dataclass(slots=True)
class Cost:
    """The sum over some processes: kilobytes and threads; ``nanoseconds`` on a processor, by pid."""

    pss: int = 0
    private_dirty: int = 0
    processes: int = 0
    threads: int = 0
    nanoseconds: dict[int, int] = field(default_factory=dict[int, int])

    def since(self, before: Cost) -> int:
        """The nanoseconds that processes which still live have run since then."""
        return sum(spent - before.nanoseconds.get(pid, 0) for pid, spent in self.nanoseconds.items())


def measure(place: Place, count: int, *, group: str = "", idles: bool = False) -> dict[str, float]:
    """Runs ``count`` containers and gives what one of them costs; a zygote that was there counts as well.

    With ``group`` they have one shim.  With ``idles`` their processor time is taken too, which takes longer.
    Raises FileNotFoundError where the kernel keeps no schedstat.
    """
    Path("/proc/self/schedstat").read_text()  # raises here, where no process looks as if it had vanished
    before = _pids() - (set() if place.candidate.runtime else _warm())
    driven = [_sleeping(place, group) for _ in range(count)]
    for one in driven:
        one.state()
    awake = cost(_left(before, driven))
    time.sleep(_SETTLE)
    idle = cost(_left(before, driven))
    figures = {
        "PSS, kB": idle.pss / count,
        "private dirty, kB": idle.private_dirty / count,
        "processes": idle.processes / count,
        "threads": idle.threads / count,
        "PSS right after a call, kB": awake.pss / count,
    }
    if idles:
        time.sleep(_IDLE)
        spent = cost(_left(before, driven)).since(idle)
        figures["processor, µs a minute"] = spent * 60 / _IDLE / count / 1000
    _end(driven, together=bool(group))
    return figures


def _sleeping(place: Place, group: str) -> Driven:
    one = place.container("/bin/sleep", "1000", group=group)
    one.launch()
    one.begin()
    return one


def _end(driven: list[Driven], *, together: bool) -> None:
    for one in driven:
        one.kill()
        if together and one is not driven[-1]:
            one.leave()
        else:
            one.end()


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


def cost(pids: set[int]) -> Cost:
    """What these processes cost together; those that are gone cost nothing."""
    total = Cost()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _add(total, pid)
    return total


def _add(total: Cost, pid: int) -> None:
    process = Path(f"/proc/{pid}")
    memory = dict(line.split()[:2] for line in (process / "smaps_rollup").read_text().splitlines()[1:])
    tasks = list((process / "task").iterdir())
    # The ticks of /proc/PID/stat are too coarse: an idle process runs for less than one in ten seconds.
    spent = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    total.pss += int(memory["Pss:"])
    total.private_dirty += int(memory["Private_Dirty:"])
    total.processes += 1
    total.threads += len(tasks)
    total.nanoseconds[pid] = spent
